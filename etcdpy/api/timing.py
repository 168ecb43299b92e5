"""How long calls take, for --metrics=extensive: every handler is wrapped, so nothing is paid where it is off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from etcdpy.api.stand_in import StandIn
from etcdpy.histogram import HANDLING_SECONDS, Histogram
from etcdpy.transport.calls import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etcdpy.errors import EtcdError
    from etcdpy.transport.calls import Call, Method, StreamCall


class TimedCall(StandIn):
    """A unary call that notes when it is answered."""

    __slots__ = ("_begin", "_clock", "_histogram")

    def __init__(self, call: Call, histogram: Histogram, clock: Callable[[], float]) -> None:
        super().__init__(call)
        self._histogram = histogram
        self._clock = clock
        self._begin = clock()

    def answered(self, error: EtcdError | None) -> None:
        """Count the time so far, unless the call is gone already."""
        self.note()

    def note(self) -> None:
        """Count the time so far, unless the call is answered or gone already."""
        if not self._call.done:
            self._histogram.observe(self._clock() - self._begin)


def time_calls(
    methods: Mapping[bytes, Method], clock: Callable[[], float] = time.perf_counter
) -> dict[tuple[str, str], Histogram]:
    """Wrap every handler of the table; returns the histograms by (service, method), in seconds."""
    found: dict[tuple[str, str], Histogram] = {}
    for method in methods.values():
        histogram = found[method.service, method.name] = Histogram(HANDLING_SECONDS)
        wrap = _unary if method.kind is Kind.UNARY else _stream
        method.handler = wrap(method.handler, histogram, clock)
    return found


def _unary(
    handler: Callable[[Any, bytes], None], histogram: Histogram, clock: Callable[[], float]
) -> Callable[[Call, bytes], None]:
    def timed(call: Call, body: bytes) -> None:
        stand_in = TimedCall(call, histogram, clock)
        try:
            handler(stand_in, body)
        except Exception:
            stand_in.note()
            raise

    return timed


def _stream(
    handler: Callable[[StreamCall], Awaitable[None] | None], histogram: Histogram, clock: Callable[[], float]
) -> Callable[[StreamCall], Awaitable[None]]:
    async def timed(call: StreamCall) -> None:
        begin = clock()
        try:
            running = handler(call)
            if running is not None:
                await running
        finally:
            histogram.observe(clock() - begin)

    return timed
