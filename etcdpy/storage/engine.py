"""Owns a member's data directory: the lock, both databases, and every trip to the disk.

    engine = Engine.open(path)                      recovery; raises DataDirError, DamagedError, StorageError
    if engine.is_new: engine.bootstrap(...)
    node = RawNode(Config(storage=engine.log, applied=engine.applied_index, ...))
    ...
    job = engine.take_job(ready.hard_state, ready.entries, must_sync=ready.must_sync)
    if engine.submit(job, on_done): ...             done already, on the loop
    else: ...                                       on_done(job) comes later, on the loop
    if job.error is not None: ...                   stop acknowledging and end the process; see StorageError

What is applied goes into `engine.state` and travels with the next job, in one atomic batch with the applied index.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.backend import META_BUCKET
from etcdpy.histogram import COMMIT_SECONDS, Histogram
from etcdpy.raft.types import HardState
from etcdpy.storage import leveldb, mapped, raft_log, recovery
from etcdpy.storage.chain import BatchChain
from etcdpy.storage.data_dir import DataDir
from etcdpy.storage.defragment import Defragmentation
from etcdpy.storage.disk_thread import DiskThread
from etcdpy.storage.errors import DamagedError, DataDirError, StorageError
from etcdpy.storage.job import DiskJob
from etcdpy.storage.raft_log import RaftLog
from etcdpy.storage.recovery import Action
from etcdpy.storage.state import StateBackend

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import ConfState
    from etcdpy.storage.leveldb import Database

APPLIED_KEY: Final = META_BUCKET + b"applied"
"""Index and term of the last applied entry, 8 bytes each."""
CONF_STATE_KEY: Final = META_BUCKET + b"conf_state"
"""raftpb.ConfState as of the applied index."""
IDENTITY_KEY: Final = META_BUCKET + b"identity"
"""The same random bytes as in the log: the two belong together."""
CHAIN_PREFIX: Final = META_BUCKET + b"batch/"

_AVERAGE_WEIGHT: Final = 0.2
"""Of the newest sync in the moving average."""

logger = logging.getLogger("etcdpy.storage")


class Engine:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        directory: DataDir,
        log: RaftLog,
        state: StateBackend,
        databases: tuple[Database, Database],
        chain: BatchChain,
    ) -> None:
        self.log = log
        self.state = state
        self.is_new = False
        """Nothing was ever written: the server must bootstrap or join."""
        self.applied_index = 0
        """As in the newest job; see set_applied."""
        self.applied_term = 0
        self.failed: StorageError | None = None
        """Set once a write failed; nothing is written after that."""
        self.sync_durations = Histogram(COMMIT_SECONDS)
        """etcd_disk_wal_fsync_duration_seconds."""
        self.commit_durations = Histogram(COMMIT_SECONDS)
        """etcd_disk_backend_commit_duration_seconds."""
        self.snapshot_count = limits.SNAPSHOT_COUNT_DEFAULT
        self.catchup_entries = limits.SNAPSHOT_CATCHUP_ENTRIES_DEFAULT
        self.fsync = True
        self.inline_sync_seconds = limits.INLINE_SYNC_SECONDS
        """While the moving average of syncs is below this, lone small jobs run on the loop."""
        self._directory = directory
        self._log_database, self._state_database = databases
        self._chain = chain
        self._thread = DiskThread()
        self._applied_written = 0
        self._average_sync_seconds = 0.0
        self._truncation_mark = 0
        self._truncate_to = 0
        self._state_sync_running = False
        self._defragmentation: Defragmentation | None = None
        self._disk_bytes = 0
        self._written_at_scan = 0
        self._trim_from = 0

    # --- opening and closing ---

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        wal_dir: Path | None = None,
        snapshot_count: int = limits.SNAPSHOT_COUNT_DEFAULT,
        catchup_entries: int = limits.SNAPSHOT_CATCHUP_ENTRIES_DEFAULT,
        unsafe_no_fsync: bool = False,
    ) -> Engine:
        """Take the lock, then do what the tables of recovery.py say.

        Raises DataDirError (locked, foreign, other version, not usable), DamagedError (contradicts itself) or
        StorageError.
        """
        directory = DataDir(path, wal_dir)
        directory.lock()
        try:
            engine = cls._open_locked(directory)
        except BaseException:
            directory.unlock()
            raise
        engine.snapshot_count = snapshot_count
        engine.catchup_entries = catchup_entries
        engine.fsync = not unsafe_no_fsync
        engine._truncation_mark = engine.log.start_index and engine.log.start_index + catchup_entries
        engine.refresh_sizes()
        return engine

    @classmethod
    def _open_locked(cls, directory: DataDir) -> Engine:
        layout = directory.look()
        case = recovery.decide(recovery.LAYOUT_CASES, layout)
        message = case.message(directory.path, **recovery.facts(layout))
        if case.action is Action.REFUSE:
            raise DataDirError(message)
        if case.action is Action.CREATE:
            if layout.creating:
                logger.warning("data directory made anew", extra={"fields": {"reason": message}})
            _create(directory)
        elif layout.creating:
            directory.clear_creation_mark()
        log_database = leveldb.open_database(directory.log_path, leveldb.LOG_OPTIONS, create=False)
        opened = [log_database]
        try:
            return cls._recover(directory, log_database, opened)
        except leveldb.LevelError as error:
            for database in opened:
                database.close()
            raise leveldb.translate(directory.member, error) from error
        except BaseException:
            for database in opened:
                database.close()
            raise

    @classmethod
    def _recover(cls, directory: DataDir, log_database: Database, opened: list[Database]) -> Engine:
        log_chain = BatchChain.load(log_database, raft_log.CHAIN_PREFIX, directory.log_path)
        found = recovery.read_log(log_database, directory.log_path)
        log = RaftLog(log_database, directory.log_path, log_chain)
        log.restore(found.start, found.runs, min(found.first_stored - 1, found.start[0]))
        state_missing = not directory.state_path.exists()
        state_database = None
        if not state_missing:
            state_database = leveldb.open_database(directory.state_path, leveldb.STATE_OPTIONS, create=False)
            opened.append(state_database)
        content = _compare(directory, log, found, state_database)
        case = recovery.decide(recovery.CONTENT_CASES, content)
        message = case.message(directory.member, **recovery.facts(content))
        if case.action is Action.REFUSE:
            raise DamagedError(message)
        if state_database is None:
            logger.warning("rebuilding the applied state", extra={"fields": {"reason": message}})
            _create_database(directory.state_path, leveldb.STATE_OPTIONS, IDENTITY_KEY, found.identity)
            state_database = leveldb.open_database(directory.state_path, leveldb.STATE_OPTIONS, create=False)
            opened.append(state_database)
        chain = BatchChain.load(state_database, CHAIN_PREFIX, directory.state_path)
        state = StateBackend(state_database, directory.state_path)
        engine = cls(directory, log, state, (log_database, state_database), chain)
        engine.applied_index = engine._applied_written = content.applied_index
        engine.applied_term = content.applied_term
        stored = state.get(CONF_STATE_KEY)
        log.hard_state = found.hard_state or HardState()
        log.conf_state = found.bootstrap
        if stored is not None:
            log.conf_state = recovery.parse_record(
                directory.state_path, CONF_STATE_KEY, stored, recovery.parse_conf_state
            )
        engine.is_new = found.hard_state is None
        return engine

    def close(self) -> None:
        """Write what is open (unless writing failed), wait for the disk, let everything go."""
        if self._defragmentation is not None:
            self._defragmentation.cancel()
        self._thread.stop()
        if self.failed is None and self.state.has_open_writes:
            job = self.take_job(None, ())
            job.run()
            self._finish(job)
        self._log_database.close()
        self._state_database.close()
        self._directory.unlock()

    def bootstrap(self, conf_state: ConfState, hard_state: HardState, entries: Sequence[Entry] = ()) -> None:
        """The first write of a new member: its group as of index 0, and the entries that describe it. Synced."""
        assert self.is_new
        batch = self._log_database.write_batch(sync=self.fsync)
        record = conf_state.to_proto().SerializeToString(deterministic=True)
        batch.put(raft_log.BOOTSTRAP_KEY, record)
        self.log.hard_state = hard_state
        self.log.conf_state = conf_state
        size = self.log.append(batch, entries)
        self.log.extend_chain(batch, size)
        try:
            batch.write()
        except leveldb.LevelError as error:
            raise leveldb.translate(self._directory.log_path, error) from error
        self.is_new = False

    # --- jobs ---

    def set_applied(self, index: int, term: int) -> None:
        """Everything up to entry `index` of `term` is in `state` now; travels with the next job."""
        assert index >= self.applied_index
        self.applied_index = index
        self.applied_term = term

    def set_conf_state(self, conf_state: ConfState) -> None:
        """The group changed with an entry that is being applied; call before set_applied of that entry."""
        self.log.conf_state = conf_state
        self.state.put(CONF_STATE_KEY, conf_state.to_proto().SerializeToString(deterministic=True))

    def note_hard_state(self, hard_state: HardState) -> None:
        """A hard state that needs no sync of its own (only the commit index moved): it goes with the next job.

        Spares a lone put its second trip to the disk; a commit index that is lost is learnt again from the quorum.
        """
        self.log.hard_state = hard_state

    @property
    def has_open_writes(self) -> bool:
        """Whether applied changes wait for a job. Small ones are not taken along by jobs with entries, since the log
        can bring them back: take a job without entries for them from time to time (say, on a tick)."""
        return self.state.has_open_writes

    @property
    def should_write_early(self) -> bool:
        """Whether so much is applied and not written that a job should be taken for it now, before it grows into a
        batch whose making holds the loop."""
        state = self.state
        large = (
            state.open_writes >= limits.STATE_BATCH_RECORDS_EARLY or state.open_bytes >= limits.STATE_BATCH_BYTES_EARLY
        )
        return large and self.failed is None and self._thread.queued < limits.STATE_JOBS_QUEUED_MAX

    def take_job(self, hard_state: HardState | None, entries: Sequence[Entry], *, must_sync: bool = False) -> DiskJob:
        """Close what is open into a job. Raises StorageError when an earlier job failed. Hot road."""
        if self.failed is not None:
            raise self.failed
        job = DiskJob(self._directory.log_path, self._directory.state_path, self.sync_durations, self.commit_durations)
        state = self.state
        worthwhile = state.open_writes >= limits.STATE_BATCH_RECORDS or state.open_bytes >= limits.STATE_BATCH_BYTES
        if worthwhile or (not entries and state.has_open_writes):
            self._add_state(job)
        truncating = self._truncate_to > self.log.start_index or self.log.has_truncated
        if hard_state is not None:
            self.log.hard_state = hard_state
        if hard_state is not None or entries or truncating:
            batch = self._log_database.write_batch(sync=must_sync and self.fsync)
            size = self.log.append(batch, entries)
            if truncating:
                self._add_truncation(batch)
            self.log.extend_chain(batch, size)
            job.log_batch = batch
            job.entry_count = len(entries)
            job.data_bytes += size
            job.must_sync = must_sync
        return job

    def _add_state(self, job: DiskJob) -> None:
        batch = self._state_database.write_batch(sync=False)
        self.state.put(APPLIED_KEY, raft_log.pack_pair(self.applied_index, self.applied_term))
        job.overlay, size = self.state.close_batch(batch)
        self._chain.extend(batch, size)
        job.data_bytes += size
        job.state_batch = batch
        self._applied_written = self.applied_index
        due = self.applied_index - self._truncation_mark > self.snapshot_count
        if due and not self._state_sync_running:
            job.sync_state = self.fsync
            job.truncate_to = max(self.applied_index - self.catchup_entries, 0)
            self._truncation_mark = self.applied_index
            self._state_sync_running = True

    def _add_truncation(self, batch: leveldb.Batch) -> None:
        if self._truncate_to > self.log.start_index:
            self.log.truncate(batch, self._truncate_to)
        self.log.delete_truncated(batch, limits.LOG_TRUNCATE_ENTRIES_PER_JOB)

    def submit(self, job: DiskJob, on_done: Callable[[DiskJob], None], loop: AbstractEventLoop) -> bool:
        """Run a job. True: it ran here and now, look at job.error. False: on_done(job) comes on `loop`.

        Jobs run in the order of submission. A small one with nothing before it runs at once while syncs are fast.
        """
        small = job.entry_count <= limits.INLINE_JOB_ENTRIES and job.data_bytes <= limits.INLINE_JOB_BYTES
        alone = self._thread.queued == 0 and small and not job.sync_state
        if alone and self._average_sync_seconds < self.inline_sync_seconds:
            job.run()
            self._finish(job)
            return True

        def finish(finished: DiskJob) -> None:
            self._finish(finished)
            on_done(finished)

        self._thread.submit(job, finish, loop)
        return False

    def _finish(self, job: DiskJob) -> None:
        if job.error is not None:
            # What was not written stays visible: nobody may take an older value for the current one.
            self.failed = self.failed or job.error
            return
        if job.overlay is not None:
            self.state.written(job.overlay)
        if job.truncate_to:
            self._truncate_to = max(self._truncate_to, job.truncate_to)
            self._state_sync_running = False
        if job.must_sync:
            self._average_sync_seconds += _AVERAGE_WEIGHT * (job.sync_seconds - self._average_sync_seconds)

    # --- sizes and memory ---

    @property
    def state_bytes(self) -> int:
        """What the applied state takes on disk: the last look at its files and what was written since. Cheap."""
        return self._disk_bytes + self.state.written_bytes - self._written_at_scan

    def refresh_sizes(self) -> int:
        """Look at the files anew (some tens of microseconds); returns state_bytes."""
        self._written_at_scan = self.state.written_bytes
        self._disk_bytes = leveldb.disk_bytes(self._directory.state_path)
        return self._disk_bytes

    def log_bytes(self) -> int:
        """What the raft log takes on disk, from its files."""
        return leveldb.disk_bytes(self._directory.log_path)

    def trim_memory(self) -> int:
        """Give back resident pages of mapped tables when they are many, one slice a call (3 ms); returns bytes.

        Meant for every tick: it goes on where it stopped, and costs 10 us when there is nothing to do.
        """
        if mapped.resident_file_bytes() <= limits.RESIDENT_MAPPED_BYTES:
            return 0
        released, self._trim_from = mapped.release(self._directory.state_path, self._trim_from, limits.TRIM_SLICE_BYTES)
        return released

    def defragment(
        self,
        loop: AbstractEventLoop,
        on_done: Callable[[StorageError | None], None],
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Rewrite the applied state's files without what was deleted, beside normal work.

        One at a time: callers that come while one runs are told of its end. `on_progress(slices done, slices)`.
        """
        assert self._defragmentation is None, "one at a time; see `defragmenting`"

        def done(error: StorageError | None) -> None:
            self._defragmentation = None
            self.refresh_sizes()
            on_done(error)

        self._defragmentation = Defragmentation(
            self._state_database, self._directory.state_path, loop, on_progress, done
        )
        self._defragmentation.start()

    @property
    def defragmenting(self) -> bool:
        """Whether a defragmentation runs."""
        return self._defragmentation is not None


def _create(directory: DataDir) -> None:
    """Make both databases with a common identity; the directory counts once FORMAT is there."""
    directory.begin_creation()
    identity = os.urandom(16)
    _create_database(directory.log_path, leveldb.LOG_OPTIONS, raft_log.IDENTITY_KEY, identity)
    _create_database(directory.state_path, leveldb.STATE_OPTIONS, IDENTITY_KEY, identity)
    directory.finish_creation()


def _create_database(path: Path, options: dict[str, Any], identity_key: bytes, identity: bytes) -> None:
    """Make a database under another name first, so that one of this name always has its identity."""
    making = path.with_name(path.name + ".new")
    try:
        shutil.rmtree(making, ignore_errors=True)
        database = leveldb.open_database(making, options, create=True)
        try:
            database.put(identity_key, identity, sync=True)
        finally:
            database.close()
        leveldb.sync_directory(making)
        making.rename(path)
        leveldb.sync_directory(path.parent)
    except leveldb.LevelError as error:
        raise leveldb.translate(making, error) from error
    except OSError as error:
        raise DataDirError(f"cannot create {path}: {error.strerror}") from error


def _compare(directory: DataDir, log: RaftLog, found: recovery.LogContent, state: Database | None) -> recovery.Content:
    """The facts that the second table is about."""
    applied_index = applied_term = 0
    identity = found.identity
    if state is not None:
        identity = state.get(IDENTITY_KEY, verify_checksums=True) or b""
        record = state.get(APPLIED_KEY, verify_checksums=True)
        if record is not None:
            applied_index, applied_term = recovery.parse_record(
                directory.state_path, APPLIED_KEY, record, raft_log.unpack_pair
            )
    known = log.start_index <= applied_index <= log.last_index()
    return recovery.Content(
        state_missing=state is None,
        identity_matches=identity == found.identity and bool(identity),
        start_index=log.start_index,
        last_index=found.last_index,
        hard_state_missing=found.hard_state is None and found.last_index > 0,
        commit_index=found.hard_state.commit if found.hard_state is not None else 0,
        applied_index=applied_index,
        applied_term=applied_term,
        log_term_at_applied=log.term(applied_index) if known else None,
    )
