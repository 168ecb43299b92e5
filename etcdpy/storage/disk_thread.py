"""The one thread beside the loop. It waits for the disk: LevelDB lets go of the interpreter lock while it writes."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


class Job(Protocol):
    """One trip to the disk. Keeps what went wrong to itself."""

    def run(self) -> None:
        """Never raises."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)


class DiskThread:
    """Runs jobs in the order they came, and reports each on the loop."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Any, Callable[[Any], None], AbstractEventLoop] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.queued = 0
        """Jobs handed over and not reported yet. Belongs to the loop."""

    def submit(self, job: AnyJob, finish: Callable[[AnyJob], None], loop: AbstractEventLoop) -> None:
        """Run `job` on the thread, then `finish(job)` on the loop."""
        if self._thread is None:
            # Not a daemon: the interpreter must not end between a write and its report.
            self._thread = threading.Thread(target=self._run, name="etcdpy-disk")
            self._thread.start()
        self.queued += 1
        self._queue.put((job, finish, loop))

    def stop(self) -> None:
        """Wait until every job that was handed over has run; their reports may find a closed loop."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            job, finish, loop = item
            job.run()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._report, job, finish)
            del item, job, finish, loop

    def _report(self, job: AnyJob, finish: Callable[[AnyJob], None]) -> None:
        self.queued -= 1
        finish(job)
