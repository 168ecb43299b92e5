"""Calls that the proxy passes on as they are, and the table of all its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.api.checks import parse
from etcdpy.client import call as calls
from etcdpy.proto import election_pb2, lock_pb2
from etcdpy.proxy.upstream import StreamBroken, caller_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from etcdpy.client.namespace import Namespace
    from etcdpy.proxy.upstream import Upstream
    from etcdpy.transport.calls import Call, StreamCall

    AsyncUnary = Callable[[Call, bytes], Awaitable[None]]
    Stream = Callable[[StreamCall], Awaitable[None]]

_LOCKS = "/v3lockpb.Lock/"
_ELECTIONS = "/v3electionpb.Election/"


def passed(upstream: Upstream, path: str) -> AsyncUnary:
    """A unary call, bytes in and bytes out."""

    async def handle(call: Call, body: bytes) -> None:
        call.finish(await upstream.ask(path, body, caller_of(call)))

    return handle


def passed_stream(
    upstream: Upstream,
    path: str,
    into: Callable[[bytes], bytes] = lambda body: body,
    out_of: Callable[[bytes], bytes] = lambda body: body,
) -> Stream:
    """A call of one request with a stream of answers, at one endpoint to its end."""

    async def handle(call: StreamCall) -> None:
        body = await call.receive()
        stream = await upstream.open(path, caller_of(call))
        try:
            await stream.send(into(body or b""))
            await stream.done_sending()
            while (answer := await stream.read()) is not None:
                call.send(out_of(answer))
                if call.buffered_bytes > limits.PROXY_PASSED_BYTES_MAX:
                    await call.wait_writable(limits.PROXY_PASSED_BYTES_MAX)
        except StreamBroken as broken:
            raise broken.failure.error from None
        finally:
            stream.cancel()

    return handle


class Recipes:
    """Locks and elections, whose names and keys are keys like any other.

    etcd's proxy passes them on as they are, whatever its --namespace: their keys then lie outside of it, and a client
    that guards a transaction by the key of its lock looks for it in vain. Here they are inside.
    """

    def __init__(self, upstream: Upstream, namespace: Namespace | None) -> None:
        self._upstream = upstream
        self._prefix = namespace.prefix if namespace is not None else b""

    def handlers(self) -> tuple[dict[str, AsyncUnary], dict[str, Stream]]:
        """By service and method: the unary ones, and the streams."""
        unary = {
            "Lock.Lock": self._unary(_LOCKS + "Lock", lock_pb2.LockRequest, lock_pb2.LockResponse),
            "Lock.Unlock": self._unary(_LOCKS + "Unlock", lock_pb2.UnlockRequest, lock_pb2.UnlockResponse),
        }
        for name in ("Campaign", "Proclaim", "Leader", "Resign"):
            request = election_pb2.LeaderRequest if name == "Leader" else getattr(election_pb2, f"{name}Request")
            response = getattr(election_pb2, f"{name}Response")
            unary[f"Election.{name}"] = self._unary(_ELECTIONS + name, request, response)
        observe = passed_stream(
            self._upstream,
            f"{_ELECTIONS}Observe",
            lambda body: self._into(election_pb2.LeaderRequest, body),
            lambda body: self._out_of(election_pb2.LeaderResponse, body),
        )
        return unary, {"Election.Observe": observe}

    def _unary(self, path: str, request: type[Message], response: type[Message]) -> AsyncUnary:
        async def handle(call: Call, body: bytes) -> None:
            answer = await self._upstream.ask(path, self._into(request, body), caller_of(call))
            call.finish(self._out_of(response, answer))

        return handle if self._prefix else passed(self._upstream, path)

    def _into(self, kind: type[Message], body: bytes) -> bytes:
        return _with_keys(parse(kind, body), lambda key: self._prefix + key)

    def _out_of(self, kind: type[Message], body: bytes) -> bytes:
        return _with_keys(kind.FromString(body), lambda key: key.removeprefix(self._prefix))


def _with_keys(message: Message, change: Callable[[bytes], bytes]) -> bytes:
    """The message with other names and keys, encoded. Both services call them so wherever they stand."""
    for field, value in message.ListFields():
        if field.name in ("name", "key"):
            setattr(message, field.name, change(value))
        elif field.name in ("leader", "kv"):
            getattr(message, field.name).MergeFromString(_with_keys(value, change))
    return message.SerializeToString()


def passed_unary_handlers(upstream: Upstream) -> dict[str, AsyncUnary]:
    """What knows of no keys: leases but for their time, members, maintenance and users."""
    found = {}
    for method in vars(calls).values():
        if not isinstance(method, calls.Method):
            continue
        service, _, name = method.path.removeprefix("/etcdserverpb.").partition("/")
        if service in ("Cluster", "Maintenance", "Auth", "Lease") and name not in ("Snapshot", "LeaseKeepAlive"):
            found[f"{service}.{name}"] = passed(upstream, method.path)
    return found
