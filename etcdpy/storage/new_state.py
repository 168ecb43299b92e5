"""An applied state that arrives from another member: built beside the one that is served, then put in its place.

    tmp-state-*   --finish-->   durable   --install-->   state.next   --log batch-->   state

The log's batch decides. It says that the log starts anew after the snapshot's index, and it carries the new state's
identity; so from the moment that it is durable the old state belongs to no log, and until then the new one does not.
docs/design/recovery.md says what a start makes of each point at which that may have ended.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.storage import leveldb, raft_log
from etcdpy.storage.errors import StorageError
from etcdpy.storage.meta import APPLIED_KEY, CONF_STATE_KEY, IDENTITY_KEY
from etcdpy.storage.state import StateBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from etcdpy.raft.types import ConfState
    from etcdpy.storage.data_dir import DataDir
    from etcdpy.storage.defragment import Defragmentation
    from etcdpy.storage.leveldb import Batch, Database

IDENTITY_BYTES: Final = 16


class NewState:
    """Filled by `put`. What `flush` and `finish` return is to be called, in that order, on any one thread at a time:
    it waits for the disk and raises StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = os.urandom(IDENTITY_BYTES)
        self.index = 0
        self.term = 0
        self.conf_state: ConfState | None = None
        """The group as of `index`, once finished."""
        self._database: Database = leveldb.open_database(path, leveldb.STATE_OPTIONS, create=True)
        self._batch: Batch = self._database.write_batch(sync=False)
        self._records = 0
        self._bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key. 0.3 us."""
        self._batch.put(key, value)
        self._records += 1
        self._bytes += len(key) + len(value)

    @property
    def should_flush(self) -> bool:
        """Whether a batch has gathered that is worth a trip to the disk, and more would only take memory."""
        return self._bytes >= limits.NEW_STATE_BATCH_BYTES or self._records >= limits.NEW_STATE_BATCH_RECORDS

    def flush(self) -> Callable[[], None]:
        """Close the open batch; the call writes it."""
        batch, self._batch = self._batch, self._database.write_batch(sync=False)
        self._records = self._bytes = 0

        def write() -> None:
            with leveldb.translated(self.path):
                batch.write()

        return write

    def finish(self, index: int, term: int, conf_state: ConfState) -> Callable[[], None]:
        """This is the state as of entry `index` of `term`. After the call all of it is durable."""
        self.index, self.term, self.conf_state = index, term, conf_state
        self.put(APPLIED_KEY, raft_log.pack_pair(index, term))
        self.put(CONF_STATE_KEY, conf_state.to_proto().SerializeToString(deterministic=True))
        self.put(IDENTITY_KEY, self.identity)
        write = self.flush()

        def write_and_sync() -> None:
            write()
            with leveldb.translated(self.path):
                leveldb.sync_write_ahead(self.path)

        return write_and_sync

    @property
    def backend(self) -> StateBackend:
        """To read what was flushed, until it is installed or discarded."""
        return StateBackend(self._database, self.path)

    def close(self) -> None:
        """Let go of the files. Waits for LevelDB's own thread."""
        self._database.close()

    def discard(self) -> None:
        """It is not wanted: give the disk space back. Waits for the disk."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)


class Installation:
    """One trip to the disk that puts a finished state in place; made by Engine.install, run once after all jobs before.

    `error` is None and `database` the new state's when it went well. Otherwise the engine has failed, and the recovery
    tables decide at the next start.
    """

    def __init__(
        self,
        directory: DataDir,
        new_state: NewState,
        log_batch: Batch,
        old: Database,
        defragmentation: Defragmentation | None,
    ) -> None:
        self.new_state = new_state
        self.error: StorageError | None = None
        self.database: Database | None = None
        self._directory = directory
        self._log_batch = log_batch
        self._old = old
        self._defragmentation = defragmentation
        self._retired = directory.temporary("retired-state")

    def run(self) -> None:
        """Do it. Never raises: see `error`."""
        try:
            for step in self.steps():
                step()
        except StorageError as error:
            self.error = error

    def steps(self) -> Iterator[Callable[[], None]]:
        """What happens, in order. Each may be the last before a crash."""
        yield self._set_beside
        yield self._commit
        yield self._retire
        yield self._put_in_place
        yield self._open

    def _set_beside(self) -> None:
        with leveldb.translated(self._directory.member):
            self.new_state.close()
            self.new_state.path.rename(self._directory.next_state_path)
            leveldb.sync_directory(self._directory.member)

    def _commit(self) -> None:
        with leveldb.translated(self._directory.log_path):
            self._log_batch.write()

    def _retire(self) -> None:
        if self._defragmentation is not None:
            self._defragmentation.cancel()
        with leveldb.translated(self._directory.member):
            self._old.close()
            self._directory.state_path.rename(self._retired)

    def _put_in_place(self) -> None:
        with leveldb.translated(self._directory.member):
            self._directory.put_next_state_in_place()

    def _open(self) -> None:
        self.database = leveldb.open_database(self._directory.state_path, leveldb.STATE_OPTIONS, create=False)

    def clean_up(self) -> None:
        """Give the old state's disk space back. Waits for the disk; a crash leaves it to the next start."""
        shutil.rmtree(self._retired, ignore_errors=True)
