"""The fake of `etcdpy.storage.engine.Engine`: a disk in memory that forgets, in a crash, what was not synced.

    Disk          what a restart finds; two ordered files of batches, as the two databases of the real one
    MemoryEngine  one process's view of it, with the same door as Engine; tests/contract/test_engine.py holds the two
                  against each other
    Medium        how long writes take, and whether they fail; played by whoever drives the engine

A crash keeps what was synced, and of the batches after it some first ones: a log file cut anywhere. A batch that was
being written (the torn last record) is there as a whole or not at all, as LevelDB recovers it.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from etcdpy.backend import META_BUCKET, REVISION_BUCKET
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import decode_entry, encode_entries
from etcdpy.raft.errors import LogCompacted, LogUnavailable
from etcdpy.raft.types import ConfState, HardState
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random
    from typing import Any

    from etcdpy.raft.entry import Entry
    from etcdpy.storage.errors import StorageError

Values = dict[bytes, bytes]
Overlay = dict[bytes, bytes | None]
Stored = tuple[int, bytes]
"""An entry's term and wire form."""

CONF_STATE_KEY = META_BUCKET + b"conf_state"


class Medium(Protocol):
    def delay(self) -> float | None:
        """Seconds that the next job takes; None when it is done at once, on the loop."""
        ...

    def error(self) -> StorageError | None:
        """What goes wrong with the job that is about to be written."""
        ...

    def later(self, seconds: float, callback: Callable[[], None]) -> object:
        """Call back after a while, whatever the process does meanwhile."""
        ...


class LogContent:
    """What a log holds: entries after `start`."""

    def __init__(self) -> None:
        self.start = (0, 0)
        self.stored: list[Stored] = []
        self.hard_state: HardState | None = None
        self.bootstrap = ConfState()

    def copy(self) -> LogContent:
        other = LogContent()
        other.start, other.stored = self.start, list(self.stored)
        other.hard_state, other.bootstrap = self.hard_state, self.bootstrap
        return other

    @property
    def last(self) -> int:
        return self.start[0] + len(self.stored)

    def term(self, index: int) -> int:
        if index == self.start[0]:
            return self.start[1]
        return self.stored[index - self.start[0] - 1][0]

    def take(self, batch: LogBatch) -> None:
        self.hard_state = batch.hard_state
        if batch.anew is not None:
            self.start, self.stored = batch.anew, []
        if batch.stored:
            del self.stored[batch.first - self.start[0] - 1 :]
            self.stored += batch.stored
        if batch.truncate_to > self.start[0]:
            start = (batch.truncate_to, self.term(batch.truncate_to))
            del self.stored[: batch.truncate_to - self.start[0]]
            self.start = start


class LogBatch(NamedTuple):
    hard_state: HardState
    first: int
    stored: list[Stored]
    truncate_to: int = 0
    anew: tuple[int, int] | None = None


class Applied(NamedTuple):
    """What travels with a batch of the applied state."""

    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: int = 0
    digest: int = 0
    """Of all that members must have in common at that index."""


class StateBatch(NamedTuple):
    overlay: Overlay
    applied: Applied
    replaces: bool = False


class StateContent:
    def __init__(self) -> None:
        self.values: Values = {}
        self.applied = Applied()

    def take(self, batch: StateBatch) -> None:
        self.applied = batch.applied
        if batch.replaces:
            self.values = {}
        for key, value in batch.overlay.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value


class Disk:
    """Synced content, and batches that are written and not synced."""

    def __init__(self) -> None:
        self.log = LogContent()
        self.state = StateContent()
        self.log_tail: list[LogBatch] = []
        self.state_tail: list[StateBatch] = []

    def write_log(self, batch: LogBatch, *, sync: bool) -> None:
        self.log_tail.append(batch)
        if sync:
            self.sync_log()

    def sync_log(self) -> None:
        for batch in self.log_tail:
            self.log.take(batch)
        self.log_tail = []

    def write_state(self, batch: StateBatch, *, sync: bool) -> None:
        self.state_tail.append(batch)
        if sync:
            self.sync_state()

    def sync_state(self) -> None:
        for batch in self.state_tail:
            self.state.take(batch)
        self.state_tail = []

    def lose_unsynced(self, draw: Random) -> None:
        """The power goes: of each file a first part of what was not synced is left."""
        del self.log_tail[draw.randint(0, len(self.log_tail)) :]
        del self.state_tail[draw.randint(0, len(self.state_tail)) :]
        self.sync_log()
        self.sync_state()


class EngineLog:
    """etcdpy.raft.types.LogStorage over one process's view of the log."""

    def __init__(self, content: LogContent, conf_state: ConfState, applied: Applied) -> None:
        self.content = content
        self.hard_state = content.hard_state or HardState()
        self.conf_state = conf_state
        self.applied = applied.index, applied.term

    @property
    def start_index(self) -> int:
        return self.content.start[0]

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self.conf_state

    def first_index(self) -> int:
        return self.content.start[0] + 1

    def last_index(self) -> int:
        return self.content.last

    def term(self, index: int) -> int:
        if index < self.content.start[0]:
            raise LogCompacted(str(index))
        if index > self.content.last:
            raise LogUnavailable(str(index))
        return self.content.term(index)

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        first = self.first_index()
        if lo < first:
            raise LogCompacted(str(lo))
        if hi > self.content.last + 1:
            raise LogUnavailable(str(hi))
        found: list[Entry] = []
        for _, wire in self.content.stored[lo - first : hi - first]:
            entry = decode_entry(wire)
            max_bytes -= len(entry.data)
            if found and max_bytes < 0:
                break
            found.append(entry)
        return found

    def snapshot(self) -> raft_pb2.Snapshot:
        index, term = self.applied
        metadata = raft_pb2.SnapshotMetadata(conf_state=self.conf_state.to_proto(), index=index, term=term)
        return raft_pb2.Snapshot(metadata=metadata)


class EngineState(MemoryBackend):
    """The applied state with its open batch, and a digest of what all members share.

    Left out of the digest: what is a member's own (the meta bucket), and which old revisions a compaction has removed.
    """

    def __init__(self, values: Values, digest: int) -> None:
        super().__init__(values)
        self.open: Overlay = {}
        self.digest = digest
        self.held: tuple[Values, int] | None = None
        """Values and digest before an entry that is being applied in slices."""

    @property
    def whole(self) -> tuple[Values, int]:
        """Values and digest as of the applied index."""
        return self.held or (self.items(), self.digest)

    @property
    def whole_digest(self) -> int:
        return self.digest if self.held is None else self.held[1]

    def put(self, key: bytes, value: bytes) -> None:
        if key[:1] != META_BUCKET:
            if key[:1] != REVISION_BUCKET:
                self._forget(key)
            self.digest ^= zlib.crc32(value, zlib.crc32(key))
        self.open[key] = value
        super().put(key, value)

    def delete(self, key: bytes) -> None:
        if key[:1] not in (META_BUCKET, REVISION_BUCKET):
            self._forget(key)
        self.open[key] = None
        super().delete(key)

    def _forget(self, key: bytes) -> None:
        value = self.get(key)
        if value is not None:
            self.digest ^= zlib.crc32(value, zlib.crc32(key))

    @property
    def has_open_writes(self) -> bool:
        return bool(self.open)

    def replace(self, values: Values, digest: int) -> None:
        self._values, self._sorted = values, None
        self.open, self.digest = {}, digest
        self.held = None


class FrozenView(MemoryBackend):
    def __init__(self, engine: MemoryEngine) -> None:
        values, self.digest = engine.state.whole
        super().__init__(values)
        self.applied_index, self.applied_term = engine.applied_index, engine.applied_term
        self.conf_state = engine.log.conf_state

    def close(self) -> None:
        pass


class NewState:
    """An applied state that another member sent."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.index = self.term = self.digest = 0
        self.conf_state: ConfState | None = None
        self.should_flush = False

    def put(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    def flush(self) -> Callable[[], None]:
        return lambda: None

    def finish(self, index: int, term: int, conf_state: ConfState) -> Callable[[], None]:
        self.index, self.term, self.conf_state = index, term, conf_state
        self.values[CONF_STATE_KEY] = conf_state.to_proto().SerializeToString(deterministic=True)
        return lambda: None

    @property
    def backend(self) -> MemoryBackend:
        return MemoryBackend(self.values)

    def close(self) -> None:
        pass

    def discard(self) -> None:
        self.values = {}


class Job:
    """See DiskJob. `new_state` is set for an installation, which is one trip to the disk for all or nothing."""

    def __init__(self) -> None:
        self.error: StorageError | None = None
        self.log_batch: LogBatch | None = None
        self.state_batch: StateBatch | None = None
        self.must_sync = False
        self.sync_state = False
        self.truncate_to = 0
        self.new_state: NewState | None = None

    def write(self, disk: Disk) -> None:
        if self.state_batch is not None:
            disk.write_state(self.state_batch, sync=self.sync_state)
        if self.log_batch is not None:
            disk.write_log(self.log_batch, sync=self.must_sync)


class Hold:
    """See LogHold."""

    def __init__(self, holds: dict[Hold, int]) -> None:
        self._holds = holds

    def release(self) -> None:
        self._holds.pop(self, None)


class MemoryEngine:
    """See etcdpy.storage.engine.Engine. From `batch_records` on what is applied travels with entries."""

    encrypts_files = False

    def __init__(
        self, disk: Disk, medium: Medium, *, snapshot_count: int, catchup_entries: int, batch_records: int = 8
    ) -> None:
        assert not disk.log_tail, "after a crash, say what is left of the disk first"
        assert not disk.state_tail, "after a crash, say what is left of the disk first"
        self.disk = disk
        applied = disk.state.applied
        self.state = EngineState(disk.state.values, applied.digest)
        stored = self.state.get(CONF_STATE_KEY)
        conf_state = disk.log.bootstrap
        if stored is not None:
            conf_state = ConfState.from_proto(raft_pb2.ConfState.FromString(stored))
        self.log = EngineLog(disk.log.copy(), conf_state, applied)
        self.is_new = disk.log.hard_state is None
        self.applied_index, self.applied_term = applied.index, applied.term
        self.failed: StorageError | None = None
        self.closed = False
        self.snapshot_count = snapshot_count
        self.catchup_entries = catchup_entries
        self.lowest_match: Callable[[], int] = lambda: sys.maxsize
        self.on_written: Callable[[Job], None] = lambda _job: None
        """Told after each job that is on disk: where checkers look."""
        self._medium = medium
        self._batch_records = batch_records
        self._queue: deque[tuple[Job, Callable[[Any], None], Any]] = deque()
        self._holds: dict[Hold, int] = {}
        self._truncate_to = 0
        self._truncation_mark = self.log.start_index and self.log.start_index + catchup_entries
        self._state_sync_running = False
        self.installing = False

    # --- as Engine ---

    def bootstrap(self, conf_state: ConfState, hard_state: HardState, entries: Sequence[Entry] = ()) -> None:
        assert self.is_new
        self.log.conf_state = self.disk.log.bootstrap = conf_state
        job = Job()
        job.must_sync = True
        job.log_batch = self._log_batch(hard_state, entries, 0)
        job.write(self.disk)
        self.on_written(job)
        self.is_new = False

    def set_applied(self, index: int, term: int) -> None:
        assert index >= self.applied_index
        self.applied_index, self.applied_term = index, term
        self.log.applied = index, term

    def set_conf_state(self, conf_state: ConfState) -> None:
        self.log.conf_state = conf_state
        self.state.put(CONF_STATE_KEY, conf_state.to_proto().SerializeToString(deterministic=True))

    def note_hard_state(self, hard_state: HardState) -> None:
        self.log.hard_state = hard_state

    @property
    def has_open_writes(self) -> bool:
        return self.state.has_open_writes and self.state.held is None

    def hold_state(self) -> None:
        assert self.state.held is None, "one at a time"
        self.state.held = self.state.whole

    def gather_state(self) -> None:
        pass

    def release_state(self) -> None:
        self.state.held = None

    @property
    def should_write_early(self) -> bool:
        free = self.failed is None and not self.installing and self.state.held is None
        return len(self.state.open) >= 4 * self._batch_records and free

    def take_job(self, hard_state: HardState | None, entries: Sequence[Entry], *, must_sync: bool = False) -> Job:
        if self.failed is not None:
            raise self.failed
        assert not self.installing, "the state is being replaced"
        job = Job()
        worthwhile = len(self.state.open) >= self._batch_records or (not entries and self.state.open)
        if worthwhile and self.state.held is None:
            self._add_state(job)
        truncate_to = min(self._truncate_to, *self._holds.values()) if self._holds else self._truncate_to
        if hard_state is not None or entries or truncate_to > self.log.start_index:
            job.log_batch = self._log_batch(hard_state or self.log.hard_state, entries, truncate_to)
            job.must_sync = must_sync
        return job

    def _add_state(self, job: Job) -> None:
        applied = Applied(self.applied_index, self.applied_term, self.state.digest)
        job.state_batch = StateBatch(self.state.open, applied)
        self.state.open = {}
        if self.applied_index - self._truncation_mark > self.snapshot_count and not self._state_sync_running:
            job.sync_state = self._state_sync_running = True
            point = max(self.applied_index - self.catchup_entries, 0)
            job.truncate_to = min(point, max(self.lowest_match(), point - self.snapshot_count, 0))
            self._truncation_mark = self.applied_index

    def _log_batch(self, hard_state: HardState, entries: Sequence[Entry], truncate_to: int) -> LogBatch:
        self.log.hard_state = hard_state
        stored = [(entry.term, wire) for entry, wire in zip(entries, encode_entries(entries), strict=True)]
        first = entries[0].index if entries else 0
        assert not entries or self.log.start_index < first <= self.log.last_index() + 1
        batch = LogBatch(hard_state, first, stored, truncate_to)
        self.log.content.take(batch)
        return batch

    def submit(self, job: Job, on_done: Callable[[Any], None], loop: Any) -> bool:
        if not self._queue:
            delay = self._medium.delay()
            if delay is None and not job.sync_state:
                self._write(job)
                self._finish(job)
                return True
        else:
            delay = None
        self._queue.append((job, on_done, loop))
        if len(self._queue) == 1:
            self._medium.later(delay or 0.0, self._run_first)
        return False

    def _run_first(self) -> None:
        if self.closed:
            return
        job, on_done, loop = self._queue[0]
        self._write(job)
        loop.call_soon(self._report, job, on_done)

    def _report(self, job: Job, on_done: Callable[[Any], None]) -> None:
        self._queue.popleft()
        if self._queue:
            self._medium.later(self._medium.delay() or 0.0, self._run_first)
        self._finish(job)
        on_done(job)

    def _write(self, job: Job) -> None:
        if self.failed is not None:
            job.error = self.failed
            return
        job.error = self._medium.error()
        if job.error is None:
            job.write(self.disk)
            self.on_written(job)

    def _finish(self, job: Job) -> None:
        if job.error is not None:
            self.failed = self.failed or job.error
            self.installing = False
            return
        if job.truncate_to:
            self._truncate_to = max(self._truncate_to, job.truncate_to)
        if job.sync_state:
            self._state_sync_running = False
        if job.new_state is not None:
            self._installed(job.new_state)

    # --- snapshots ---

    def frozen_view(self) -> FrozenView:
        return FrozenView(self)

    def hold_log(self, index: int) -> Hold:
        hold = Hold(self._holds)
        self._holds[hold] = index
        return hold

    def new_state(self) -> NewState:
        return NewState()

    def install(self, new_state: NewState, hard_state: HardState, on_done: Callable[[Any], None], loop: Any) -> Job:
        assert new_state.conf_state is not None, "not finished"
        assert not self.installing, "one at a time"
        if self.failed is not None:
            raise self.failed
        job = Job()
        job.new_state = new_state
        job.must_sync = job.sync_state = True
        applied = Applied(new_state.index, new_state.term, new_state.digest)
        job.state_batch = StateBatch(dict(new_state.values), applied, replaces=True)
        self.log.hard_state = hard_state
        job.log_batch = LogBatch(hard_state, 0, [], 0, (new_state.index, new_state.term))
        self.log.content.take(job.log_batch)
        self.installing = True
        self._queue.append((job, on_done, loop))
        if len(self._queue) == 1:
            self._medium.later(self._medium.delay() or 0.0, self._run_first)
        return job

    def _installed(self, new_state: NewState) -> None:
        assert new_state.conf_state is not None
        self.installing = False
        self.state.replace(dict(new_state.values), new_state.digest)
        self.log.conf_state = new_state.conf_state
        self.applied_index = self._truncation_mark = new_state.index
        self.applied_term = new_state.term
        self.log.applied = new_state.index, new_state.term
        self._truncate_to = 0
        self._state_sync_running = False

    # --- the end ---

    def close(self) -> None:
        """Write what is open and wait for the disk, as a process that ends in peace."""
        self.closed = True
        for job, _, _ in self._queue:
            self._write(job)
        self._queue.clear()
        if self.failed is None and self.has_open_writes and not self.installing:
            self._write(self.take_job(None, ()))
        self.disk.sync_log()
        self.disk.sync_state()

    def crash(self, draw: Random, *, power: bool) -> None:
        """The process is gone in the midst of what it did. With `power` the machine is, and with it what the system
        had not written to the disk yet."""
        self.closed = True
        for job, _, _ in self._queue:
            if self.failed is not None or draw.random() < 0.5:
                break
            self._write_some(job, draw)
        self._queue.clear()
        if power:
            self.disk.lose_unsynced(draw)
        self.disk.sync_log()
        self.disk.sync_state()

    def _write_some(self, job: Job, draw: Random) -> None:
        """The job was under way: the state's batch comes first, the log's may be missing, or there and not synced."""
        if job.error is not None:
            return
        if job.new_state is None and draw.random() < 0.5:
            job.log_batch = None
        elif job.new_state is None and draw.random() < 0.5:
            job.must_sync = False
        job.write(self.disk)
        self.on_written(job)
