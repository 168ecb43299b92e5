"""Long work in slices: a generator that yields between bounded pieces, run so that the loop is never held.

The first slice runs at once: most ranges end there. What is left goes on in a task, one slice a turn of the loop, so
that heartbeats, puts and other readers come in between.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from etcdpy import limits
from etcdpy.errors import EtcdError, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from etcdpy.transport.calls import Call


class SliceRunner:
    """Implements the api room's `Slices`. `spawn` starts a task that the server owns."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._spawn = spawn
        self._interruptions = 0

    def interrupt(self) -> None:
        """What is being read was replaced: reads under way end with Timeout, after which clients ask again."""
        self._interruptions += 1

    def run(self, call: Call, steps: Generator[Any, None, list[bytes]]) -> None:
        """Answer `call` with what `steps` returns. Raises EtcdError when the first slice already says no."""
        try:
            next(steps)
        except StopIteration as stop:
            call.finish_parts(stop.value)
            return
        task = self._spawn(self._answer(call, steps, self._interruptions))

        def cancel() -> None:
            task.cancel()

        call.on_cancel = cancel

    async def _answer(self, call: Call, steps: Generator[Any, None, list[bytes]], interruptions: int) -> None:
        try:
            await asyncio.sleep(0)
            call.finish_parts(await self._finish(steps, interruptions))
        except EtcdError as error:
            call.fail(error)
        finally:
            steps.close()

    async def wait(self, steps: Generator[Any, None, Any]) -> Any:
        """What `steps` returns, once all its slices have run. It is closed when the waiter is cancelled.

        Raises Timeout when it was interrupted.
        """
        return await self._finish(steps, self._interruptions)

    async def _finish(self, steps: Generator[Any, None, Any], interruptions: int) -> Any:
        try:
            while self._interruptions == interruptions:
                began = time.monotonic()
                while time.monotonic() - began < limits.SLICE_SECONDS:
                    try:
                        next(steps)
                    except StopIteration as stop:
                        return stop.value
                await asyncio.sleep(0)
            raise Timeout
        finally:
            steps.close()
