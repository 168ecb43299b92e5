"""How late the event loop is: a timer that asks each 10 ms how long ago it should have run.

A stall of D seconds makes the timer late by at least D minus its interval, so none of 20 ms or more goes unseen, at a
cost of some 0.05 % of a core.

A machine that gives its cores to others makes it late as well. So it also measures which part of the delay was surely
the loop's own work, by the time that its thread had a core: the turn that was late began when the timer was due at the
latest, so what the thread worked beyond the interval, it worked in that turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.histogram import LOOP_LAG_SECONDS, Histogram

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class LoopLag:
    """Measures one loop between `start` and `stop`; `histogram` holds how late it was, in seconds, and `own` how much
    of each delay at least was its own work.

    `on_stall` is told of a delay beyond limits.LOOP_STALL_LOGGED_SECONDS. The clocks are arguments for the tests;
    `clock` is not the loop's, whose time stands still within one round of the loop.
    """

    __slots__ = (
        "_clock",
        "_cpu_clock",
        "_due",
        "_handle",
        "_loop",
        "_on_stall",
        "_used",
        "histogram",
        "longest_seconds",
        "own",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_stall: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._used = 0.0
        self._on_stall = on_stall
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self.histogram = Histogram(LOOP_LAG_SECONDS)
        self.own = Histogram(LOOP_LAG_SECONDS)
        self.longest_seconds = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._used = self._cpu_clock()
        self._schedule()

    def stop(self) -> None:
        """Measure no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        self._due = self._clock() + limits.LOOP_LAG_INTERVAL_SECONDS
        self._handle = self._loop.call_later(limits.LOOP_LAG_INTERVAL_SECONDS, self._tick)

    def _tick(self) -> None:
        late = max(0.0, self._clock() - self._due)
        self.histogram.observe(late)
        used, self._used = self._used, self._cpu_clock()
        self.own.observe(min(late, max(0.0, self._used - used - limits.LOOP_LAG_INTERVAL_SECONDS)))
        self.longest_seconds = max(self.longest_seconds, late)
        if late > limits.LOOP_STALL_LOGGED_SECONDS and self._on_stall is not None:
            self._on_stall(late)
        self._schedule()
