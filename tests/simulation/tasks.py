"""Real asyncio tasks and futures on a process's simulated loop, for services that are written as coroutines."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.clock import Handle, Loop


class TaskLoop:
    """The part of an asyncio loop that tasks use; it runs while one of its callbacks does, and at no other time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def time(self) -> float:
        return self._loop.time()

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: object = None) -> Handle:
        return self._loop.call_soon(self._run, callback, arguments)

    def call_later(
        self, delay: float, callback: Callable[..., object], *arguments: Any, context: object = None
    ) -> Handle:
        return self._loop.call_later(delay, self._run, callback, arguments)

    def create_future(self) -> asyncio.Future[Any]:
        stands_for: Any = self
        return asyncio.Future(loop=stands_for)

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        stands_for: Any = self
        task: asyncio.Task[None] = asyncio.Task(coroutine, loop=stands_for)
        task.add_done_callback(_tell)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """The process is gone: what was not begun never will be."""
        for task in self._tasks:
            coroutine: Any = task.get_coro()
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task is thrown away with its process."""

    def _run(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        stands_for: Any = self
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(stands_for)
        try:
            callback(*arguments)
        finally:
            asyncio._set_running_loop(before)


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        raise Violation(f"a service breaks: {error!r}") from error
