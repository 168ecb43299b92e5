"""The engine's door, on the real storage and on the disk in memory that the simulation plays."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import LogCompacted, LogUnavailable
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import StorageError
from tests.support.memory_engine import Disk, MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SNAPSHOT_COUNT, CATCHUP = 10, 4
NO_LIMIT = 1 << 60


class Loop:
    """Runs what is due when asked to."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.due.append((callback, arguments))

    call_soon_threadsafe = call_soon

    def run(self) -> None:
        while self.due:
            callback, arguments = self.due.pop(0)
            callback(*arguments)


class Instant:
    """A Medium that writes when `work` says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.fault: StorageError | None = None

    def delay(self) -> float | None:
        return None

    def error(self) -> StorageError | None:
        return self.fault

    def later(self, _seconds: float, callback: Callable[[], None]) -> None:
        self.jobs.append(callback)

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


class InMemory:
    def __init__(self) -> None:
        self.disk = Disk()
        self.medium = Instant()
        self.loop = Loop()
        self.engine: Any = self._open()

    def _open(self) -> MemoryEngine:
        return MemoryEngine(self.disk, self.medium, snapshot_count=SNAPSHOT_COUNT, catchup_entries=CATCHUP)

    def settle(self) -> None:
        while self.medium.jobs or self.loop.due:
            self.medium.work()
            self.loop.run()

    def reopen(self) -> None:
        self.engine.close()
        self.engine = self._open()

    def end(self) -> None:
        self.engine.close()


class OnDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.engine: Any = self._open()

    def _open(self) -> Engine:
        return Engine.open(self.path, snapshot_count=SNAPSHOT_COUNT, catchup_entries=CATCHUP)

    def settle(self) -> None:
        self.engine._thread.stop()
        self.loop.run()

    def reopen(self) -> None:
        self.engine.close()
        self.engine = self._open()

    def end(self) -> None:
        self.engine.close()


Subject = InMemory | OnDisk


@pytest.fixture(params=["memory", "disk"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made: Subject = InMemory() if request.param == "memory" else OnDisk(tmp_path / "data")
    assert made.engine.is_new
    made.engine.bootstrap(ConfState((1,)), HardState(1, 1, 0))
    yield made
    made.end()


def submit(subject: Subject, job: Any) -> Any:
    """Run a job to its end, wherever it runs."""
    done: list[Any] = []
    if not subject.engine.submit(job, done.append, subject.loop):
        subject.settle()
        assert done == [job]
    return job


def append(subject: Subject, first: int, last: int, term: int = 1) -> None:
    entries = [Entry(b"%d/%d" % (term, index), None, term, index) for index in range(first, last + 1)]
    job = subject.engine.take_job(HardState(term, 1, first - 1), entries, must_sync=True)
    assert submit(subject, job).error is None


def apply(subject: Subject, last: int) -> None:
    engine = subject.engine
    for entry in engine.log.entries(engine.applied_index + 1, last + 1, NO_LIMIT):
        engine.state.put(b"r%08d" % entry.index, entry.data)
        engine.set_applied(entry.index, entry.term)


def state(subject: Subject) -> list[tuple[bytes, bytes]]:
    return list(subject.engine.state.scan(b"r", b"s"))


def test_what_is_written_is_found_again(subject: Subject) -> None:
    append(subject, 1, 5)
    apply(subject, 3)
    assert subject.engine.has_open_writes
    submit(subject, subject.engine.take_job(None, ()))
    assert not subject.engine.has_open_writes
    subject.reopen()
    engine = subject.engine
    assert not engine.is_new
    assert (engine.applied_index, engine.applied_term) == (3, 1)
    assert engine.log.initial_state() == (HardState(1, 1, 0), ConfState((1,)))
    assert [entry.data for entry in engine.log.entries(1, 6, NO_LIMIT)] == [b"1/%d" % index for index in range(1, 6)]
    assert state(subject) == [(b"r%08d" % index, b"1/%d" % index) for index in (1, 2, 3)]


def test_a_small_batch_of_state_does_not_travel_with_entries(subject: Subject) -> None:
    append(subject, 1, 2)
    apply(subject, 2)
    append(subject, 3, 3)
    assert subject.engine.has_open_writes
    submit(subject, subject.engine.take_job(None, ()))
    assert not subject.engine.has_open_writes


def test_a_noted_commit_index_goes_with_the_next_job(subject: Subject) -> None:
    append(subject, 1, 2)
    subject.engine.note_hard_state(HardState(1, 1, 2))
    append_job = subject.engine.take_job(None, [Entry(b"x", None, 1, 3)], must_sync=True)
    submit(subject, append_job)
    subject.reopen()
    assert subject.engine.log.initial_state()[0] == HardState(1, 1, 2)


def test_the_group_is_stored_with_the_state(subject: Subject) -> None:
    append(subject, 1, 1)
    subject.engine.set_conf_state(ConfState((1, 2), (3,)))
    apply(subject, 1)
    submit(subject, subject.engine.take_job(None, ()))
    subject.reopen()
    assert subject.engine.log.initial_state()[1] == ConfState((1, 2), (3,))


def test_entries_replace_the_end_of_the_log(subject: Subject) -> None:
    append(subject, 1, 5)
    append(subject, 3, 4, term=2)
    for _ in range(2):
        log = subject.engine.log
        assert (log.last_index(), [log.term(index) for index in range(1, 5)]) == (4, [1, 1, 2, 2])
        with pytest.raises(LogUnavailable):
            log.term(5)
        subject.reopen()


def fill(subject: Subject) -> None:
    """So much that the start of the log is due to go."""
    for first in range(1, 25, 4):
        append(subject, first, first + 3)
        apply(subject, first + 3)
        submit(subject, subject.engine.take_job(None, ()))
    append(subject, 25, 25)
    append(subject, 26, 26)


def test_the_log_is_truncated_behind_the_state(subject: Subject) -> None:
    fill(subject)
    log = subject.engine.log
    assert 0 < log.start_index <= 24 - CATCHUP
    with pytest.raises(LogCompacted):
        log.entries(1, 3, NO_LIMIT)
    start = log.start_index
    subject.reopen()
    assert (subject.engine.log.start_index, subject.engine.log.last_index()) == (start, 26)


def test_a_hold_keeps_the_log(subject: Subject) -> None:
    hold = subject.engine.hold_log(2)
    fill(subject)
    assert subject.engine.log.start_index <= 2
    hold.release()
    append(subject, 27, 27)
    assert subject.engine.log.start_index > 2


def test_a_member_that_takes_entries_keeps_them_a_round_longer(subject: Subject) -> None:
    subject.engine.lowest_match = lambda: 3
    fill(subject)
    assert subject.engine.log.start_index <= 24 - CATCHUP - SNAPSHOT_COUNT


def test_a_frozen_view_stays_as_it_was(subject: Subject) -> None:
    append(subject, 1, 4)
    apply(subject, 2)
    view = subject.engine.frozen_view()
    apply(subject, 4)
    assert (view.applied_index, view.applied_term, view.conf_state) == (2, 1, ConfState((1,)))
    assert [key for key, _ in view.scan(b"r", b"s")] == [b"r00000001", b"r00000002"]
    assert view.get(b"r00000003") is None
    view.close()


def test_an_entry_that_is_applied_in_slices_is_on_disk_as_a_whole_or_not_at_all(subject: Subject) -> None:
    append(subject, 1, 4)
    apply(subject, 2)
    engine = subject.engine
    engine.hold_state()
    for number in range(5000):  # more than is written early otherwise
        engine.state.put(b"rpart%04d" % number, b"v")
    engine.gather_state()
    engine.state.put(b"rpart5000", b"v")
    engine.state.delete(b"r00000001")
    assert engine.state.get(b"rpart0000") == engine.state.get(b"rpart5000") == b"v"
    assert len(state(subject)) == 5002
    assert not engine.has_open_writes
    assert not engine.should_write_early
    append(subject, 5, 5)  # the log goes on meanwhile
    view = engine.frozen_view()
    assert [key for key, _ in view.scan(b"r", b"s")] == [b"r00000001", b"r00000002"]
    assert (view.applied_index, view.get(b"rpart0000")) == (2, None)
    view.close()
    subject.reopen()
    engine = subject.engine
    assert (engine.applied_index, state(subject)) == (0, []), "nothing at all: what came before it is in the same batch"
    apply(subject, 2)
    engine.hold_state()
    for number in range(5000):
        engine.state.put(b"rpart%04d" % number, b"v")
    engine.gather_state()
    engine.set_applied(3, 1)
    engine.release_state()
    assert engine.should_write_early
    submit(subject, engine.take_job(None, ()))
    assert not engine.has_open_writes
    subject.reopen()
    assert (subject.engine.applied_index, len(state(subject))) == (3, 5002)


def test_the_snapshot_that_could_be_made(subject: Subject) -> None:
    append(subject, 1, 4)
    apply(subject, 3)
    metadata = subject.engine.log.snapshot().metadata
    assert (metadata.index, metadata.term, list(metadata.conf_state.voters)) == (3, 1, [1])


def install(subject: Subject) -> None:
    new = subject.engine.new_state()
    new.put(b"rnew", b"state")
    new.flush()()
    new.finish(40, 7, ConfState((1, 2)))()
    done: list[Any] = []
    subject.engine.install(new, HardState(7, 2, 40), done.append, subject.loop)
    assert subject.engine.installing
    subject.settle()
    assert done[0].error is None
    assert not subject.engine.installing


def test_a_received_state_takes_the_place_of_all(subject: Subject) -> None:
    append(subject, 1, 4)
    apply(subject, 4)
    install(subject)
    for _ in range(2):
        engine = subject.engine
        assert state(subject) == [(b"rnew", b"state")]
        assert (engine.applied_index, engine.applied_term) == (40, 7)
        assert (engine.log.start_index, engine.log.last_index(), engine.log.term(40)) == (40, 40, 7)
        assert engine.log.initial_state() == (HardState(7, 2, 40), ConfState((1, 2)))
        subject.reopen()
    append(subject, 41, 42, term=7)
    assert subject.engine.log.last_index() == 42


# --- what only the one in memory can be asked ---


def test_a_crash_loses_no_more_than_what_was_not_synced() -> None:
    seen = set()
    for seed in range(40):
        subject = InMemory()
        subject.engine.bootstrap(ConfState((1,)), HardState(1, 1, 0))
        append(subject, 1, 3)
        apply(subject, 3)
        submit(subject, subject.engine.take_job(None, ()))
        job = subject.engine.take_job(HardState(1, 1, 3), [Entry(b"x", None, 1, 4)])
        submit(subject, job)
        subject.engine.crash(random.Random(seed), power=True)
        subject.engine = subject._open()
        engine = subject.engine
        assert engine.log.last_index() in (3, 4)
        assert state(subject) == [(b"r%08d" % index, b"1/%d" % index) for index in range(1, engine.applied_index + 1)]
        seen.add((engine.log.last_index(), engine.applied_index))
    assert seen == {(3, 0), (3, 3), (4, 0), (4, 3)}


def test_after_a_failed_write_nothing_is_written() -> None:
    subject = InMemory()
    subject.engine.bootstrap(ConfState((1,)), HardState(1, 1, 0))
    append(subject, 1, 1)
    subject.medium.fault = StorageError("no")
    job = subject.engine.take_job(HardState(1, 1, 1), [Entry(b"x", None, 1, 2)], must_sync=True)
    assert submit(subject, job).error is subject.engine.failed
    with pytest.raises(StorageError):
        subject.engine.take_job(None, ())
    subject.medium.fault = None
    subject.reopen()
    assert subject.engine.log.last_index() == 1
