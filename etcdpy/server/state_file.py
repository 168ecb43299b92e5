"""The applied state as of one moment, in a file of etcd's format, made in slices while writes go on.

    view -> laid out: the size is known, and reading may begin -> filled, followed by readers

What was made last is in memory, what comes before that on the disk, unless nobody will read it any more. So a reader
that keeps up needs no disk, and the view is let go as soon as all is made, however slow the readers are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.interchange.bolt_writer import Layout, layout_steps, write_steps
from etcdpy.interchange.export import buckets_of
from etcdpy.server import logs
from etcdpy.server.snapshot_files import OneAtATime, TemporaryFile, Workers, check_room, run_paced
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from etcdpy.histogram import Histogram
    from etcdpy.interchange.bolt_writer import Items
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.frozen_view import FrozenView

log = logs.get("etcdserver")


class Cancelled(Exception):
    """The state is about to be replaced: what is made of it would be of no use."""


class StateFile:
    """Takes its view of the state when it is made, and has one reader. Raises StorageError."""

    _IS_SHARED = False
    """Whether others may come and read it from the start."""

    def __init__(self, engine: Engine, workers: Workers, make_seconds: Histogram) -> None:
        self._engine = engine
        self._workers = workers
        self._make_seconds = make_seconds
        self._view: FrozenView | None = engine.frozen_view()
        self.index = self._view.applied_index
        self._buckets: list[tuple[bytes, Items]] = []
        self._layout = Layout([], 0, 0)
        self._file: TemporaryFile | None = None
        self._is_filling = False
        """Or about to: `end` leaves the file to `fill` then."""
        self._is_over = False
        self._made_bytes = 0
        self._recent: deque[tuple[int, bytes]] = deque()
        """What was made last, and where it lies."""
        self._recent_bytes = 0
        self._read_bytes = 0
        """What nobody needs any more."""
        self._taken = asyncio.Event()
        """The reader has taken a piece; another event follows."""
        self._runs_ahead_to = 0
        """Nobody waits for the reader before so much is made."""
        self._failure: Exception | None = None
        self._progress = asyncio.Event()
        """There is more to read, or there is a failure; another event follows."""

    @property
    def size_bytes(self) -> int:
        """Of the file, once it is laid out."""
        return self._layout.size_bytes

    # --- making it ---

    async def lay_out(self) -> None:
        """Find out where everything will lie; `fill` comes next. Raises OSError, StorageError, Cancelled."""
        path = self._engine.temporary_path("snapshot")
        check_room(path.parent, self._engine.state_bytes)
        self._buckets = buckets_of(self._held())
        self._layout = await run_paced(layout_steps(self._buckets), self._check)
        self._file = TemporaryFile(path, encrypted=self._engine.encrypts_files)
        self._is_filling = True

    def _held(self) -> FrozenView:
        if self._view is None:
            raise Cancelled
        return self._view

    async def _check(self) -> None:
        self._held()

    async def fill(self) -> None:
        """Make the content. What goes wrong its readers are told."""
        began = perf_counter()
        failure: Exception | None = Cancelled()
        try:
            await self._fill()
            failure = None
        except (OSError, StorageError, Cancelled) as error:
            failure = error
        finally:
            self._failure = failure
            self._is_filling = False
            self._tell()
            self.let_go_of_state()
            self._remove()
        if failure is None:
            took = perf_counter() - began
            self._make_seconds.observe(took)
            fields = {"snapshot-index": self.index, "bytes": self.size_bytes}
            log.info("made a database snapshot", **fields, took=took)

    async def _fill(self) -> None:
        self._held()  # it may be long ago that this was laid out
        file = self._file
        assert file is not None
        writing, writing_back = OneAtATime(self._workers), OneAtATime(self._workers)

        async def keep_writing() -> None:
            waiting, dirty = file.waiting_bytes, file.dirty_bytes
            if waiting >= limits.SNAPSHOT_WRITE_BYTES:
                await writing.offer(file.take, urgent=waiting >= limits.SNAPSHOT_WAITING_BYTES_MAX)
            if dirty >= limits.SNAPSHOT_WRITE_BACK_BYTES:
                await writing_back.offer(lambda: file.write_back, urgent=dirty >= limits.SNAPSHOT_DIRTY_BYTES_MAX)
            await self._wait_for_reader()
            self._held()

        try:
            await run_paced(write_steps(self, self._buckets, self._layout), keep_writing)
            await writing.offer(file.take, urgent=True)
        finally:
            try:
                await writing.ended()
            finally:
                await writing_back.ended()

    async def _wait_for_reader(self) -> None:
        """Leave the disk out of it for a reader who nearly keeps up; for another one go on for a while."""
        while not self._IS_SHARED and self._made_bytes - self._read_bytes > limits.SNAPSHOT_RECENT_BYTES:
            if self._made_bytes < self._runs_ahead_to:
                return
            try:
                await asyncio.wait_for(self._taken.wait(), limits.SNAPSHOT_READER_SECONDS)
            except TimeoutError:
                self._runs_ahead_to = self._made_bytes + limits.SNAPSHOT_RECENT_BYTES
                return

    def write(self, data: bytes) -> None:
        """Put `data` behind what the file has."""
        assert self._file is not None
        self._recent.append((self._made_bytes, data))
        self._made_bytes += len(data)
        self._recent_bytes += len(data)
        while self._recent_bytes > limits.SNAPSHOT_RECENT_BYTES and len(self._recent) > 1:
            start, oldest = self._recent.popleft()
            self._recent_bytes -= len(oldest)
            if start + len(oldest) > self._read_bytes:
                self._file.write(oldest, start)
        self._tell()

    def _tell(self) -> None:
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()

    def let_go_of_state(self) -> None:
        """Close the view; a file that is not ready will not be."""
        view, self._view = self._view, None
        if view is not None:
            view.close()

    # --- reading it ---

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file's content, as it comes. Raises OSError, StorageError, and Cancelled where the rest will not come."""
        position = 0
        while position < self.size_bytes:
            assert self._file is not None
            piece = self._recent_from(position)
            if not piece and position < self._file.written_to:
                piece = await self._workers.run(partial(self._file.read, position))
                if not piece:
                    raise Cancelled  # the file was removed
            if piece:
                position += len(piece)
                if not self._IS_SHARED:
                    self._read_bytes = position
                    taken, self._taken = self._taken, asyncio.Event()
                    taken.set()
                yield piece
            elif self._failure is not None:
                raise self._failure
            else:
                await self._progress.wait()

    def _recent_from(self, position: int) -> bytes:
        """What is in memory of the content from there on, up to a piece's end; may be nothing."""
        for start, data in reversed(self._recent):
            if start <= position:
                return data[position - start :]
        return b""

    # --- ending it ---

    def end(self) -> None:
        """Nobody needs it any more."""
        self.let_go_of_state()
        self._is_over = True
        self._recent.clear()
        self._remove()

    def _remove(self) -> None:
        if self._is_over and not self._is_filling and self._file is not None:
            self._workers.start(self._file.remove)
