"""Simulated time: one queue of what is to come, and for each process a loop with a clock of its own.

A process's clock runs at its own rate. While the process stands still (a stop signal, a starved machine) nothing that
is due on it runs; all of it runs, in order, when it goes on.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Handle:
    """Something that is due; see asyncio.Handle."""

    __slots__ = ("arguments", "callback", "loop")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], loop: Loop | None) -> None:
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.loop = loop

    def cancel(self) -> None:
        self.callback = None


class Time:
    """The queue. `now` is true time in seconds, which no process sees."""

    def __init__(self) -> None:
        self.now = 0.0
        self._later: list[tuple[float, int, Handle]] = []
        self._soon: deque[Handle] = deque()
        self._count = 0

    def at(self, when: float, callback: Callable[..., object], *arguments: Any, loop: Loop | None = None) -> Handle:
        handle = Handle(callback, arguments, loop)
        self._count += 1
        heapq.heappush(self._later, (max(when, self.now), self._count, handle))
        return handle

    def after(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self.at(self.now + seconds, callback, *arguments)

    def soon(self, callback: Callable[..., object], arguments: tuple[Any, ...], loop: Loop) -> Handle:
        handle = Handle(callback, arguments, loop)
        self._soon.append(handle)
        return handle

    def run_until(self, end: float) -> None:
        """Let everything happen that is due before `end`."""
        later, soon = self._later, self._soon
        while True:
            while soon:
                self._run(soon.popleft())
            if not later or later[0][0] > end:
                break
            self.now, _, handle = heapq.heappop(later)
            self._run(handle)
        self.now = end

    def _run(self, handle: Handle) -> None:
        callback, loop = handle.callback, handle.loop
        if callback is None:
            return
        if loop is not None:
            if loop.closed:
                return
            if loop.stopped_until > self.now:
                self._count += 1
                heapq.heappush(self._later, (loop.stopped_until, self._count, handle))
                return
        callback(*handle.arguments)


class Loop:
    """The part of an asyncio loop that a member uses. `rate` is how much faster than true time its clock runs."""

    def __init__(self, time: Time, rate: float, offset: float) -> None:
        self._time = time
        self._rate = rate
        self._offset = offset
        self.closed = False
        self.stopped_until = 0.0
        """The process stands still until this (true) time."""

    def time(self) -> float:
        return self._offset + self._time.now * self._rate

    def run_true(self) -> None:
        """From now on the clock keeps true time."""
        self._offset, self._rate = self.time() - self._time.now, 1.0

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self._time.soon(callback, arguments, self)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self._time.at(self._time.now + delay / self._rate, callback, *arguments, loop=self)

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        return self.call_later(when - self.time(), callback, *arguments)

    def close(self) -> None:
        """The process is gone; nothing that was due on it happens."""
        self.closed = True
