"""A member's directory is made whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.commandline import Failure
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.membership.members import Membership
from etcdpy.mvcc.store import Store
from etcdpy.raft.types import ConfState
from etcdpy.storage.engine import Engine
from etcdpy.utl.making import Place
from etcdpy.utl.snapshot import founding_of, restore_file
from tests.support.backend_file import MemoryView, add_checksum, export_file
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from pathlib import Path

FOUNDING = founding_of("m1", "m1=http://127.0.0.1:1,m2=http://127.0.0.1:2", "token", "http://127.0.0.1:1")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    backend = MemoryBackend()
    store = Store.open(backend)
    for number in range(20):
        store.put(b"key %d" % number, b"value")
    path = export_file(MemoryView(backend, 1000, 7, ConfState((1, 2, 3))), tmp_path / "saved.db")
    add_checksum(path)
    return path


def test_the_new_cluster_begins_behind_the_entries_that_name_its_members(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    assert restore_file(saved, target, None, FOUNDING) == 21
    engine = Engine.open(target)
    hard_state, group = engine.log.initial_state()
    assert (engine.applied_index, engine.applied_term, engine.log.first_index(), engine.is_new) == (2, 1, 3, False)
    assert (hard_state.term, hard_state.commit) == (1, 2)
    assert group.voters == tuple(member.id for member in FOUNDING.members)
    membership = Membership(engine.state)
    membership.restore()
    assert membership.members == list(FOUNDING.members)
    assert (membership.own_id, membership.cluster_id) == (FOUNDING.own_id, FOUNDING.cluster_id)
    assert len(Store.open(engine.state).index.live) == 20
    engine.close()
    assert sorted(path.name for path in target.iterdir()) == ["member"]
    assert target.stat().st_mode & 0o777 == 0o700


def test_an_empty_directory_that_is_there_is_used(saved: Path, tmp_path: Path) -> None:
    target, logs = tmp_path / "mounted", tmp_path / "logs"
    target.mkdir()
    inode = target.stat().st_ino
    restore_file(saved, target, logs, FOUNDING)
    assert target.stat().st_ino == inode, "it may be a mount point"
    assert [path.name for path in logs.iterdir()] == ["log"]
    Engine.open(target, wal_dir=logs).close()


@pytest.mark.parametrize("existed", [True, False])
def test_what_fails_leaves_what_was_there(saved: Path, tmp_path: Path, existed: bool) -> None:
    content = bytearray(saved.read_bytes())
    content[3 * 4096 : 3 * 4096 + 100] = bytes(100)
    saved.write_bytes(content)
    target, logs = tmp_path / "data", tmp_path / "logs"
    if existed:
        target.mkdir()
    with pytest.raises(DamagedFileError):
        restore_file(saved, target, logs, FOUNDING, skip_hash_check=True)
    with pytest.raises(Failure, match="expected sha256"):
        restore_file(saved, target, logs, FOUNDING)
    assert target.exists() == existed
    assert not existed or list(target.iterdir()) == []
    assert not logs.exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="not empty"):
        Place(tmp_path).check_free()
    with pytest.raises(Failure, match="not empty or could not be read"):
        Place(tmp_path / "file").check_free()
    with pytest.raises(Failure, match=r"wal-dir .* exists"):
        Place(tmp_path / "new", tmp_path).check_free()
    Place(tmp_path / "new", tmp_path / "logs").check_free()
