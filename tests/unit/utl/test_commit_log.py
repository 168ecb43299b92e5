"""`etcdpyutl commit-log`: a last survivor counts its whole log as committed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from etcdpy.raft.entry import Entry
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server.force_new import force_new_cluster
from etcdpy.storage.engine import Engine
from etcdpy.utl.__main__ import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GROUP = ConfState((1, 2, 3))


def stopped(path: Path, *, commit: int, applied: int) -> str:
    """A member with four entries of term 2, in term 3 by now."""
    engine = Engine.open(path)
    engine.bootstrap(
        GROUP, HardState(3, 1, commit), [Entry(b"data %d" % index, None, 2, index) for index in range(1, 5)]
    )
    if applied:
        engine.state.put(b"rkey", b"applied")
        engine.set_applied(applied, 2)
        engine.take_job(None, ()).run()
    engine.close()
    return f"--data-dir={path}"


def test_what_is_not_known_to_be_committed_survives_a_forced_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = stopped(tmp_path, commit=1, applied=2)
    for left in (2, 0):  # a second time there is nothing to do
        assert run(["commit-log", data_dir, "-w", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"term": 3, "commit": 4, "entries": left}
    engine = Engine.open(tmp_path)
    force_new_cluster(engine, 7, 1)
    assert [each.data for each in engine.log.entries(1, 5, 1 << 20)] == [b"data %d" % index for index in range(1, 5)]
    engine.close()


def test_it_waits_for_no_running_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = stopped(tmp_path, commit=1, applied=0)
    engine = Engine.open(tmp_path)
    assert run(["--timeout=1ms", "commit-log", data_dir, f"--wal-dir={tmp_path / 'member' / 'raft'}"]) == 1
    assert "another process holds the data directory" in capsys.readouterr().err
    engine.close()
    assert run(["commit-log", f"--data-dir={tmp_path / 'absent'}"]) == 1
    assert run(["commit-log"]) == 1
