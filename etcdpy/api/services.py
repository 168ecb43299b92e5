"""The table of gRPC methods, made from the service descriptors, so that names and kinds cannot differ from the wire.

A method of a service that is served, but which has no handler, answers Unimplemented like any gRPC server whose
method is missing; it is in the table because etcd's metrics count every method of its services from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from etcdpy.transport.calls import Kind, Method

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from typing import Any

    from etcdpy.transport.calls import Call

    Unary = Callable[[Call, bytes], None]
    AsyncUnary = Callable[[Call, bytes], Awaitable[None]]
    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

SERVICE_FILES: Final = (rpc_pb2, lock_pb2, election_pb2)
"""Whose services are served."""

HEALTH_SERVICE: Final = "grpc.health.v1.Health"

_KINDS: Final = {
    (False, False): Kind.UNARY,
    (True, False): Kind.CLIENT_STREAM,
    (False, True): Kind.SERVER_STREAM,
    (True, True): Kind.BIDI,
}


def method_table(handlers: Mapping[str, Callable[..., Any]]) -> dict[bytes, Method]:
    """Every method by its path, `b"/etcdserverpb.KV/Put"`. `handlers` are by service and method: `KV.Put`.

    The health service is there if it has handlers.
    """
    methods = [
        Method(
            descriptor.full_name,
            method.name,
            kind,
            handlers.get(f"{name}.{method.name}") or _missing(method.name, kind),
        )
        for file in SERVICE_FILES
        for name, descriptor in file.DESCRIPTOR.services_by_name.items()
        for method in descriptor.methods
        for kind in (_KINDS[method.client_streaming, method.server_streaming],)
    ]
    kinds = {"Check": Kind.UNARY, "List": Kind.UNARY, "Watch": Kind.SERVER_STREAM}
    methods += [
        Method(HEALTH_SERVICE, name, kind, handlers[f"Health.{name}"])
        for name, kind in kinds.items()
        if f"Health.{name}" in handlers
    ]
    known = {name for name in handlers if not name.startswith("Health.")}
    assert known <= {f"{method.service.rpartition('.')[2]}.{method.name}" for method in methods}, "unknown handler"
    return {f"/{method.service}/{method.name}".encode(): method for method in methods}


def _missing(name: str, kind: Kind) -> Callable[..., Any]:
    error = f"method {name} not implemented"

    def refuse(call: Call, _body: bytes) -> None:
        call.fail(StatusError(Code.UNIMPLEMENTED, error))

    async def refuse_stream(_call: Call) -> None:
        raise StatusError(Code.UNIMPLEMENTED, error)

    return refuse if kind is Kind.UNARY else refuse_stream


def in_task(spawn: Spawn, handler: AsyncUnary) -> Unary:
    """A unary handler that must wait for something, run as a task that ends with its call."""

    async def run(call: Call, body: bytes) -> None:
        try:
            await handler(call, body)
        except EtcdError as error:
            call.fail(error)
        except Exception as error:
            call.crash(error)

    def start(call: Call, body: bytes) -> None:
        task = spawn(run(call, body))

        def cancel() -> None:
            task.cancel()

        call.on_cancel = cancel

    return start
