"""The overlay: what is seen at each stage of a write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import DamagedError, StorageError
from tests.support.storage import in_tables, new_engine, state_key, value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_engine(tmp_path / "data")
    yield engine
    engine.close()


def keys(engine: Engine, *, reverse: bool = False) -> list[bytes]:
    return [key for key, _ in engine.state.scan(b"r", b"s", reverse=reverse)]


def test_seen_at_every_stage(engine: Engine) -> None:
    state = engine.state
    state.put(b"ra", b"1")
    state.put(b"rb", b"1")
    state.put(b"rc", b"1")
    first = engine.take_job(None, ())
    state.put(b"ra", b"2")
    state.delete(b"rb")

    def check() -> None:
        assert [state.get(key) for key in (b"ra", b"rb", b"rc", b"rd")] == [b"2", None, b"1", None]
        assert list(state.scan(b"r", b"s")) == [(b"ra", b"2"), (b"rc", b"1")]
        assert list(state.scan(b"r", b"s", reverse=True)) == [(b"rc", b"1"), (b"ra", b"2")]

    check()
    first.run()
    check()
    engine._finish(first)
    check()
    second = engine.take_job(None, ())
    check()
    second.run()
    engine._finish(second)
    check()
    assert not engine.has_open_writes


def test_two_jobs_on_their_way(engine: Engine) -> None:
    state = engine.state
    jobs = []
    for number in (b"1", b"2", b"3"):
        state.put(b"ra", number)
        jobs.append(engine.take_job(None, ()))
    assert state.get(b"ra") == b"3"
    for job in jobs:
        job.run()
        engine._finish(job)
        assert state.get(b"ra") == b"3"
        assert list(state.scan(b"r", b"s")) == [(b"ra", b"3")]


def test_scan_is_a_view_of_the_moment_it_was_asked_for(engine: Engine) -> None:
    state = engine.state
    for number in range(20):
        state.put(b"r%02d" % number, b"old")
    job = engine.take_job(None, ())
    views = [state.scan(b"r", b"s"), state.scan(b"r", b"s", reverse=True)]
    job.run()
    engine._finish(job)
    views += [state.scan(b"r", b"s"), state.scan(b"r", b"s", reverse=True)]
    for number in range(0, 40, 2):
        state.put(b"r%02d" % number, b"new")
    state.delete(b"r01")
    after = engine.take_job(None, ())
    after.run()
    engine._finish(after)
    expected = [(b"r%02d" % number, b"old") for number in range(20)]
    for position, view in enumerate(views):
        assert list(view) == (expected if position % 2 == 0 else expected[::-1])
    assert len(keys(engine)) == 29


def test_bounds_and_order_of_a_merge(engine: Engine) -> None:
    state = engine.state
    for key in (b"rb", b"rd", b"rf"):
        state.put(key, b"stored")
    job = engine.take_job(None, ())
    job.run()
    engine._finish(job)
    for key in (b"ra", b"rc", b"re", b"rg"):
        state.put(key, b"open")
    state.delete(b"rd")
    state.put(b"rf", b"newer")
    assert keys(engine) == [b"ra", b"rb", b"rc", b"re", b"rf", b"rg"]
    assert keys(engine, reverse=True) == [b"rg", b"rf", b"re", b"rc", b"rb", b"ra"]
    assert [key for key, _ in state.scan(b"rb", b"rf")] == [b"rb", b"rc", b"re"]
    assert [key for key, _ in state.scan(b"rb", b"rf", reverse=True)] == [b"re", b"rc", b"rb"]
    assert list(state.scan(b"x", b"y")) == []


def test_an_unfinished_scan_can_be_closed(engine: Engine) -> None:
    for number in range(100):
        engine.state.put(b"r%02d" % number, b"")
    job = engine.take_job(None, ())
    job.run()
    engine._finish(job)
    for touch in (False, True):
        view = engine.state.scan(b"r", b"s")
        if touch:
            next(view)
        view.close()  # type: ignore[attr-defined]


def test_a_failed_write_stays_visible_and_ends_writing(engine: Engine) -> None:
    engine.state.put(b"ra", b"1")
    job = engine.take_job(None, ())

    class Failing:
        def write(self) -> None:
            raise OSError(28, "No space left on device")

    job.state_batch = Failing()
    job.run()
    assert str(job.error).endswith("state: No space left on device")
    engine._finish(job)
    assert engine.state.get(b"ra") == b"1"
    engine.state.put(b"rb", b"2")
    assert engine.failed is job.error
    with pytest.raises(StorageError, match="No space left"):
        engine.take_job(None, ())


def test_damage_behind_which_nothing_comes_is_named(tmp_path: Path) -> None:
    """The newest revisions stand in the last block of all; a scan that met damage there ended as if they had never been
    written."""
    path = tmp_path / "data"
    table = in_tables(path, 300)
    content = bytearray(table.read_bytes())
    content[content.rindex(value(300))] ^= 1
    table.write_bytes(content)
    engine = Engine.open(path)
    try:
        for reverse in (False, True):
            with pytest.raises(DamagedError, match="block checksum mismatch"):
                list(engine.state.scan(b"r", b"s", reverse=reverse))
        with pytest.raises(DamagedError):
            list(engine.state.scan(state_key(299), b"s"))
        assert list(engine.state.scan(b"s", b"t")) == []
    finally:
        engine.close()
