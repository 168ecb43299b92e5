"""A member's storage driven by hand: numbered batches, so that what is found again can be told to be a prefix."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from etcdpy.raft.entry import Entry
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.engine import Engine
from etcdpy.storage.log_database import open_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from etcdpy.storage.job import DiskJob
    from etcdpy.storage.new_state import Installation, NewState


def value(index: int, size: int = 40) -> bytes:
    """What entry `index` carries; tells damage and mix-ups."""
    return (b"%08d." % index) * (size // 9 + 1)


def state_key(index: int) -> bytes:
    return b"r" + index.to_bytes(8, "big")


def edit_log(path: Path, changes: Mapping[bytes, bytes | None]) -> None:
    """Change records of a stopped member's raft log by hand; None removes one."""
    database = open_log(path / "member" / "log")
    batch = database.write_batch(sync=True)
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    batch.write()
    database.close()


def run(engine: Engine, job: DiskJob) -> None:
    job.run()
    engine._finish(job)
    if job.error is not None:
        raise job.error


def new_engine(path: Path, **options: object) -> Engine:
    engine = Engine.open(path, **options)  # type: ignore[arg-type]
    if engine.is_new:
        engine.bootstrap(ConfState((1,)), HardState(1, 1, 0))
    return engine


def write_batch(engine: Engine, count: int, *, size: int = 40, apply: bool = True, term: int = 1) -> None:
    """Append entries, one synced job; then apply them, which travels with the next job."""
    first = engine.log.last_index() + 1
    entries = [Entry(value(index, size), None, term, index) for index in range(first, first + count)]
    run(engine, engine.take_job(HardState(term, 1, first - 1), entries, must_sync=True))
    if apply:
        apply_to(engine, first + count - 1)


def apply_to(engine: Engine, last: int) -> None:
    for entry in engine.log.entries(engine.applied_index + 1, last + 1, 1 << 40):
        engine.state.put(state_key(entry.index), entry.data)
        engine.set_applied(entry.index, entry.term)


def in_tables(path: Path, count: int) -> Path:
    """Make a member of so many entries with nothing in write-ahead files; returns its newest table of the state."""
    engine = new_engine(path)
    write_batch(engine, count)
    engine.close()
    new_engine(path).close()
    return max((path / "member" / "state").glob("*.ldb"))


def flush(engine: Engine) -> None:
    """Write what is applied."""
    run(engine, engine.take_job(None, ()))


def check_prefix(engine: Engine, *, size: int = 40) -> tuple[int, int]:
    """Everything that is there is what was written, from the first on. Returns (applied index, last index)."""
    first, last = engine.log.first_index(), engine.log.last_index()
    entries = engine.log.entries(first, last + 1, 1 << 40) if last >= first else []
    assert [entry.index for entry in entries] == list(range(first, last + 1))
    assert all(entry.data == value(entry.index, size) for entry in entries)
    applied = list(engine.state.scan(b"r", b"s"))
    expected = [(state_key(index), value(index, size)) for index in range(1, engine.applied_index + 1)]
    assert applied == expected, "state holds exactly what its applied index says"
    assert engine.applied_index <= last
    return engine.applied_index, last


def copy_dir(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("LOCK"))
    return target


def fill(new_state: NewState, index: int, *, size: int = 40, term: int = 1) -> NewState:
    """What write_batch would have made of entries 1 to `index`, come from another member."""
    for number in range(1, index + 1):
        new_state.put(state_key(number), value(number, size))
        if new_state.should_flush:
            new_state.flush()()
    new_state.finish(index, term, ConfState((1, 2)))()
    return new_state


def begin_install(engine: Engine, new_state: NewState) -> Installation:
    """An installation that has not run. The engine's thread is not there any more."""
    installation: list[Installation] = []
    engine._thread.submit = lambda job, _finish, _loop: installation.append(job)  # type: ignore[method-assign,assignment,arg-type]
    hard_state = HardState(new_state.term, 0, new_state.index)
    engine.install(new_state, hard_state, lambda _done: None, None)  # type: ignore[arg-type]
    return installation[0]


def install(engine: Engine, index: int, *, size: int = 40, term: int = 1) -> None:
    """Receive and install, on this thread."""
    installation = begin_install(engine, fill(engine.new_state(), index, size=size, term=term))
    installation.run()
    engine._installed(installation)
    if installation.error is not None:
        raise installation.error
    for retired in engine.take_retired():
        retired.remove()
