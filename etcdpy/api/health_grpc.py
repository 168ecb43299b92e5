"""grpc.health.v1.Health: whether the member serves, for load balancers.

etcd knows only the server as a whole, the service named "". Its messages are two fields, written by hand here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from etcdpy.errors import Code, StatusError

if TYPE_CHECKING:
    from etcdpy.transport.calls import Call, StreamCall

_SERVING: Final = b"\x08\x01"
_NOT_SERVING: Final = b"\x08\x02"
_SERVICE_UNKNOWN: Final = b"\x08\x03"


class HealthService:
    """The state that load balancers ask for and watch."""

    def __init__(self) -> None:
        self._serving = True
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Change what is answered; those who watch are told."""
        if serving != self._serving:
            self._serving = serving
            self._changed.set()
            self._changed = asyncio.Event()

    def check(self, call: Call, body: bytes) -> None:
        """Health.Check. Raises NotFound for any service but "" (as the gRPC library does)."""
        if service_name(body):
            raise StatusError(Code.NOT_FOUND, "unknown service")
        call.finish(self._status())

    def list(self, call: Call, _body: bytes) -> None:
        """Health.List: all services and their states; here one, with an empty name."""
        entry = b"\x12" + bytes((len(self._status()),)) + self._status()
        call.finish(b"\x0a" + bytes((len(entry),)) + entry)

    async def watch(self, call: StreamCall) -> None:
        """Health.Watch: the state now, then each change, until the client goes."""
        body = await call.receive()
        if service_name(body or b""):
            call.send(_SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        while True:
            call.send(self._status())
            await self._changed.wait()

    def _status(self) -> bytes:
        return _SERVING if self._serving else _NOT_SERVING


def service_name(body: bytes) -> bytes:
    """Field 1 of HealthCheckRequest. Raises StatusError (Internal) when the body is no such message."""
    if not body:
        return b""
    if body[0] != 0x0A or len(body) < 2 or body[1] != len(body) - 2:
        raise StatusError(Code.INTERNAL, "grpc: error unmarshalling request")
    return body[2:]
