"""The whole state for clients that save it: Maintenance.Snapshot's files."""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.errors import Code, StatusError, Timeout, TooManyRequests
from etcdpy.server import logs
from etcdpy.server.state_file import Cancelled, StateFile
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from etcdpy.histogram import Histogram
    from etcdpy.server.snapshot_files import Workers
    from etcdpy.storage.engine import Engine

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logs.get("etcdserver")


class Backups:
    """Implements the api room's BackupSource. A file lives as long as its call. `spawn` runs its tasks."""

    def __init__(self, engine: Engine, workers: Workers, make_seconds: Histogram, spawn: Spawn) -> None:
        self._engine = engine
        self._workers = workers
        self._make_seconds = make_seconds
        self._spawn = spawn
        self._files: list[StateFile] = []

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[StateFile]:
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
            yield file
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
