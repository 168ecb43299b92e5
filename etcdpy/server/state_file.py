"""The applied state as of one moment, in a file of etcd's format, made in slices while writes go on."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO, cast

from etcdpy.interchange.export import export_steps
from etcdpy.server import logs
from etcdpy.server.snapshot_files import TemporaryFile, Workers, check_room, run_paced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.frozen_view import FrozenView

log = logs.get("etcdserver")


class Cancelled(Exception):
    """The state is about to be replaced: what is made of it would be of no use."""


class StateFile:
    """Takes its view of the state when it is made. Raises StorageError."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        self._view: FrozenView | None = engine.frozen_view()
        self.index = self._view.applied_index
        self._file: TemporaryFile | None = None

    @property
    def size_bytes(self) -> int:
        """Of the file, once it is written."""
        assert self._file is not None
        return self._file.size_bytes

    async def write(self) -> None:
        """Make the file. Raises OSError, StorageError, Cancelled."""
        try:
            await self._write()
        finally:
            self.let_go_of_state()

    async def _write(self) -> None:
        began = perf_counter()
        path = self._engine.temporary_path("snapshot")
        check_room(path.parent, self._engine.state_bytes)
        file = self._file = TemporaryFile(path, encrypted=self._engine.encrypts_files)

        writing: asyncio.Future[None] | None = None

        async def write() -> None:
            nonlocal writing
            if file.should_write:
                # One piece is written while the next is made.
                if writing is not None:
                    await self._workers.ended(writing)
                writing = self._workers.begin(file.take())
            if self._view is None:
                raise Cancelled

        if self._view is None:
            raise Cancelled
        try:
            await run_paced(export_steps(self._view, cast("BinaryIO", file)), write)
        finally:
            if writing is not None:
                await self._workers.ended(writing)
        await self._workers.run(file.take())
        took = perf_counter() - began
        log.info("made a database snapshot", **{"snapshot-index": self.index, "bytes": file.size_bytes, "took": took})

    def let_go_of_state(self) -> None:
        """Close the view; a file that is not ready will not be."""
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def pieces(self) -> AsyncIterator[bytes]:
        """The file's content. Raises OSError."""
        assert self._file is not None
        return self._file.pieces(self._workers)

    def end(self) -> None:
        """Nobody needs it any more."""
        self.let_go_of_state()
        if self._file is not None:
            self._workers.start(self._file.remove)
