"""How often a user or client may ask: --client-requests-per-second and --client-watches-per-second. Ours, not etcd's.

The handlers of the method table are wrapped, so nothing is paid where the limits are off. A client is told apart by its
user, or by the common name of its certificate; those of whom neither is known share what their address is allowed.

    unary call, stream opened    one request; refused with ResourceExhausted when there is none left
    message on a stream          one request; it is read when there is one again, so the client has to wait
    watch created                one watch as well; it is cancelled at once with the reason, and the stream goes on
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.api.services import HEALTH_SERVICE
from etcdpy.errors import ClientRateExceeded, WatchRateExceeded
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etcdpy.transport.calls import Call, Method, StreamCall

    NameOf = Callable[[Call], str]

_CREATE_TAG: Final = 0x0A
"""The first byte of a WatchRequest that asks for a watcher: field 1."""

_NO_WATCH: Final = -1
"""The id of a watcher that did not come to be, as on etcd."""


class Allowance:
    """What one client has left: it grows by `per_second`, up to the worth of one second. 0 a second: no limit."""

    __slots__ = ("_left", "_per_second", "_then")

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._then = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._grow(now)
        if self._left < 1 and self._per_second:
            return False
        self._left -= 1
        return True

    def reserve(self, now: float) -> float:
        """Take one in any case. Returns how many seconds to wait until there is one to take."""
        if not self._per_second:
            return 0.0
        self._grow(now)
        self._left -= 1
        return max(0.0, -self._left / self._per_second)

    def _grow(self, now: float) -> None:
        self._left = min(float(self._per_second), self._left + (now - self._then) * self._per_second)
        self._then = now


class ClientLimits:
    """`name_of` says who calls, empty for nobody known. `clock` is monotonic seconds. `header` opens an answer."""

    def __init__(
        self,
        name_of: NameOf,
        clock: Callable[[], float],
        header: Callable[[], bytes],
        *,
        requests_per_second: int,
        watches_per_second: int,
    ) -> None:
        self._name_of = name_of
        self.header = header
        self._clock = clock
        self._requests_per_second = requests_per_second
        self._watches_per_second = watches_per_second
        self._clients: OrderedDict[str, tuple[Allowance, Allowance]] = OrderedDict()
        self._refused_requests = self._refused_watches = 0

    def wrap(self, methods: Mapping[bytes, Method]) -> None:
        """Put every method of the table under the limits, but for the health service, which probes ask."""
        for method in methods.values():
            if method.service == HEALTH_SERVICE:
                continue
            if method.kind is Kind.UNARY:
                method.handler = self._unary(method.handler)
            else:
                method.handler = self._stream(method.handler, watches=method.name == "Watch")

    def allowances(self, call: Call) -> tuple[Allowance, Allowance]:
        """What the caller has left of requests and of watches."""
        name = self._name_of(call)
        key = f"name {name}" if name else f"address {call.peer.address.rpartition(':')[0]}"
        clients = self._clients
        found = clients.get(key)
        if found is None:
            now = self._clock()
            found = clients[key] = Allowance(self._requests_per_second, now), Allowance(self._watches_per_second, now)
            if len(clients) > limits.CLIENTS_LIMITED_MAX:
                clients.popitem(last=False)
        else:
            clients.move_to_end(key)
        return found

    def refused(self) -> dict[tuple[str, ...], float]:
        """How many were refused since the start, by kind."""
        return {("requests",): self._refused_requests, ("watches",): self._refused_watches}

    def _take_request(self, call: Call) -> None:
        if not self.allowances(call)[0].take(self._clock()):
            self._refused_requests += 1
            raise ClientRateExceeded

    def _unary(self, handler: Callable[[Call, bytes], None]) -> Callable[[Call, bytes], None]:
        def limited(call: Call, body: bytes) -> None:
            self._take_request(call)
            handler(call, body)

        return limited

    def _stream(
        self, handler: Callable[[Any], Awaitable[None] | None], *, watches: bool
    ) -> Callable[[StreamCall], Awaitable[None]]:
        async def limited(call: StreamCall) -> None:
            self._take_request(call)
            running = handler(_LimitedStream(call, self, watches=watches))
            if running is not None:
                await running

        return limited

    async def wait_request(self, call: Call) -> None:
        """Take one request, and return when there is one."""
        seconds = self.allowances(call)[0].reserve(self._clock())
        if seconds:
            await asyncio.sleep(seconds)

    def take_watch(self, call: Call) -> bool:
        """Take one watch, if there is one."""
        taken = self.allowances(call)[1].take(self._clock())
        self._refused_watches += not taken
        return taken


class _LimitedStream:
    """A streaming call whose messages are counted. It stands in for the call."""

    __slots__ = ("_call", "_is_first", "_limits", "_watches")

    def __init__(self, call: StreamCall, client_limits: ClientLimits, *, watches: bool) -> None:
        self._call = call
        self._limits = client_limits
        self._watches = watches
        self._is_first = True

    async def receive(self) -> bytes | None:
        """See StreamCall."""
        while True:
            body = await self._call.receive()
            if body is None:
                return None
            if not self._is_first:  # which came with the stream's own
                await self._limits.wait_request(self._call)
            self._is_first = False
            if not self._watches or not body or body[0] != _CREATE_TAG or self._limits.take_watch(self._call):
                return body
            reason = f"rpc error: code = ResourceExhausted desc = {WatchRateExceeded.message}"
            refusal = rpc_pb2.WatchResponse(watch_id=_NO_WATCH, created=True, canceled=True, cancel_reason=reason)
            self._call.send(self._limits.header() + refusal.SerializeToString())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)
