from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.commandline import Exit
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.engine import Engine
from etcdpy.utl.__main__ import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The directory of a stopped member, with 4 MiB in it of which little is still wanted."""
    path = tmp_path / "data"
    engine = Engine.open(path)
    engine.bootstrap(ConfState(voters=(1,)), HardState(term=1, vote=1, commit=0))
    for writing in (True, False):
        for number in range(64):
            key = b"r%d" % number
            engine.state.put(key, bytes(65536)) if writing else engine.state.delete(key)
        engine.state.put(b"rkept", b"kept")
        engine.take_job(None, ()).run()
    engine.close()
    return path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("etcdutl version: 3.7.")


def test_defrag_keeps_what_counts(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["defrag", "--data-dir", str(data_dir)]) == Exit.OK, capsys.readouterr().err
    engine = Engine.open(data_dir)
    assert engine.state.get(b"rkept") == b"kept"
    assert engine.state.get(b"r1") is None
    engine.close()


def test_defrag_needs_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["defrag"]) == Exit.ERROR
    assert capsys.readouterr().err.startswith('Error: required flag(s) "data-dir" not set\n')


def test_defrag_makes_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    assert run(["defrag", "--data-dir", str(absent)]) == Exit.ERROR
    assert capsys.readouterr().err.startswith(f"Error: Failed to defragment etcd data[{absent}] (stat ")
    assert not absent.exists()


def test_defrag_waits_for_the_lock_only_so_long(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine.open(data_dir)
    begun = time.monotonic()
    assert run(["--timeout=10ms", "defrag", "--data-dir", str(data_dir)]) == Exit.ERROR
    assert time.monotonic() - begun < 2
    engine.close()
    assert "another process holds the data directory" in capsys.readouterr().err


def test_defrag_does_not_wait_for_ever_on_another_version(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data_dir / "member" / "FORMAT").write_text("etcdpy data 99\n")
    assert run(["--timeout=0", "defrag", "--data-dir", str(data_dir)]) == Exit.ERROR
    assert "99" in capsys.readouterr().err
