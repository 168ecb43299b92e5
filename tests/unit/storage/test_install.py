"""A state that comes from another member: built beside, put in place or not at all, whatever happens on the way."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.raft.entry import Entry
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage import defragment
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import DamagedError, StorageError
from etcdpy.storage.meta import APPLIED_KEY, IDENTITY_KEY
from tests.support.storage import (
    apply_to,
    begin_install,
    check_prefix,
    copy_dir,
    fill,
    flush,
    install,
    new_engine,
    run,
    state_key,
    value,
    write_batch,
)
from tests.unit.storage.test_recovery import edit, refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.storage.new_state import Installation


@pytest.fixture(autouse=True)
def _state_goes_with_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests follow single records to the disk."""
    monkeypatch.setattr(limits, "STATE_BATCH_RECORDS", 1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_engine(tmp_path / "data")
    yield engine
    engine.close()


def names(path: Path) -> set[str]:
    return {file.name for file in (path / "member").iterdir()} - {"LOCK"}


WHOLE = {"FORMAT", "log", "state"}


def opens(path: Path, applied: int, last: int) -> None:
    """Opens as that, leaves nothing beside it, and goes on from there."""
    engine = Engine.open(path)
    try:
        assert check_prefix(engine) == (applied, last)
        assert names(path) == WHOLE
        if applied < last:
            apply_to(engine, last)
        write_batch(engine, 2, term=9)
    finally:
        engine.close()
    again = Engine.open(path)
    assert again.log.last_index() == last + 2
    again.close()


# --- views ---


def test_a_view_stays_as_it_was(engine: Engine) -> None:
    write_batch(engine, 5)
    flush(engine)
    write_batch(engine, 5)
    engine.state.delete(state_key(3))
    view = engine.frozen_view()
    before = list(engine.state.scan(b"r", b"s"))
    assert len(before) == 9
    write_batch(engine, 5)
    engine.state.put(state_key(1), b"new")
    flush(engine)
    assert list(view.scan(b"r", b"s")) == before
    assert list(view.scan(b"r", b"s", reverse=True)) == before[::-1]
    assert list(view.scan(state_key(2), state_key(7))) == before[1:5]
    assert [view.get(state_key(index)) for index in (1, 3, 10, 11)] == [value(1), None, value(10), None]
    assert (view.applied_index, view.applied_term, view.conf_state) == (10, 1, ConfState((1,)))
    view.close()


def test_the_logs_snapshot_is_of_what_is_applied(engine: Engine) -> None:
    write_batch(engine, 5)
    write_batch(engine, 5, apply=False)
    metadata = engine.log.snapshot().metadata
    assert (metadata.index, metadata.term, list(metadata.conf_state.voters)) == (5, 1, [1])


# --- filling ---


def test_a_later_value_counts_whatever_the_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come in order waits for LevelDB, and opens it where it is much."""
    monkeypatch.setattr(limits, "NEW_STATE_BATCH_RECORDS", 40)
    new_state = engine.new_state()
    order = [*range(100), 50, *range(100, 120), *range(30, 80), *range(200, 300), 70]
    for turn, number in enumerate(order):
        new_state.put(state_key(number), b"%d" % turn)
        if new_state.should_flush:
            new_state.flush()()
    new_state.finish(7, 3, ConfState((1,)))()
    expected = {state_key(number): b"%d" % turn for turn, number in enumerate(order)}
    assert dict(new_state.backend.scan(b"r", b"s")) == expected
    new_state.discard()
    assert not new_state.path.exists()


# --- installing ---


@pytest.mark.parametrize(("before", "index"), [(0, 50), (10, 50), (60, 50)])
def test_the_new_state_is_all_there_is(tmp_path: Path, before: int, index: int) -> None:
    """For a member that has nothing, that lags, and whose log went another way."""
    path = tmp_path / "data"
    engine = new_engine(path)
    if before:
        write_batch(engine, before, apply=False)
        apply_to(engine, min(before, 5))
    install(engine, index, term=3)
    for _ in range(2):
        assert check_prefix(engine) == (index, index)
        assert (engine.log.first_index(), engine.log.term(index)) == (index + 1, 3)
        assert engine.log.initial_state() == (HardState(3, 0, index), ConfState((1, 2)))
        assert engine.applied_term == 3
        assert len(names(path)) == 3
        engine.close()
        engine = Engine.open(path)
        assert names(path) == WHOLE
    write_batch(engine, 5, term=3)
    flush(engine)
    stored = list(engine._log_database.iterator(stop=b"meta/", include_value=False))
    assert stored == [(index + 1).to_bytes(8, "big")], "one record for what was stored together"
    engine.close()
    opens(path, index + 5, index + 5)


def test_a_far_ahead_snapshot_leaves_no_long_walk_of_deletions(engine: Engine) -> None:
    write_batch(engine, 30)
    new_state = engine.new_state()
    new_state.finish(10_000_000, 2, ConfState((1,)))()
    installation = begin_install(engine, new_state)
    installation.run()
    engine._installed(installation)
    run(engine, engine.take_job(None, ()))
    assert not engine.log.has_truncated
    assert engine.log.start_index == 10_000_000


def test_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    engine = new_engine(path)
    for index in (10, 30, 50):
        install(engine, index)
        write_batch(engine, 5)
        assert check_prefix(engine) == (index + 5, index + 5)
    engine.close()
    opens(path, 55, 55)


def test_reads_see_the_old_state_until_the_new_one_is_there(tmp_path: Path) -> None:
    async def play() -> None:
        engine = new_engine(tmp_path / "data")
        write_batch(engine, 10)
        new_state = fill(engine.new_state(), 40)
        done: asyncio.Future[Installation] = asyncio.get_running_loop().create_future()
        engine.install(new_state, HardState(1, 0, 40), done.set_result, asyncio.get_running_loop())
        assert engine.installing
        assert not engine.should_write_early
        assert check_prefix_of_state(engine) == 10
        old = engine.state.scan(b"r", b"s")
        next(old)
        assert (await asyncio.wait_for(done, 10)).error is None
        assert not engine.installing
        assert len(list(old)) == 9, "who read the old state reads on"
        for retired in engine.take_retired():
            retired.remove()
        assert check_prefix(engine) == (40, 40)
        assert engine.state_bytes == engine.refresh_sizes() > 0
        engine.close()

    asyncio.run(play())


def check_prefix_of_state(engine: Engine) -> int:
    return len(list(engine.state.scan(b"r", b"s")))


def test_a_defragmentation_ends_before_the_state_it_works_on_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LevelDB does not survive to be closed under a thread that compacts it."""
    monkeypatch.setattr(defragment, "slices", lambda _database, _bytes: [(b"", b"\xff")] * 1_000_000)

    async def play() -> None:
        engine = new_engine(tmp_path / "data")
        write_batch(engine, 10)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[StorageError | None] = loop.create_future()
        engine.defragment(loop, ended.set_result)
        done: asyncio.Future[Installation] = loop.create_future()
        engine.install(fill(engine.new_state(), 40), HardState(1, 0, 40), done.set_result, loop)
        assert (await asyncio.wait_for(done, 10)).error is None
        for retired in engine.take_retired():
            await asyncio.to_thread(retired.remove)
        assert await asyncio.wait_for(ended, 10) is None
        assert not engine.defragmenting
        engine.close()

    asyncio.run(play())


def test_closing_while_it_is_put_in_place(tmp_path: Path) -> None:
    async def play() -> None:
        engine = new_engine(tmp_path / "data")
        write_batch(engine, 10)
        new_state = fill(engine.new_state(), 40)
        engine.install(new_state, HardState(1, 0, 40), lambda _done: None, asyncio.get_running_loop())
        engine.close()
        opens(tmp_path / "data", 40, 40)

    asyncio.run(play())


def test_a_discarded_state_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    write_batch(engine, 10)
    new_state = fill(engine.new_state(), 40)
    assert len(list(new_state.backend.scan(b"r", b"s"))) == 40
    assert len(names(tmp_path / "data")) == 4
    new_state.discard()
    assert names(tmp_path / "data") == WHOLE
    assert check_prefix(engine) == (10, 10)


def test_large_states_go_in_batches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NEW_STATE_BATCH_RECORDS", 7)
    install(engine, 100)
    assert check_prefix(engine) == (100, 100)


# --- crashes ---


@pytest.mark.parametrize("before", [0, 10, 60])
def test_a_crash_at_any_point(tmp_path: Path, before: int) -> None:
    """Before the log's batch all is as if nothing had come; from it on the new state counts."""
    path = tmp_path / "data"
    engine = new_engine(path)
    if before:
        write_batch(engine, before, apply=False)
        apply_to(engine, min(before, 5))
        flush(engine)
    old = min(before, 5), before
    new_state = engine.new_state()
    for index in range(1, 51):
        new_state.put(state_key(index), value(index))
    opens(copy_dir(path, tmp_path / "created"), *old)
    new_state.flush()()
    opens(copy_dir(path, tmp_path / "flushed"), *old)
    new_state.finish(50, 2, ConfState((1, 2)))()
    opens(copy_dir(path, tmp_path / "finished"), *old)
    installation = begin_install(engine, new_state)
    installation.run()
    opens(copy_dir(path, tmp_path / "committed"), 50, 50)
    engine._installed(installation)
    write_batch(engine, 5, term=2)
    flush(engine)
    opens(copy_dir(path, tmp_path / "worked on"), 55, 55)
    (retired,) = engine.take_retired()
    retired.close()
    retired.path.rename(path / "member" / "tmp-retired-state-1")
    opens(copy_dir(path, tmp_path / "removing"), 55, 55)
    engine.close()
    opens(path, 55, 55)


@pytest.mark.parametrize("step", ["retired", "renamed"])
def test_a_crash_while_a_start_puts_it_in_place(tmp_path: Path, step: str) -> None:
    path = installed(tmp_path)
    (path / "member" / "state").rename(path / "member" / "tmp-retired-state-1")
    if step == "renamed":
        received(path).rename(path / "member" / "state")
    opens(path, 50, 50)


def installed(tmp_path: Path) -> Path:
    """A member that was killed right after the log's batch."""
    path = tmp_path / "data"
    engine = new_engine(path)
    write_batch(engine, 10)
    flush(engine)
    begin_install(engine, fill(engine.new_state(), 50, term=2)).run()
    copy = copy_dir(path, tmp_path / "copy")
    engine._installation = None
    engine.close()
    return copy


def received(path: Path) -> Path:
    (found,) = (path / "member").glob("state.*")
    return found


def test_what_a_refused_start_found_is_left_alone(tmp_path: Path) -> None:
    path = installed(tmp_path)
    edit(received(path), {APPLIED_KEY: b"?"})
    found = names(path)
    refused(path, DamagedError, "mapplied", received(path).name)
    assert names(path) == found


def test_an_installed_state_that_was_lost_is_not_replaced_by_the_old_one(tmp_path: Path) -> None:
    path = installed(tmp_path)
    shutil.rmtree(received(path))
    refused(path, DamagedError, "not made together")


def test_another_state_under_its_name_does_not_count(tmp_path: Path) -> None:
    path = installed(tmp_path)
    edit(received(path), {IDENTITY_KEY: b"x" * 16})
    refused(path, DamagedError, "not made together")


def test_leftovers_are_removed_at_start_and_not_before_it_is_sure(tmp_path: Path) -> None:
    path = tmp_path / "data"
    engine = new_engine(path)
    write_batch(engine, 10)
    fill(engine.new_state(), 20).database.close()
    engine.temporary_path("snapshot").write_bytes(b"x")
    engine.close()
    assert len(names(path)) == 5
    (path / "member" / "FORMAT").rename(path / "FORMAT")
    with pytest.raises(StorageError):
        Engine.open(path)
    (path / "FORMAT").rename(path / "member" / "FORMAT")
    assert len(names(path)) == 5
    opens(path, 10, 10)


def test_a_disk_that_says_no_ends_the_member(tmp_path: Path) -> None:
    path = tmp_path / "data"
    engine = new_engine(path)
    write_batch(engine, 10)
    flush(engine)
    installation = begin_install(engine, fill(engine.new_state(), 50))

    def fails() -> None:
        raise StorageError("no space left")

    installation.commit = fails  # type: ignore[method-assign]
    installation.run()
    engine._installed(installation)
    assert engine.failed is installation.error
    with pytest.raises(StorageError, match="no space"):
        engine.take_job(None, [Entry(b"", None, 1, 11)])
    assert check_prefix_of_state(engine) == 10, "reads go on"
    engine.close()
    opens(path, 10, 10)


# --- what is kept of the log ---


def test_a_hold_keeps_what_comes_after_a_snapshot(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data", snapshot_count=20, catchup_entries=5)
    write_batch(engine, 10)
    first, second = engine.hold_log(10), engine.hold_log(12)
    for _ in range(10):
        write_batch(engine, 10)
    assert engine.log.first_index() == 11
    first.release()
    first.release()
    write_batch(engine, 1)
    assert engine.log.first_index() == 13
    second.release()
    for _ in range(3):
        write_batch(engine, 1)
    assert engine.log.first_index() > 13
    engine.close()


def test_a_member_that_takes_entries_is_waited_for_one_round(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data", snapshot_count=20, catchup_entries=5)
    engine.lowest_match = lambda: 7
    firsts = set()
    for _ in range(13):
        write_batch(engine, 3)
        firsts.add(engine.log.first_index())
    assert firsts == {1, 8}
    for _ in range(20):
        write_batch(engine, 3)
    assert engine.log.first_index() > 8, "not for ever"
    engine.close()
