"""An applied state that arrives from another member: built beside the one that is served, then taken in its place.

    state.<identity>   --finish-->   durable   --install: a batch of the log-->   the state   --next start-->   state

The log's batch decides. It says that the log starts anew after the snapshot's index, and it names the new state's
identity; so from the moment that it is durable the old state belongs to no log, and until then the new one does not.
Nothing is closed or renamed on the way: whoever reads goes on reading, first in the one, then in the other.
docs/design/recovery.md says what a start makes of each point at which that may have ended.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy import limits
from etcdpy.storage import leveldb, raft_log
from etcdpy.storage.bulk_load import BulkLoad
from etcdpy.storage.data_keys import STATE
from etcdpy.storage.errors import StorageError
from etcdpy.storage.meta import APPLIED_KEY, CONF_STATE_KEY, IDENTITY_KEY
from etcdpy.storage.state import StateBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from etcdpy.raft.types import ConfState
    from etcdpy.storage.data_dir import DataDir
    from etcdpy.storage.encryption import Encryption
    from etcdpy.storage.leveldb import Batch, Database

IDENTITY_BYTES: Final = 16


class NewState:
    """Filled by `put` and `put_many`. What `flush` and `finish` return is to be called, in that order, on any one
    thread at a time: it waits for the disk and raises StorageError.

    Keys that come in order go straight into tables (bulk_load.py), all others into LevelDB once it is opened over
    these, so what comes later counts. With encryption, which has its own form of a record, all go into LevelDB.
    """

    def __init__(self, directory: DataDir, encryption: Encryption | None, open_states: set[NewState]) -> None:
        """`open_states` holds it until it is installed or discarded."""
        self.identity = os.urandom(IDENTITY_BYTES)
        self.path = directory.received_state_path(self.identity)
        self.index = 0
        self.term = 0
        self.conf_state: ConfState | None = None
        """The group as of `index`, once finished."""
        self._load: BulkLoad | None = None
        self._loose: list[tuple[bytes, bytes]] = []
        """What has to wait until LevelDB is open."""
        self._database: Database | None = None
        self._batch: Batch | None = None
        self._records = 0
        self._bytes = 0
        if encryption is None:
            with leveldb.translated(self.path):
                self.path.mkdir(parents=True)
            self._load = BulkLoad(self.path)
        else:
            raw = leveldb.open_database(self.path, leveldb.STATE_OPTIONS, create=True)
            self._database = encryption.database(STATE, raw, self.path)
        self._open_states = open_states
        open_states.add(self)

    @property
    def database(self) -> Database:
        """LevelDB over what was flushed. The first time this waits for the disk; then nothing more goes into tables."""
        if self._load is not None:
            with leveldb.translated(self.path):
                self._load.finish()()
            self._load = None
            self._database = leveldb.open_database(self.path, leveldb.STATE_OPTIONS, create=False)
        return self._database

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.put_many((key,), (value,))

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Set each key to its value. 0.7 us for one that comes in order."""
        self._records += len(keys)
        self._bytes += sum(map(len, keys)) + sum(map(len, values))
        if self._load is None:
            self._fill(zip(keys, values, strict=True))
        elif self._load.goes_on(keys):
            self._load.add(keys, values)
        else:
            self._loose += zip(keys, values, strict=True)

    def _fill(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        if self._batch is None:
            self._batch = self.database.write_batch(sync=False)
        for key, value in pairs:
            self._batch.put(key, value)

    @property
    def should_flush(self) -> bool:
        """Whether so much has gathered that it is worth a trip to the disk, and more would only take memory."""
        return self._bytes >= limits.NEW_STATE_BATCH_BYTES or self._records >= limits.NEW_STATE_BATCH_RECORDS

    def flush(self) -> Callable[[], None]:
        """Close what is open; the call writes it."""
        self._records = self._bytes = 0
        if self._load is None or self._has_much_loose:
            return self._close_batch()
        return partial(self._write, self._load.take())

    @property
    def _has_much_loose(self) -> bool:
        if len(self._loose) >= limits.NEW_STATE_BATCH_RECORDS:
            return True
        return sum([len(key) + len(value) for key, value in self._loose]) >= limits.NEW_STATE_BATCH_BYTES

    def _close_batch(self) -> Callable[[], None]:
        loose, self._loose = self._loose, []
        self._fill(loose)
        batch, self._batch = self._batch, None
        assert batch is not None
        return partial(self._write, batch.write)

    def _write(self, write: Callable[[], None]) -> None:
        with leveldb.translated(self.path):
            write()

    def finish(self, index: int, term: int, conf_state: ConfState) -> Callable[[], None]:
        """This is the state as of entry `index` of `term`. After the call all of it is durable."""
        self.index, self.term, self.conf_state = index, term, conf_state
        keys = (APPLIED_KEY, CONF_STATE_KEY, IDENTITY_KEY)
        group = conf_state.to_proto().SerializeToString(deterministic=True)
        self.put_many(keys, (raft_log.pack_pair(index, term), group, self.identity))

        def write_and_sync() -> None:
            self._close_batch()()
            with leveldb.translated(self.path):
                leveldb.sync_write_ahead(self.path)
                leveldb.sync_directory(self.path.parent)

        return write_and_sync

    @property
    def backend(self) -> StateBackend:
        """To read what was flushed, until it is installed or discarded."""
        return StateBackend(self.database, self.path)

    def discard(self) -> None:
        """It is not wanted: give the disk space back. Waits for the disk."""
        self._load = None
        if self._database is not None:
            leveldb.close_quietly(self._database)
        shutil.rmtree(self.path, ignore_errors=True)
        self._open_states.discard(self)


class Installation:
    """One trip to the disk that makes a finished state the one that counts; made by Engine.install, run once after all
    jobs before.

    When `error` is set the engine has failed, and the recovery tables decide at the next start.
    """

    def __init__(self, directory: DataDir, new_state: NewState, log_batch: Batch) -> None:
        self.new_state = new_state
        self.error: StorageError | None = None
        self._directory = directory
        self._log_batch: Batch | None = log_batch

    def run(self) -> None:
        """Do it. Never raises: see `error`."""
        try:
            self.commit()
        except StorageError as error:
            self.error = error

    def commit(self) -> None:
        """The step that decides. Raises StorageError."""
        assert self._log_batch is not None
        with leveldb.translated(self._directory.log_path):
            self._log_batch.write()
        self._log_batch = None


class Helper(Protocol):
    """What another thread does with a database."""

    def cancel(self) -> None:
        """End it, and wait for that."""
        ...


class RetiredState:
    """The state that another took the place of: open as long as somebody reads it."""

    def __init__(self, directory: DataDir, path: Path, database: Database, helpers: Sequence[Helper]) -> None:
        """`helpers` may use it on threads of their own."""
        self.path = path
        self._grave = directory.retired_path()
        self._database = database
        self._helpers = helpers

    def close(self) -> None:
        """Let go of the files. Waits for LevelDB's own thread. Again is no error."""
        for helper in self._helpers:
            helper.cancel()
        leveldb.close_quietly(self._database)

    def remove(self) -> None:
        """Nobody reads it any more: give its disk space back. Waits for the disk. A start does what a crash left."""
        self.close()
        with leveldb.translated(self.path):
            self.path.rename(self._grave)
        shutil.rmtree(self._grave, ignore_errors=True)
