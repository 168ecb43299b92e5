"""Brings what is stored into the form that is written now: encrypted, under a new key, or plaintext again.

    wait until nothing older is on its way to the disk
    state: each record of another form is put again as it is    ┐ in slices, until a round finds none
    log: each applied entry of another form, and the meta records ┘
    files: all made anew, so that no older form stays behind in them
    KEYS: complete; keys that only older forms needed are dropped

Beside normal work, on the loop. A start goes on with whatever a crash left: what has the present form is passed over.
"""

from __future__ import annotations

from contextlib import closing
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from etcdpy.raft.entry import decode_entry
from etcdpy.storage import raft_log
from etcdpy.storage.data_keys import LOG, STATE
from etcdpy.storage.errors import DamagedError, StorageError
from etcdpy.storage.leveldb import REPLACE, Batch, translated
from etcdpy.storage.log_records import split_record
from etcdpy.storage.sealed_database import SealedLog
from etcdpy.storage.table_rewriting import TableRewriting

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator
    from pathlib import Path

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.raft_log import RaftLog

REENCRYPT_SLICE_RECORDS: Final = 500
"""Records looked at in one slice of re-encryption: 0.5 ms when none needs it, 1.5 ms when all do."""

REENCRYPT_SLICE_BYTES: Final = 256 * 1024
"""Bytes rewritten in one slice of re-encryption: 1 ms."""

REENCRYPT_OPEN_BYTES: Final = 2 * 1024 * 1024
"""Applied state that waits to be written, above which re-encryption waits too."""

_LAST_KEY: Final = b"\xff" * 32
_META_KEYS: Final = (
    raft_log.BOOTSTRAP_KEY,
    raft_log.HARD_STATE_KEY,
    raft_log.IDENTITY_KEY,
    raft_log.START_KEY,
)


class Turn(Enum):
    """What a step ended with."""

    WORKED = "there is more to do"
    WAITS = "something else must happen first"


class AsideJob:
    """Something done after the jobs before it; see DiskThread."""

    def __init__(self, work: Callable[[], None], *, may_fail: bool = False) -> None:
        self._work = work
        self._may_fail = may_fail
        self.error: StorageError | None = None
        """After which nothing that is stored can be relied upon."""
        self.refusal: StorageError | None = None
        """Of work that may fail: nothing has changed."""
        self.done = False

    def run(self) -> None:
        """Never raises: see `error` and `refusal`."""
        try:
            self._work()
        except StorageError as error:
            if self._may_fail:
                self.refusal = error
            else:
                self.error = error


class _Renewal:
    """Makes the files of the log anew, a slice in each step."""

    def __init__(self, database: SealedLog, path: Path) -> None:
        self._database = database
        self._path = path
        self._first = 0
        self.finished = False

    def step(self) -> None:
        """Raises StorageError."""
        with translated(self._path):
            if not self._first:
                self._first = self._database.begin_renewal()
            self.finished = self._database.renew(self._first, REENCRYPT_SLICE_BYTES)


def _write_batch(batch: Batch, path: Path) -> None:
    """Without a sync."""
    with translated(path):
        batch.write()


class Reencryption:
    """One run, made by Engine.reencryption. `steps` does it."""

    def __init__(self, engine: Engine, loop: AbstractEventLoop, *, alone: bool) -> None:
        """`alone`: the member is stopped, so no entry can be replaced, and none will be applied."""
        assert engine.encryption is not None
        self._engine = engine
        self._encryption = engine.encryption
        self._loop = loop
        self._alone = alone
        self.rewritten = 0
        """Records so far."""
        self.done = {STATE: 0.0, LOG: 0.0}
        """Estimated part of each database that has the present form."""
        self.finishing = False
        """Everything has it, and the data keys are being stored: they must not be changed beside that."""

    def steps(self) -> Generator[Turn, None, None]:
        """Yields after a bounded piece of work, 2 ms. What it put into the state is written by whoever writes the
        state.

        Raises StorageError, and DamagedError for a record that cannot be read.
        """
        engine = self._engine
        yield from self._write(engine.log_batch())  # nothing older can come after it
        while True:
            installed = engine.states_installed
            yield from self._until_current(STATE, self._rewrite_state)
            yield from self._until_current(LOG, self._rewrite_log)
            while not engine.settled:
                self._check()
                yield Turn.WAITS
            if not (yield from self._rewrite_tables()):
                continue
            yield from self._renew_segments()
            if engine.states_installed == installed and engine.settled:
                break
        engine.clear_database_notes()
        self.finishing = True
        keys = self._encryption.finished()
        storing = yield from self._run_aside(AsideJob(partial(self._encryption.save, keys), may_fail=True))
        if storing.refusal is not None:
            raise storing.refusal
        self._encryption.take(keys)

    def _check(self) -> None:
        if self._engine.failed is not None:
            raise self._engine.failed

    def _until_current(
        self, name: str, round_: Callable[[], Generator[Turn, None, int]]
    ) -> Generator[Turn, None, None]:
        while (yield from round_()):
            yield Turn.WAITS
        self.done[name] = 1.0

    def _note(self, name: str, position: bytes, size: int) -> None:
        left = self._engine.sealed(name)[0].approximate_size(position, _LAST_KEY)
        self.done[name] = max(self.done[name], min(1 - left / size, 0.99) if size else 0.0)

    # --- the state ---

    def _rewrite_state(self) -> Generator[Turn, None, int]:
        """One round over all records; returns how many had another form."""
        stale, position = 0, b""
        size = self._engine.sealed(STATE)[0].approximate_size(b"", _LAST_KEY)
        while position is not None:
            self._check()
            found, following = self._state_slice(position)
            stale += found
            if following is None:
                break
            position = following
            self._note(STATE, position, size)
            yield Turn.WORKED
            while self._engine.state.open_bytes > REENCRYPT_OPEN_BYTES:
                self._check()
                yield Turn.WAITS
        unwritten = self._engine.state.unwritten()
        while not self._engine.state.are_written(unwritten):
            self._check()
            yield Turn.WAITS
        return stale

    def _state_slice(self, position: bytes) -> tuple[int, bytes | None]:
        """The records from `position` on, as many as there is time for. Looked at and put in one turn of the loop, so
        nothing can come between. Returns how many had another form, and where to go on; None at the end."""
        database = self._engine.sealed(STATE)[0]
        stale, following = self._slice(
            STATE, position, lambda key, record: self._engine.state.rewrite(*database.open_pair(key, record))
        )
        self.rewritten += stale
        return stale, following

    def _slice(self, name: str, position: bytes, rewrite: Callable[[bytes, bytes], None]) -> tuple[int, bytes | None]:
        """Look at a slice of records, and give those of another form to `rewrite`. Returns as `_state_slice`."""
        database = self._engine.sealed(name)[0]
        form = database.form
        stale = seen = size = 0
        with closing(database.records(position)) as records:
            for key, record in records:
                seen += 1
                if not form.is_current(key, record):
                    stale += 1
                    size += len(record)
                    rewrite(key, record)
                if seen >= REENCRYPT_SLICE_RECORDS or size >= REENCRYPT_SLICE_BYTES:
                    return stale, key + b"\0"
        return stale, None

    # --- the log ---

    def _rewrite_log(self) -> Generator[Turn, None, int]:
        """One round over all records; returns how many had another form, those that must wait included."""
        engine = self._engine
        while engine.log.has_truncated:
            batch = engine.log_batch()
            engine.log.delete_truncated(batch, REENCRYPT_SLICE_RECORDS)
            yield from self._write(batch)
        stale, position = 0, b""
        size = engine.sealed(LOG)[0].approximate_size(b"", _LAST_KEY)
        while position is not None:
            while engine.installing:
                self._check()
                yield Turn.WAITS
            batch = engine.log_batch()
            found, following = self._log_slice(batch, position)
            stale += found
            if found:
                yield from self._write(batch)
            if following is None:
                break
            position = following
            self._note(LOG, position, size)
            yield Turn.WORKED
        return stale

    def _log_slice(self, batch: Batch, position: bytes) -> tuple[int, bytes | None]:
        database, path = self._engine.sealed(LOG)
        return self._slice(
            LOG, position, lambda key, record: self._put_log_record(batch, key, database.open(key, record), path)
        )

    def _put_log_record(self, batch: Batch, key: bytes, value: bytes, path: Path) -> None:
        log = self._engine.log
        if key in _META_KEYS:
            batch.put(key, meta_record(log, key, value))
            self.rewritten += 1
            return
        index = int.from_bytes(key, "big")
        settled = log.last_index() if self._alone else min(log.last_index(), self._engine.applied_index)
        last = log.record_end(index)
        if not 0 < last <= settled:
            return  # about to be deleted, or it may be replaced yet
        try:
            entry = decode_entry(split_record(value)[-1])
        except (DecodeError, ValueError, IndexError) as error:
            raise DamagedError(f"{path}: entry {index} is not an entry ({error}); {REPLACE}") from error
        if (entry.index, entry.term) == (last, log.term(last)):  # else what replaces it is on its way to the disk
            batch.put(key, value)
            self.rewritten += 1

    def _write(self, batch: Batch) -> Generator[Turn, None, None]:
        yield from self._run_aside(AsideJob(partial(_write_batch, batch, self._engine.sealed(LOG)[1])))

    def _run_aside(self, job: AsideJob) -> Generator[Turn, None, AsideJob]:
        self._engine.run_aside(job, self._loop)
        while not job.done:
            yield Turn.WAITS
        self._check()
        return job

    # --- files ---

    def _renew_segments(self) -> Generator[Turn, None, None]:
        database, path = self._engine.sealed(LOG)
        assert isinstance(database, SealedLog)
        renewal = _Renewal(database, path)
        while not renewal.finished:
            yield from self._run_aside(AsideJob(renewal.step))

    def _rewrite_tables(self) -> Generator[Turn, None, bool]:
        """False when another state came in place of the one whose files these are."""
        rewriting = TableRewriting(*self._engine.sealed(STATE))
        self._engine.table_rewriting = rewriting
        rewriting.start()
        try:
            while rewriting.running:
                yield Turn.WAITS
        finally:
            rewriting.cancel()
            self._engine.table_rewriting = None
        if rewriting.error is not None:
            raise rewriting.error
        return rewriting.finished


def meta_record(log: RaftLog, key: bytes, stored: bytes) -> bytes:
    """What a meta record of the log says now; a job that is on its way may have changed what is stored."""
    if key == raft_log.HARD_STATE_KEY:
        return raft_log.pack_hard_state(log.hard_state)
    if key == raft_log.START_KEY:
        return raft_log.pack_pair(log.start_index, log.term(log.start_index))
    return stored
