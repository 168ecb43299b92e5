"""The whole state for clients that save it: Maintenance.Snapshot's files."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.errors import Code, StatusError, Timeout, TooManyRequests
from etcdpy.server import logs
from etcdpy.server.snapshot_files import OneAtATime, Workers
from etcdpy.server.state_file import Cancelled, StateFile
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from etcdpy.histogram import Histogram
    from etcdpy.storage.engine import Engine

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logs.get("etcdserver")


class SavedFile:
    """A state's file with its hash, for one reader; the api room's Backup."""

    def __init__(self, file: StateFile, workers: Workers) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._hashing = OneAtATime(workers)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def size_bytes(self) -> int:
        """See Backup."""
        return self._file.size_bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        """See Backup."""
        async for piece in self._file.pieces():
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
            if self._waiting_bytes >= limits.SNAPSHOT_WRITE_BYTES:
                await self._hashing.offer(self._take, urgent=self._waiting_bytes >= limits.SNAPSHOT_WAITING_BYTES_MAX)
            yield piece

    def _take(self) -> Callable[[], None]:
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = 0

        def update() -> None:
            for piece in waiting:
                self._digest.update(piece)

        return update

    async def sha256(self) -> bytes:
        """See Backup."""
        await self._hashing.offer(self._take, urgent=True)
        await self._hashing.ended()
        return self._digest.digest()


class Backups:
    """Implements the api room's BackupSource. A file lives as long as its call. `spawn` runs its tasks."""

    def __init__(self, engine: Engine, workers: Workers, make_seconds: Histogram, spawn: Spawn) -> None:
        self._engine = engine
        self._workers = workers
        self._make_seconds = make_seconds
        self._spawn = spawn
        self._files: list[StateFile] = []

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[SavedFile]:
        """See BackupSource. The log need not be held: nobody goes on from this file."""
        if len(self._files) >= limits.SNAPSHOTS_SAVED_AT_ONCE:
            raise TooManyRequests
        began = perf_counter()
        try:
            file = StateFile(self._engine, self._workers, self._make_seconds)
        except StorageError as error:
            raise _failed(error) from error
        self._files.append(file)
        try:
            await file.lay_out()
            self._spawn(file.fill())
            fields = {"total-bytes": file.size_bytes}
            log.info("sending database snapshot to client", **fields)
            yield SavedFile(file, self._workers)
            log.info("successfully sent database snapshot to client", **fields, took=perf_counter() - began)
        except Cancelled:
            raise Timeout from None  # another member's state takes this one's place; clients ask again
        except (OSError, StorageError) as error:
            raise _failed(error) from error
        finally:
            self._files.remove(file)
            file.end()

    def let_go_of_state(self) -> None:
        """The state is about to be replaced by another member's: give up what is being made of it."""
        for file in self._files:
            file.let_go_of_state()


def _failed(error: Exception) -> StatusError:
    """The client hears what went wrong, not where: paths are the operator's, who has them in the log."""
    log.warn("failed to make a database snapshot for a client", error=str(error))
    reason = error.strerror if isinstance(error, OSError) else "the state cannot be read"
    return StatusError(Code.UNAVAILABLE, f"etcdserver: failed to make the snapshot: {reason}")
