"""Files on the way between members: written and read by threads, made and taken in by the loop in slices."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from etcdpy import limits
from etcdpy.storage.sealed_file import SealedFile, write_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from pathlib import Path
    from typing import Any

T = TypeVar("T")


class Workers:
    """Threads that wait for the disk. They compute nothing: that would only take the interpreter from the loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(limits.SNAPSHOT_THREADS, thread_name_prefix="etcdpy-snapshot")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises; see `ended`."""
        return await self.ended(self.begin(work))

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work`. Where nobody waits until it has `ended`, what it raises is not heard of."""
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        running.add_done_callback(lambda done: done.cancelled() or done.exception())
        return running

    async def ended(self, running: asyncio.Future[T]) -> T:
        """What the work returns or raises. A waiter that is cancelled ends no sooner than the work: what it then closes
        must not be in use, and the number of a closed file may soon be another file's."""
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((running,))
            running.cancelled() or running.exception()  # nobody is left to hear of it
            raise

    def start(self, work: Callable[[], None]) -> None:
        """Run `work`, which raises nothing, and do not wait for it."""
        self._pool.submit(work)

    def close(self) -> None:
        """Wait for what was begun and for what is to be removed."""
        self._pool.shutdown()


class OneAtATime:
    """Work of one kind on a thread, each begun when the one before has ended."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._running: asyncio.Future[None] | None = None

    async def offer(self, take: Callable[[], Callable[[], None]], *, urgent: bool) -> None:
        """Run what `take` returns; if the one before still runs, wait for that, or leave it where it is not `urgent`.
        Raises what the one before raised."""
        if self._running is None or self._running.done() or urgent:
            await self.ended()
            self._running = self._workers.begin(take())

    async def ended(self) -> None:
        """Wait for the last one. Raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            await self._workers.ended(running)


async def run_paced(steps: Generator[Any, None, T], between: Callable[[], Awaitable[None]]) -> T:
    """What `steps` returns. Its slices hold the loop for a moment only. While there is other work they leave it most of
    the time; where a turn of the loop in between shows that there is none, they go on at once."""
    try:
        while True:
            began = perf_counter()
            while perf_counter() - began < limits.SNAPSHOT_SLICE_SECONDS:
                try:
                    next(steps)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
            for _ in range(2):  # for who waits for what was made, and sends it: that is no other work
                await asyncio.sleep(0)
            began = perf_counter()
            await asyncio.sleep(0)
            if perf_counter() - began > limits.SNAPSHOT_IDLE_TURN_SECONDS:
                await asyncio.sleep(limits.SNAPSHOT_PAUSE_SECONDS)
            await between()  # last: it finds out whether what the slices read is still there
    finally:
        steps.close()


def check_room(path: Path, size_bytes: int) -> None:
    """Whether the disk takes that much and leaves what the log and the state need. Raises OSError."""
    found = os.statvfs(path)
    if found.f_bavail * found.f_frsize < size_bytes + limits.SNAPSHOT_DISK_RESERVE_BYTES:
        raise OSError(errno.ENOSPC, "No space left for a snapshot beside what the member itself needs", str(path))


class TemporaryFile:
    """A new file that grows: what it is given waits in memory until a thread writes it.

    The loop's half looks like an open file to who fills it; the thread's half is what `take` returns. With encryption
    at rest what is on disk is `sealed`, and nobody else can read it.
    """

    def __init__(self, path: Path, *, encrypted: bool = False) -> None:
        self.path = path
        self.size_bytes = 0
        self._waiting: list[tuple[int, bytes]] = []
        self.waiting_bytes = 0
        """What was given and not taken."""
        # Private: it holds everything that clients stored.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.written_to = 0
        """Where the last bytes end that were written: so far it can be read."""
        self._written_bytes = 0
        self._written_back_bytes = 0
        self.sealed = SealedFile(self._descriptor) if encrypted else None
        self._open = Lock()
        """Nobody closes it under a reader."""

    def write(self, data: bytes, position: int | None = None) -> None:
        """Take `data`, to be written there, behind everything it was given before; by default right behind."""
        if position is not None:
            self.size_bytes = position
        self._waiting.append((self.size_bytes, data))
        self.waiting_bytes += len(data)
        self.size_bytes += len(data)

    def take(self) -> Callable[[], None]:
        """A call that writes what waits; for one thread at a time. Raises OSError."""
        waiting, self._waiting = self._waiting, []
        self.waiting_bytes = 0

        def write() -> None:
            check_room(self.path.parent, 0)
            for position, data in waiting:
                if self.sealed is None:
                    write_all(self._descriptor, data, position)
                else:
                    self.sealed.write(data, position)
                self.written_to = position + len(data)
                self._written_bytes += len(data)
            if self.sealed is not None:
                self.sealed.flush()

        return write

    @property
    def dirty_bytes(self) -> int:
        """What was written since the last `write_back` began."""
        return self._written_bytes - self._written_back_bytes

    def write_back(self) -> None:
        """Wait until the disk has what was written, on a thread, beside others. Not for safety: a gigabyte of dirty
        pages would make the log's next sync wait for all of them. Raises OSError."""
        self._written_back_bytes = self._written_bytes
        os.fdatasync(self._descriptor)

    def read(self, position: int) -> bytes:
        """A piece of what was written; empty at the end, and once it was removed. Raises OSError, DamagedError."""
        with self._open:
            if self._descriptor < 0:
                return b""
            size = min(limits.SNAPSHOT_READ_BYTES, max(0, self.written_to - position))
            if self.sealed is not None:
                return self.sealed.read(position, size)
            return os.pread(self._descriptor, size, position)

    def remove(self) -> None:
        """It is not needed any more. Again is no error."""
        self.path.unlink(missing_ok=True)
        with self._open:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
