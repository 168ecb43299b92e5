"""What many connections together take of one turn of the loop.

libuv serves every readable socket before it looks at its timers again, so a thousand connections that ask at once would
hold up heartbeats for as long as all of them take. What is over the share of a turn waits for the next one, in order.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from etcdpy.work_limits import TURN_READ_SECONDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turns:
    """Of one loop. The clock is an argument for the tests."""

    __slots__ = ("_begun", "_clock", "_ends", "_late", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._begun = False
        """Whether `_turn` is on its way. The loop's own time tells no turns apart: a timer that is set moves it on."""
        self._ends = 0.0
        self._late: deque[tuple[Callable[[], None], float]] = deque()

    def is_over(self) -> bool:
        """Whether this turn has done its share, so that what comes must wait for the next. HOT: 0.1 us a read from a
        socket, and 0.5 us a turn."""
        if self._begun:
            return self._clock() > self._ends
        self._begin()
        return False

    def later(self, work: Callable[[], None], after_seconds: float = 0.0) -> None:
        """Do it in the next turn that has time, behind what waits already. `after_seconds` is what it makes the loop do
        when it has returned, which counts as well."""
        if not self._begun:
            self._begin()
        self._late.append((work, after_seconds))

    def _begin(self) -> None:
        self._begun = True
        self._ends = self._clock() + TURN_READ_SECONDS
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._begun = False
        late = self._late
        if not late:
            return
        clock = self._clock
        ends = clock() + TURN_READ_SECONDS
        for _ in range(len(late)):  # a connection that is not done with it has one share a turn
            work, after_seconds = late.popleft()
            work()
            ends -= after_seconds
            if clock() > ends:
                break
        if late and not self._begun:
            self._begin()
