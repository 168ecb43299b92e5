"""Owns a member's data directory: the lock, both databases, and every trip to the disk.

    engine = Engine.open(path)                      recovery; raises DataDirError, DamagedError, StorageError
    if engine.is_new: engine.bootstrap(...)
    node = RawNode(Config(storage=engine.log, applied=engine.applied_index, ...))
    ...
    job = engine.take_job(ready.hard_state, ready.entries, must_sync=ready.must_sync)
    if engine.submit(job, on_done): ...             done already, on the loop
    else: ...                                       on_done(job) comes later, on the loop
    if job.error is not None: ...                   stop acknowledging and end the process; see StorageError

What is applied goes into `engine.state` and travels with the next job, in one atomic batch with the applied index. An
entry that is applied in slices holds it back until its end (`hold_state`), so a crash finds all of it or nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.histogram import COMMIT_SECONDS, Histogram
from etcdpy.storage import leveldb, mapped, raft_log
from etcdpy.storage.chain import BatchChain
from etcdpy.storage.data_dir import DataDir
from etcdpy.storage.data_keys import LOG
from etcdpy.storage.defragment import Defragmentation
from etcdpy.storage.disk_thread import DiskThread
from etcdpy.storage.frozen_view import FrozenView
from etcdpy.storage.job import DiskJob
from etcdpy.storage.meta import APPLIED_KEY, CHAIN_PREFIX, CONF_STATE_KEY
from etcdpy.storage.new_state import Installation, NewState, RetiredState
from etcdpy.storage.opening import open_databases
from etcdpy.storage.reencryption import Reencryption
from etcdpy.storage.sealed_database import NAMED_KEY

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import ConfState, HardState
    from etcdpy.storage.errors import StorageError
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.storage.opening import Opened
    from etcdpy.storage.reencryption import AsideJob
    from etcdpy.storage.sealed_database import SealedDatabase
    from etcdpy.storage.table_rewriting import TableRewriting

_WEIGHT_BELOW: Final = 0.2
_WEIGHT_ABOVE: Final = 0.01
"""Of the newest write in what one takes, by the side on which it lies. So slow ones count when they are many or very
slow: beside other programs every second sync waits for a processor, and then tells nothing of the disk."""


class LogHold:
    """Keeps the log from being truncated; see Engine.hold_log."""

    __slots__ = ("_holds",)

    def __init__(self, holds: dict[LogHold, int]) -> None:
        self._holds = holds

    def release(self) -> None:
        """Let it be truncated. Again is no error."""
        self._holds.pop(self, None)


class Engine:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, directory: DataDir, opened: Opened) -> None:
        self.log = opened.log
        self.state = opened.state
        self.is_new = opened.is_new
        """Nothing was ever written: the server must bootstrap or join."""
        self.applied_index, self.applied_term = opened.applied
        """As in the newest job; see set_applied."""
        self.failed: StorageError | None = None
        """Set once a write failed; nothing is written after that."""
        self.sync_durations = Histogram(COMMIT_SECONDS)
        """etcd_disk_wal_fsync_duration_seconds."""
        self.commit_durations = Histogram(COMMIT_SECONDS)
        """etcd_disk_backend_commit_duration_seconds."""
        self.state_save_durations = Histogram(COMMIT_SECONDS)
        """Syncs of the applied state, after which the log may be truncated."""
        self.snapshot_count = limits.SNAPSHOT_COUNT_DEFAULT
        self.catchup_entries = limits.SNAPSHOT_CATCHUP_ENTRIES_DEFAULT
        self.fsync = True
        self.lowest_match: Callable[[], int] = lambda: sys.maxsize
        """The last entry that each member which takes entries at present has; asked before the log is truncated."""
        self.inline_write_seconds = limits.INLINE_WRITE_SECONDS
        """While the disk takes less than this for a write, a job with nothing before it runs on the loop."""
        self._directory = directory
        self._log_database = opened.log_database
        self._state_database = opened.state_database
        self._state_path = directory.state_path
        self._retired: list[RetiredState] = []
        self._held_batch: leveldb.Batch | None = None
        """Of the applied state, begun in `hold_state`, taken by a job after `release_state`."""
        self._held = False
        self._undecided: NewState | None = None
        """Whose installation failed: only the next start can tell whether it counts."""
        self._chain = opened.chain
        self._thread = DiskThread()
        self._write_seconds = 0.0
        """What the slower write of a job that syncs takes when nothing but the disk is in its way."""
        self._truncation_mark = 0
        self._truncate_to = 0
        self._holds: dict[LogHold, int] = {}
        self._installation: Installation | None = None
        self._state_sync_running = False
        self._defragmentation: Defragmentation | None = None
        self._disk_bytes = 0
        self._written_at_scan = 0
        self._trim_from = 0
        self.encryption = opened.encryption
        """None: nothing is encrypted."""
        self.states_installed = 0
        self.table_rewriting: TableRewriting | None = None
        """What makes files anew at present, on its own thread."""
        self._open_views: set[FrozenView] = set()
        self._new_states: set[NewState] = set()

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
        masters: MasterKeys | None = None,
    ) -> Engine:
        """Take the lock, then do what the tables of recovery.py say. `masters` are the keys for encryption at rest.

        Raises DataDirError (locked, foreign, other version, not usable; EncryptionError: keys missing or wrong),
        DamagedError (contradicts itself) or StorageError.
        """
        directory = DataDir(path, wal_dir)
        directory.lock()
        try:
            engine = cls(directory, open_databases(directory, masters))
        except BaseException:
            directory.unlock()
            raise
        engine.snapshot_count = snapshot_count
        engine.catchup_entries = catchup_entries
        engine.fsync = not unsafe_no_fsync
        engine._truncation_mark = engine.log.start_index and engine.log.start_index + catchup_entries
        engine.refresh_sizes()
        return engine

    def close(self) -> None:
        """Write what is open (unless writing failed), wait for the disk, let everything go."""
        self._end_helpers()
        self._thread.stop()
        if self._installation is not None:
            self._installed(self._installation)
        if self.failed is None and self.has_open_writes:
            job = self.take_job(None, ())
            job.run()
            self._finish(job)
        self._log_database.close()
        self._state_database.close()
        for retired in self._retired:
            retired.close()
        if self._undecided is not None:
            self._undecided.database.close()
        self._directory.unlock()

    def _end_helpers(self) -> None:
        """No other thread uses the state's database after this."""
        if self._defragmentation is not None:
            self._defragmentation.cancel()
        if self.table_rewriting is not None:
            self.table_rewriting.cancel()

    def bootstrap(self, conf_state: ConfState, hard_state: HardState, entries: Sequence[Entry] = ()) -> None:
        """The first write of a new member: its group as of index 0, and the entries that describe it. Synced."""
        assert self.is_new
        batch = self._log_database.write_batch(sync=self.fsync)
        record = conf_state.to_proto().SerializeToString(deterministic=True)
        batch.put(raft_log.BOOTSTRAP_KEY, record)
        self.log.hard_state = hard_state
        self.log.conf_state = conf_state
        self.log.append(batch, entries)
        with leveldb.translated(self._directory.log_path):
            batch.write()
        self.is_new = False

    def write_now(self, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """Replace the log's end before the member takes part: for an operator who decides over raft's head. Synced.
        Raises StorageError."""
        job = self.take_job(hard_state, entries, must_sync=True)
        job.run()
        self._finish(job)
        if job.error is not None:
            raise job.error

    # --- jobs ---

    def set_applied(self, index: int, term: int) -> None:
        """Everything up to entry `index` of `term` is in `state` now; travels with the next job."""
        assert index >= self.applied_index
        self.applied_index = index
        self.applied_term = term
        self.log.applied = index, term

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
        return self.state.has_open_writes and not self._held

    def hold_state(self) -> None:
        """From now on an entry is applied in slices: no job takes any of the applied state before `release_state`, and
        frozen views do not show what is written until then."""
        assert not self._held, "one at a time"
        self._held = True
        self._held_batch = self._held_batch or self._state_database.write_batch(sync=False)
        self.state.hold(self._held_batch)

    def gather_state(self) -> None:
        """Between the slices: put what they wrote into the batch before it is more than 1 ms of work."""
        if self._held and self.state.loose_writes >= limits.STATE_BATCH_RECORDS_EARLY:
            assert self._held_batch is not None
            self.state.gather(self._held_batch)

    def release_state(self) -> None:
        """The entry is applied as a whole. Follows the set_applied that counts it."""
        self._held = False
        self.state.release()

    @property
    def should_write_early(self) -> bool:
        """Whether so much is applied and not written that a job should be taken for it now, before it grows into a
        batch whose making holds the loop."""
        state = self.state
        large = (
            state.open_writes >= limits.STATE_BATCH_RECORDS_EARLY or state.open_bytes >= limits.STATE_BATCH_BYTES_EARLY
        )
        free = self.failed is None and self._installation is None and not self._held
        return large and free and self._thread.queued < limits.STATE_JOBS_QUEUED_MAX

    def take_job(self, hard_state: HardState | None, entries: Sequence[Entry], *, must_sync: bool = False) -> DiskJob:
        """Close what is open into a job. Raises StorageError when an earlier job failed. Hot road."""
        if self.failed is not None:
            raise self.failed
        assert self._installation is None, "the state is being replaced"
        job = DiskJob(self._directory.log_path, self._state_path, self.sync_durations, self.commit_durations)
        state = self.state
        worthwhile = state.open_writes >= limits.STATE_BATCH_RECORDS or state.open_bytes >= limits.STATE_BATCH_BYTES
        if not self._held and (worthwhile or (not entries and state.has_open_writes)):
            self._add_state(job)
        truncate_to = min(self._truncate_to, *self._holds.values()) if self._holds else self._truncate_to
        truncating = truncate_to > self.log.start_index or self.log.has_truncated
        if hard_state is not None:
            self.log.hard_state = hard_state
        if hard_state is not None or entries or truncating:
            batch = self._log_database.write_batch(sync=must_sync and self.fsync)
            size = self.log.append(batch, entries)
            if truncating:
                self._add_truncation(batch, truncate_to)
            job.log_batch = batch
            job.data_bytes += size
            job.must_sync = must_sync
        return job

    def _add_state(self, job: DiskJob) -> None:
        batch, self._held_batch = self._held_batch or self._state_database.write_batch(sync=False), None
        self.state.put(APPLIED_KEY, raft_log.pack_pair(self.applied_index, self.applied_term))
        job.overlays, size = self.state.close_batch(batch)
        self._chain.extend(batch, size)
        job.data_bytes += size
        job.state_batch = batch
        due = self.applied_index - self._truncation_mark > self.snapshot_count
        if due and not self._state_sync_running:
            job.sync_state = self.fsync
            job.truncate_to = self._truncation_point()
            self._truncation_mark = self.applied_index
            self._state_sync_running = True

    def _add_truncation(self, batch: leveldb.Batch, truncate_to: int) -> None:
        if truncate_to > self.log.start_index:
            self.log.truncate(batch, truncate_to)
        self.log.delete_truncated(batch, limits.LOG_TRUNCATE_ENTRIES_PER_JOB)

    def _truncation_point(self) -> int:
        """Up to where the log may go: entries stay for members that lag, and one round longer for one that would need
        a snapshot although it takes entries right now."""
        point = max(self.applied_index - self.catchup_entries, 0)
        return min(point, max(self.lowest_match(), point - self.snapshot_count, 0))

    def hold_log(self, index: int) -> LogHold:
        """Keep every entry after `index` until the hold is released: somebody gets the state as of `index` first."""
        hold = LogHold(self._holds)
        self._holds[hold] = index
        return hold

    def submit(self, job: DiskJob, on_done: Callable[[DiskJob], None], loop: AbstractEventLoop) -> bool:
        """Run a job. True: it ran here and now, look at job.error. False: on_done(job) comes on `loop`.

        Jobs run in the order of submission. One with nothing before it runs at once while the disk is fast: handing it
        over takes the interpreter lock three times, and at 150 entries a tenth of all that a member does for them.
        """
        alone = self._thread.queued == 0 and job.data_bytes <= limits.INLINE_JOB_BYTES and not job.sync_state
        if alone and self._write_seconds < self.inline_write_seconds:
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
        if job.overlays:
            self.state.written(job.overlays)
        if job.truncate_to:
            self._truncate_to = max(self._truncate_to, job.truncate_to)
            self._state_sync_running = False
            self.state_save_durations.observe(job.state_sync_seconds)
        if job.must_sync:
            more = max(job.sync_seconds, job.state_write_seconds) - self._write_seconds
            self._write_seconds += more * (_WEIGHT_ABOVE if more > 0 else _WEIGHT_BELOW)

    # --- snapshots ---

    def frozen_view(self) -> FrozenView:
        """The applied state as it is now; of an entry that is applied in slices it shows nothing."""
        applied = self.applied_index, self.applied_term
        newer = self.state.frozen_layers()
        database, path = self._state_database, self._state_path
        return FrozenView(database, path, newer, applied, self.log.conf_state, self._open_views)

    def temporary_path(self, kind: str) -> Path:
        """A name in the data directory for a file that no restart keeps."""
        return self._directory.temporary(kind)

    def new_state(self) -> NewState:
        """An empty state beside this one, to be filled and installed or discarded. Raises StorageError."""
        return NewState(self._directory, self.encryption, self._new_states)

    def install(
        self,
        new_state: NewState,
        hard_state: HardState,
        on_done: Callable[[Installation], None],
        loop: AbstractEventLoop,
    ) -> None:
        """Put a finished state in place of this one, for good or not at all, after the jobs that were submitted.

        Until `on_done(installation)` comes on `loop`, reads see the old state and no job may be taken. In that very
        call reads begin to see the new one, so whoever has drawn conclusions from the old must draw them anew there.
        """
        assert new_state.conf_state is not None, "not finished"
        assert self._installation is None, "one at a time"
        if self.failed is not None:
            raise self.failed
        self.log.hard_state = hard_state
        batch = self._log_database.write_batch(sync=self.fsync)
        self.log.start_anew(batch, new_state.index, new_state.term, new_state.identity)
        self._installation = Installation(self._directory, new_state, batch)

        def finish(finished: Installation) -> None:
            self._installed(finished)
            on_done(finished)

        self._thread.submit(self._installation, finish, loop)

    @property
    def installing(self) -> bool:
        """Whether a state is being put in place: no job may be taken."""
        return self._installation is not None

    def _installed(self, installation: Installation) -> None:
        if self._installation is not installation:
            return  # closed meanwhile
        self._installation = None
        if installation.error is not None:
            self.failed = self.failed or installation.error
            self._undecided = installation.new_state
            return
        new_state = installation.new_state
        assert new_state.conf_state is not None
        helpers = [each for each in (self._defragmentation, self.table_rewriting) if each is not None]
        self._retired.append(RetiredState(self._directory, self._state_path, self._state_database, helpers))
        self._state_database, self._state_path = new_state.database, new_state.path
        self.state.replace(new_state.database, new_state.path)
        self._held_batch, self._held = None, False
        self._chain = BatchChain(CHAIN_PREFIX, 1, 1)
        self.log.conf_state = new_state.conf_state
        self.applied_index = self._truncation_mark = new_state.index
        self.applied_term = new_state.term
        self.log.applied = new_state.index, new_state.term
        self._truncate_to = 0
        self._state_sync_running = False
        self.states_installed += 1
        self._new_states.discard(new_state)
        self.refresh_sizes()

    def take_retired(self) -> list[RetiredState]:
        """States that others took the place of: to be removed, by a thread, once nobody reads them any more."""
        retired, self._retired = self._retired, []
        return retired

    # --- sizes and memory ---

    @property
    def state_bytes(self) -> int:
        """What the applied state takes on disk: the last look at its files and what was written since. Cheap."""
        return self._disk_bytes + self.state.written_bytes - self._written_at_scan

    def refresh_sizes(self) -> int:
        """Look at the files anew (some tens of microseconds); returns state_bytes."""
        self._written_at_scan = self.state.written_bytes
        self._disk_bytes = leveldb.disk_bytes(self._state_path)
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
        released, self._trim_from = mapped.release(self._state_path, self._trim_from, limits.TRIM_SLICE_BYTES)
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

        self._defragmentation = Defragmentation(self._state_database, self._state_path, loop, on_progress, done)
        self._defragmentation.start()

    @property
    def defragmenting(self) -> bool:
        """Whether a defragmentation runs."""
        return self._defragmentation is not None

    # --- encryption ---

    @property
    def encrypts_files(self) -> bool:
        """Whether what is put beside the databases for a while is to be encrypted."""
        return self.encryption is not None and self.encryption.sealing

    def reencryption(self, loop: AbstractEventLoop, *, alone: bool = False) -> Reencryption:
        """What brings everything stored into the form that is written now; only with encryption. `alone`: no raft uses
        this engine."""
        return Reencryption(self, loop, alone=alone)

    def sealed(self, name: str) -> tuple[SealedDatabase, Path]:
        """A database by its name in data_keys.DATABASES, and where it is; only with encryption."""
        assert self.encryption is not None
        if name == LOG:
            return self._log_database, self._directory.log_path
        return self._state_database, self._state_path

    def log_batch(self) -> leveldb.Batch:
        """An empty batch for what the log holds already."""
        return self._log_database.write_batch(sync=False)

    def run_aside(self, job: AsideJob, loop: AbstractEventLoop) -> None:
        """Run a job on the disk thread, after those before it."""

        def finish(finished: AsideJob) -> None:
            finished.done = True
            self.failed = self.failed or finished.error

        self._thread.submit(job, finish, loop)

    @property
    def settled(self) -> bool:
        """Whether nothing but the two databases holds what is stored: no snapshot, no state that comes or goes."""
        if self._open_views or self._new_states or self._installation is not None:
            return False
        others = set(self._directory.other_states()) - {self._state_path}
        return not others

    def clear_database_notes(self) -> None:
        """Empty what LevelDB writes for people: it names keys."""
        leveldb.clear_notes(self._state_path)

    def names_in_manifest(self) -> bool:
        """Whether LevelDB still remembers names of users and roles as the bounds of tables. It forgets at a start."""
        return leveldb.notes_hold(self._state_path, NAMED_KEY)
