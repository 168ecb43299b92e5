"""Jobs, where they run, truncation, sizes, defragmentation, and what happens when the disk says no."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.raft.entry import Entry
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage import mapped
from tests.support.storage import apply_to, check_prefix, flush, new_engine, run, state_key, value, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.job import DiskJob

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _state_goes_with_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests follow single records to the disk."""
    monkeypatch.setattr(limits, "STATE_BATCH_RECORDS", 1)
    monkeypatch.setattr(limits, "LOG_RECORD_BYTES", 0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_engine(tmp_path / "data")
    yield engine
    engine.close()


def entries(engine: Engine, count: int) -> list[Entry]:
    first = engine.log.last_index() + 1
    return [Entry(value(index), None, 1, index) for index in range(first, first + count)]


# --- jobs ---


def test_applied_index_and_what_it_describes_are_one_batch(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    write_batch(engine, 5)
    flush(engine)
    write_batch(engine, 5)
    # No job for the second five: they live in the open batch only, with their applied index.
    engine._log_database.close()
    engine._state_database.close()
    engine._directory.unlock()
    again = new_engine(tmp_path / "data")
    assert check_prefix(again) == (5, 10)
    again.close()


def test_the_group_is_stored_with_the_entry_that_changed_it(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    write_batch(engine, 2, apply=False)
    engine.set_conf_state(ConfState((1, 2), (3,)))
    engine.set_applied(2, 1)
    flush(engine)
    engine.close()
    again = new_engine(tmp_path / "data")
    assert again.log.initial_state() == (HardState(1, 1, 0), ConfState((1, 2), (3,)))
    assert (again.applied_index, again.applied_term) == (2, 1)
    again.close()


def test_a_noted_hard_state_travels_with_the_next_job(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    engine.note_hard_state(HardState(1, 1, 0))
    run(engine, engine.take_job(HardState(2, 1, 0), entries(engine, 3), must_sync=True))
    engine.note_hard_state(HardState(2, 1, 3))
    run(engine, engine.take_job(None, entries(engine, 1), must_sync=True))
    engine.close()
    again = new_engine(tmp_path / "data")
    assert again.log.hard_state == HardState(2, 1, 3)
    again.close()


def test_durations_are_counted(engine: Engine) -> None:
    before = engine.sync_durations.count, engine.commit_durations.count
    write_batch(engine, 1)
    write_batch(engine, 1)
    assert (engine.sync_durations.count, engine.commit_durations.count) == (before[0] + 2, before[1] + 1)
    assert engine.sync_durations.total > 0


def test_buckets_are_etcds(engine: Engine) -> None:
    """1 ms to 8.192 s, doubling: both disk histograms of etcd."""
    for histogram in (engine.sync_durations, engine.commit_durations):
        assert (histogram.bounds[0], histogram.bounds[-1], len(histogram.bounds)) == (0.001, 8.192, 14)


# --- where jobs run ---


async def submit(engine: Engine, job: DiskJob) -> tuple[bool, str]:
    """Whether it ran inline, and on which thread."""
    where: list[str] = []
    write = job.log_batch.write  # type: ignore[union-attr]

    class Watched:
        def write(self) -> None:
            where.append(threading.current_thread().name)
            write()

    job.log_batch = Watched()
    done = asyncio.Event()
    inline = engine.submit(job, lambda _job: done.set(), asyncio.get_running_loop())
    if not inline:
        await asyncio.wait_for(done.wait(), 10)
    assert job.error is None
    return inline, where[0]


def test_a_lone_job_runs_on_the_loop_while_the_disk_is_fast(engine: Engine) -> None:
    async def play() -> None:
        engine.inline_write_seconds = 3600
        here = threading.current_thread().name
        for count in (1, limits.MAX_BATCH_PROPOSALS):
            job = engine.take_job(None, entries(engine, count), must_sync=True)
            assert await submit(engine, job) == (True, here)
        engine.inline_write_seconds = 0.0
        slow = engine.take_job(None, entries(engine, 1), must_sync=True)
        assert await submit(engine, slow) == (False, "etcdpy-disk")

    asyncio.run(play())
    apply_to(engine, engine.log.last_index())
    check_prefix(engine)


def test_a_job_with_many_bytes_runs_on_the_thread(engine: Engine) -> None:
    async def play() -> None:
        engine.inline_write_seconds = 3600
        here = threading.current_thread().name
        assert await submit(engine, engine.take_job(None, entries(engine, 1), must_sync=True)) == (True, here)
        apply_to(engine, engine.log.last_index())
        job = engine.take_job(None, [Entry(bytes(limits.INLINE_JOB_BYTES), None, 1, engine.log.last_index() + 1)])
        assert await submit(engine, job) == (False, "etcdpy-disk")
        engine.state.put(b"rlarge", bytes(limits.STATE_BATCH_BYTES))
        job = engine.take_job(None, entries(engine, 1), must_sync=True)
        assert job.state_batch is not None, "not for its records, but for their bytes"
        assert await submit(engine, job) == (False, "etcdpy-disk")
        assert engine.state.open_bytes == 0

    asyncio.run(play())


def test_a_job_that_syncs_the_state_runs_on_the_thread(engine: Engine) -> None:
    async def play() -> None:
        engine.inline_write_seconds = 3600
        engine.snapshot_count = 0
        write_batch(engine, 2)
        job = engine.take_job(None, entries(engine, 1), must_sync=True)
        assert job.sync_state
        assert await submit(engine, job) == (False, "etcdpy-disk")

    asyncio.run(play())


def test_much_open_state_is_to_be_written_early(engine: Engine) -> None:
    state = engine.state
    for number in range(limits.STATE_BATCH_RECORDS_EARLY):
        assert not engine.should_write_early
        state.delete(b"r%d" % number)
    assert engine.should_write_early
    flush(engine)
    assert not engine.should_write_early
    state.put(b"ra", bytes(limits.STATE_BATCH_BYTES_EARLY))
    assert engine.should_write_early
    engine._thread.queued = limits.STATE_JOBS_QUEUED_MAX
    assert not engine.should_write_early, "the disk is behind"
    engine._thread.queued = 0
    flush(engine)


def note_write(engine: Engine, *, sync: float = 0.0, state_write: float = 0.0) -> None:
    """A job of these durations has run."""
    job = engine.take_job(None, entries(engine, 1), must_sync=True)
    job.run()
    job.sync_seconds, job.state_write_seconds = sync, state_write
    engine._finish(job)


def test_one_very_slow_write_sends_the_next_to_the_thread(engine: Engine) -> None:
    note_write(engine, sync=100.0)
    loop = asyncio.new_event_loop()
    done: list[DiskJob] = []
    second = engine.take_job(None, entries(engine, 1), must_sync=True)
    assert not engine.submit(second, done.append, loop)
    third = engine.take_job(None, entries(engine, 1), must_sync=True)
    engine.inline_write_seconds = 3600
    assert not engine.submit(third, done.append, loop), "never past one that is on its way"
    while len(done) < 2:
        loop.run_until_complete(asyncio.sleep(0.001))
    assert done == [second, third]
    loop.close()


def test_a_job_tells_how_long_the_state_took(engine: Engine) -> None:
    write_batch(engine, 1)
    job = engine.take_job(None, entries(engine, 1), must_sync=True)
    write = job.state_batch.write  # type: ignore[union-attr]

    class Slow:
        def write(self) -> None:
            time.sleep(0.02)
            write()

    job.state_batch = Slow()
    job.run()
    engine._finish(job)
    assert job.state_write_seconds >= 0.02


FAST, SLOW = 0.0004, 0.0015


@pytest.mark.parametrize(
    ("writes", "inline"),
    [
        pytest.param([(FAST, 0.0), (0.005, 0.0), (0.002, 0.0)] * 100, True, id="slow ones wait for a processor"),
        pytest.param([(SLOW, 0.0)] * 200, False, id="the disk is slow"),
        pytest.param([(FAST, SLOW)] * 200, False, id="LevelDB is behind with the state"),
        pytest.param([(0.05, 0.0)] * 20 + [(FAST, 0.0)] * 50, True, id="it was slow for a while"),
    ],
)
def test_what_writes_take_decides_where_the_next_one_runs(
    engine: Engine, writes: list[tuple[float, float]], inline: bool
) -> None:
    engine.fsync = False
    for sync, state_write in writes:
        note_write(engine, sync=sync, state_write=state_write)
    assert (engine._write_seconds < limits.INLINE_WRITE_SECONDS) is inline


def test_many_jobs_in_flight_keep_their_order(tmp_path: Path) -> None:
    async def play() -> None:
        engine = new_engine(tmp_path / "data")
        engine.inline_write_seconds = 0.0
        done: list[DiskJob] = []
        jobs = []
        for _ in range(50):
            jobs.append(engine.take_job(None, entries(engine, 3), must_sync=True))
            apply_to(engine, engine.log.last_index())
            engine.submit(jobs[-1], done.append, asyncio.get_running_loop())
        while len(done) < 50:  # noqa: ASYNC110 (what is waited for is the reports' order)
            await asyncio.sleep(0)
        assert done == jobs
        engine.close()

    asyncio.run(play())
    again = new_engine(tmp_path / "data")
    assert check_prefix(again) == (150, 150)
    again.close()


def test_without_fsync_on_request_only(tmp_path: Path) -> None:
    """--unsafe-no-fsync: strace counts."""
    script = """
import sys
from pathlib import Path
from tests.support.storage import new_engine, write_batch
engine = new_engine(Path(sys.argv[1]), unsafe_no_fsync=sys.argv[2] == "unsafe")
sys.stderr.write("begin\\n"); sys.stderr.flush()
for _ in range(10): write_batch(engine, 3)
sys.stderr.write("end\\n"); sys.stderr.flush()
"""
    counts = {}
    for mode in ("safe", "unsafe"):
        trace = tmp_path / f"{mode}.strace"
        command = ["strace", "-f", "-o", str(trace), "-e", "trace=write,fsync,fdatasync", sys.executable, "-c", script]
        subprocess.run([*command, str(tmp_path / mode), mode], cwd=ROOT, check=True, capture_output=True)
        lines = trace.read_text().splitlines()
        begin = next(number for number, line in enumerate(lines) if "begin" in line)
        end = next(number for number, line in enumerate(lines) if '"end' in line)
        counts[mode] = sum("sync(" in line for line in lines[begin:end])
    assert counts == {"safe": 10, "unsafe": 0}, "one fdatasync a synced job, none for the applied state"


# --- truncation ---


def test_the_log_is_truncated_behind_the_durable_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    engine = new_engine(tmp_path / "data", snapshot_count=100, catchup_entries=30)
    current = [engine]
    monkeypatch.setattr("etcdpy.storage.job.sync_write_ahead", lambda _path: synced.append(current[0].applied_index))
    monkeypatch.setattr(limits, "LOG_TRUNCATE_ENTRIES_PER_JOB", 7)
    for _ in range(11):
        write_batch(engine, 10)
    assert (synced, engine.log.first_index()) == ([], 1), "100 applied is not more than 100"
    write_batch(engine, 10)
    assert synced == [110]
    assert engine.log.first_index() == 1, "not before that job is done"
    write_batch(engine, 10)
    assert engine.log.first_index() == 110 - 30 + 1
    assert engine.log.entries(81, 131, 1 << 30)[-1].index == 130
    for _ in range(20):
        flush(engine)
    stored = list(engine._log_database.iterator(stop=b"meta/", include_value=False))
    assert stored == [index.to_bytes(8, "big") for index in range(81, 131)]
    engine.close()
    current[0] = again = new_engine(tmp_path / "data", snapshot_count=100, catchup_entries=30)
    assert check_prefix(again) == (130, 130)
    assert again.log.first_index() == 81
    for _ in range(10):
        write_batch(again, 10)
    assert synced == [110, 220]
    again.close()


def test_a_crash_between_truncation_and_deletion_is_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_TRUNCATE_ENTRIES_PER_JOB", 3)
    engine = new_engine(tmp_path / "data", snapshot_count=20, catchup_entries=5)
    for _ in range(5):
        write_batch(engine, 10)
    assert engine.log.has_truncated
    engine.close()
    again = new_engine(tmp_path / "data", snapshot_count=1000)
    assert again.log.has_truncated
    first = again.log.first_index()
    for _ in range(10):
        flush(again)
    assert next(again._log_database.iterator(include_value=False)) == first.to_bytes(8, "big")
    assert not again.log.has_truncated
    again.close()


def test_reading_far_back_comes_from_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RAFT_LOG_RECENT_BYTES", 500)
    for _ in range(10):
        write_batch(engine, 10)
    assert len(engine.log._recent) < 30
    assert [entry.index for entry in engine.log.entries(1, 101, 1 << 30)] == list(range(1, 101))
    assert [entry.index for entry in engine.log.entries(50, 101, 100)] == [50, 51]
    assert engine.log.entries(100, 101, 0)[0].data == value(100)


# --- sizes ---


def test_state_bytes_grow_by_what_is_written_and_shrink_by_defragmenting(engine: Engine) -> None:
    async def defragment() -> list[tuple[int, int]]:
        steps: list[tuple[int, int]] = []
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        engine.defragment(asyncio.get_running_loop(), done.set_result, lambda now, total: steps.append((now, total)))
        assert engine.defragmenting
        write_batch(engine, 5)  # goes on meanwhile
        assert await asyncio.wait_for(done, 30) is None
        assert not engine.defragmenting
        return steps

    empty = engine.refresh_sizes()
    assert empty < 10_000, "a quota of 13 pages of 4 KiB leaves room for something"
    for number in range(200):
        engine.state.put(state_key(number), os.urandom(5000))
        flush(engine)
    guessed = engine.state_bytes
    measured = engine.refresh_sizes()
    assert 1_000_000 < guessed < measured * 1.1
    assert measured < 1_150_000
    for number in range(200):
        engine.state.delete(state_key(number))
    flush(engine)
    steps = asyncio.run(defragment())
    assert steps
    assert steps[-1][0] == steps[-1][1]
    assert engine.state_bytes < 50_000
    assert engine.log_bytes() > 0


def test_defragmentation_in_slices_keeps_everything(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEFRAGMENT_SLICE_BYTES", 100_000)
    kept = {}
    for number in range(400):
        key = b"r" + number.to_bytes(8, "big") + b"\0\0\0\0"
        kept[key] = os.urandom(2000)
        engine.state.put(key, kept[key])
        engine.state.put(b"l%08d" % number, b"lease")
    flush(engine)

    async def play() -> list[tuple[int, int]]:
        steps: list[tuple[int, int]] = []
        loop = asyncio.get_running_loop()
        for _ in range(2):
            done: asyncio.Future[object] = loop.create_future()
            engine.defragment(loop, done.set_result, lambda now, total: steps.append((now, total)))
            await done
        return steps

    steps = asyncio.run(play())
    assert steps[-1][1] > 3, "tables of 800 kB in slices of 100 kB"
    assert dict(engine.state.scan(b"r", b"s")) == kept
    assert sum(1 for _ in engine.state.scan(b"l", b"m")) == 400


def test_mapped_tables_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_engine(tmp_path / "data")
    for number in range(100):
        engine.state.put(state_key(number), os.urandom(100_000))
        flush(engine)
    engine.close()
    again = new_engine(tmp_path / "data")
    total = sum(len(found) for _, found in again.state.scan(b"r", b"s"))
    monkeypatch.setattr(limits, "RESIDENT_MAPPED_BYTES", 0)
    monkeypatch.setattr(limits, "TRIM_SLICE_BYTES", 1)
    before = mapped.resident_file_bytes()
    slices = [again.trim_memory()]
    while again._trim_from:
        slices.append(again.trim_memory())
    assert sum(slices) >= total
    assert len(slices) > 1, "a table at a time"
    assert mapped.resident_file_bytes() < before - total // 2
    assert sum(len(found) for _, found in again.state.scan(b"r", b"s")) == total
    again.close()


# --- the disk says no ---


def test_a_full_disk_ends_writing_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the write fails with EFBIG where it would fail with ENOSPC."""
    script = """
import resource, signal, sys
from pathlib import Path
from etcdpy.storage.errors import StorageError
from tests.support.storage import new_engine, write_batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
engine = new_engine(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    while True:
        write_batch(engine, 10)
        acknowledged = engine.log.last_index()
except StorageError as error:
    print(acknowledged, engine.failed is error, error)
try:
    engine.take_job(None, ())
except StorageError as error:
    print("again:", error is engine.failed)
engine.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, again = done.stdout.splitlines()
    acknowledged, failed, *message = first.split()
    assert failed == "True"
    assert "File too large" in " ".join(message)
    assert again == "again: True"
    engine = new_engine(tmp_path / "data")
    assert check_prefix(engine)[1] >= int(acknowledged) > 100
    engine.close()
