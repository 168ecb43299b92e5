"""--experimental-enable-grpc-logging: a line when a call begins and one when it ends. Requests are not shown: they hold
values and passwords.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from etcdpy.duration import format_duration
from etcdpy.errors import Code, EtcdError
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.transport.calls import Call

log = logs.get("grpcproxy")


def logged(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A handler that says what it does; a unary one is given the request behind the call."""

    async def handle(call: Call, *request: Any) -> None:
        names = {"grpc_service": call.method.service, "grpc_method": call.method.name}
        log.info("started call", peer=call.peer.address, **names)
        begun = time.monotonic()
        code = Code.CANCELLED
        try:
            await handler(call, *request)
            code = Code.OK
        except EtcdError as error:
            code = error.code
            raise
        finally:
            took = format_duration(round((time.monotonic() - begun) * 1e9))
            log.info("finished call", grpc_code=code.label, took=took, **names)

    return handle
