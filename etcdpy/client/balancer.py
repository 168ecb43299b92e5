"""Which endpoint gets the next call: those in good health, in turn.

An endpoint is out while there is no connection to it; its owner says so, and says when there is one again. One that
answers that it cannot serve (no leader, it stops, it does not answer in time) sits out for a while, and gets calls
meanwhile only if there is no better one.
"""

from __future__ import annotations

from typing import Final

SIT_OUT_SECONDS: Final = 1.0
"""About one election: a member that has no leader has one afterwards, or will not have one soon."""


class Balancer:
    """The state of `count` endpoints, by number. A single one always gets the calls; there is nothing to choose.

    Threads may use one at the same time: a race gives one endpoint two turns, which does no harm.
    """

    __slots__ = ("_back_at", "_connected", "_last", "count")

    def __init__(self, count: int) -> None:
        self.count = count
        self._connected = [count == 1] * count
        self._back_at = [0.0] * count
        self._last = -1

    def pick(self, now: float) -> int | None:
        """The endpoint whose turn it is; None where none is connected."""
        if self.count == 1:
            return 0
        second_best = None
        for step in range(1, self.count + 1):
            number = (self._last + step) % self.count
            if not self._connected[number]:
                continue
            if self._back_at[number] <= now:
                self._last = number
                return number
            if second_best is None or self._back_at[number] < self._back_at[second_best]:
                second_best = number
        return second_best

    def connected(self, number: int) -> None:
        """There is a connection to that endpoint."""
        self._connected[number] = True
        self._back_at[number] = 0.0

    def disconnected(self, number: int) -> None:
        """There is none; no calls go there until there is one again."""
        if self.count > 1:
            self._connected[number] = False

    def unwell(self, number: int, now: float) -> None:
        """It answers that it cannot serve, or does not answer."""
        self._back_at[number] = now + SIT_OUT_SECONDS
