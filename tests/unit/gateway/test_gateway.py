"""What the gateway hands to calls, and what it makes of their ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.errors import Code, InvalidAuthToken, StatusError
from etcdpy.gateway.gateway import Gateway, routes, streamed_paths
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind, Method, Peer
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.http1_stream import BodyLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from etcdpy.transport.calls import Call, StreamCall

MAX = 1000


class Service:
    """A table of methods in which some have handlers, and a gateway before it. Belongs to the running loop."""

    def __init__(self, **handlers: Any) -> None:
        self.methods = {}
        for descriptor in routes().values():
            service = descriptor.containing_service.full_name
            kinds = {
                (False, False): Kind.UNARY,
                (False, True): Kind.SERVER_STREAM,
                (True, True): Kind.BIDI,
            }
            kind = kinds[descriptor.client_streaming, descriptor.server_streaming]
            method = Method(service, descriptor.name, kind, handlers.get(descriptor.name, nothing))
            self.methods[method.path] = method
        self.bugs: list[Exception] = []
        self.gateway = Gateway(self.methods, self.spawn, self.bugs.append, max_receive_bytes=MAX)

    def spawn(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def method(self, name: str) -> Method:
        return next(method for method in self.methods.values() if method.name == name)


def nothing(call: Call, _body: bytes) -> None:
    call.finish(b"")


def request(path: str, body: bytes = b"{}", peer: Peer | None = None, **fields: Any) -> HttpRequest:
    return HttpRequest(
        "POST", path, "", fields.pop("headers", {}), body, peer or Peer("1.2.3.4:5"), False, "h", "HTTP/1.1", **fields
    )


def play(scene: Callable[[], Any]) -> Any:
    return asyncio.run(scene())


async def body_of(response: HttpResponse) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    assert hasattr(response.body, "__aiter__")
    return b"".join([piece async for piece in response.body])


@pytest.mark.parametrize("headers", [{}, {"accept": "*/*"}, {"grpc-metadata-grpcgateway-accept": "x"}])
def test_the_name_of_a_certificate_never_reaches_a_call(headers: dict[str, str]) -> None:
    """CVE-2018-16886. Whoever reads the mark finds it, whether the client sent Accept or not."""

    async def scene() -> None:
        seen: list[tuple[str | None, bool]] = []

        def put(call: Call, _body: bytes) -> None:
            seen.append((call.peer.common_name, b"grpcgateway-accept" in call.head.metadata))
            call.finish(b"")

        async def watch(call: StreamCall) -> None:
            seen.append((call.peer.common_name, b"grpcgateway-accept" in call.head.metadata))

        service = Service(Put=put, Watch=watch)
        root = Peer("1.2.3.4:5", "root", secure=True)
        for path in ("/v3/kv/put", "/v3/watch"):
            await service.gateway.handle(request(path, peer=root, headers=headers))
        assert seen == [(None, True)] * 2

    play(scene)


def test_metadata() -> None:
    async def scene() -> None:
        seen: dict[bytes, list[bytes]] = {}

        def put(call: Call, _body: bytes) -> None:
            seen.update(call.head.metadata)
            call.finish(b"")

        headers = {
            "authorization": "Bearer abc",
            "grpc-metadata-token": "t",
            "grpc-metadata-x-bin": "Zm9v",
            "grpc-metadata-grpc-timeout": "1S",
            "grpc-metadata-bad name": "x",
            "grpc-metadata-odd": "\xe4",
            "x-forwarded-for": "9.9.9.9",
            "x-other": "y",
        }
        await Service(Put=put).gateway.handle(request("/v3/kv/put", headers=headers))
        assert seen == {
            b"authorization": [b"Bearer abc"],
            b"grpcgateway-authorization": [b"Bearer abc"],
            b"grpcgateway-accept": [b""],
            b"token": [b"t"],
            b"x-bin": [b"foo"],
            b"x-forwarded-for": [b"9.9.9.9, 1.2.3.4"],
            b"x-forwarded-host": [b"h"],
        }

    play(scene)


def test_calls_count_as_those_of_other_clients() -> None:
    async def scene() -> None:
        service = Service()
        await service.gateway.handle(request("/v3/kv/put", b'{"key":"YQ=="}'))
        put = service.method("Put")
        assert (put.started, put.received, put.received_bytes, put.sent, put.handled[Code.OK]) == (1, 1, 3, 1, 1)

    play(scene)


def test_a_message_over_the_limit() -> None:
    async def scene() -> None:
        body = b'{"key":"' + b"A" * 2000 + b'"}'
        response = await Service().gateway.handle(request("/v3/kv/put", body))
        assert response.status == 429
        text = "grpc: received message larger than max (1503 vs. 1000)"
        assert json.loads(await body_of(response)) == {"code": 8, "message": text}

    play(scene)


def test_a_bug_is_reported_and_answered() -> None:
    async def scene() -> None:
        def put(_call: Call, _body: bytes) -> None:
            raise RuntimeError("planted")

        async def watch(_call: StreamCall) -> None:
            raise RuntimeError("planted")

        service = Service(Put=put, Watch=watch)
        assert (await service.gateway.handle(request("/v3/kv/put"))).status == 500
        assert (await service.gateway.handle(request("/v3/watch"))).status == 500
        assert [str(bug) for bug in service.bugs] == ["planted"] * 2

    play(scene)


def test_who_must_log_in_is_told_how() -> None:
    async def scene() -> None:
        def put(call: Call, _body: bytes) -> None:
            call.fail(InvalidAuthToken())

        response = await Service(Put=put).gateway.handle(request("/v3/kv/put"))
        assert response.status == 401
        assert ("www-authenticate", InvalidAuthToken.message) in response.headers

    play(scene)


async def echo(call: StreamCall) -> None:
    """Answers every request with its number, and says when it is over."""
    count = 0
    while await call.receive() is not None:
        count += 1
        call.send(rpc_pb2.WatchResponse(watch_id=count).SerializeToString())


def test_requests_and_answers_at_the_same_time() -> None:
    async def scene() -> None:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def body() -> AsyncIterator[bytes]:
            while (piece := await pieces.get()) is not None:
                yield piece

        service = Service(Watch=echo)
        pieces.put_nowait(b'{}{"create_')
        response = await service.gateway.handle(request("/v3/watch", b"", stream=body()))
        lines = response.body.__aiter__()  # type: ignore[union-attr]
        assert json.loads(await anext(lines)) == {"result": {"watch_id": "1"}}
        pieces.put_nowait(b'request":{}}')
        assert json.loads(await anext(lines)) == {"result": {"watch_id": "2"}}
        pieces.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(lines)

    play(scene)


async def endless(call: StreamCall) -> None:
    call.send(b"")
    while await call.receive() is not None:
        pass
    await asyncio.Event().wait()


def test_a_client_that_goes_takes_its_call_along() -> None:
    async def scene() -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"{}"
            await asyncio.sleep(0)
            raise BodyLost("gone")

        service = Service(Watch=endless)
        response = await service.gateway.handle(request("/v3/watch", b"", stream=body()))
        await asyncio.wait_for(body_of(response), 5)
        assert service.method("Watch").handled[Code.CANCELLED] == 1

    play(scene)


def test_the_end_of_the_task_that_answers_is_the_end_of_the_call() -> None:
    async def scene() -> None:
        service = Service(Watch=endless)
        asking = asyncio.create_task(service.gateway.handle(request("/v3/watch", b"{}")))
        await asking
        await asyncio.sleep(0)
        assert service.method("Watch").handled[Code.CANCELLED] == 1

    play(scene)


def test_streams_end_with_the_server() -> None:
    async def scene() -> None:
        service = Service(Watch=endless)
        response = await service.gateway.handle(request("/v3/watch", b"{}"))
        service.gateway.end_endless()
        lines = (await asyncio.wait_for(body_of(response), 5)).splitlines()
        assert json.loads(lines[-1]) == {"error": {"code": 14, "message": "etcdserver: server stopped"}}

    play(scene)


def test_an_error_in_the_middle_is_a_line() -> None:
    async def scene() -> None:
        async def watch(call: StreamCall) -> None:
            call.send(rpc_pb2.WatchResponse(cancel_reason="<&>").SerializeToString())
            raise StatusError(Code.DATA_LOSS, "<")

        response = await Service(Watch=watch).gateway.handle(request("/v3/watch"))
        assert response.status == 200
        assert await body_of(response) == (
            b'{"result":{"cancel_reason":"\\u003c\\u0026\\u003e"}}\n{"error":{"code":15,"message":"\\u003c"}}\n'
        )

    play(scene)


def test_a_large_answer_comes_in_pieces_and_lets_others_work() -> None:
    async def scene() -> None:
        answer = rpc_pb2.RangeResponse(count=1)
        for number in range(20_000):
            answer.kvs.add(key=b"%d" % number, value=bytes(50))

        def range_(call: Call, _body: bytes) -> None:
            call.finish_parts([answer.SerializeToString()])

        response = await Service(Range=range_).gateway.handle(request("/v3/kv/range"))
        assert not isinstance(response.body, bytes)
        pieces = [piece async for piece in response.body]  # type: ignore[union-attr]
        assert max(map(len, pieces)) < 200_000
        assert len(json.loads(b"".join(pieces))["kvs"]) == 20_000

    play(scene)


def test_paths() -> None:
    assert len(routes()) == 51
    assert streamed_paths() == {"/v3/watch", "/v3/lease/keepalive", "/v3beta/watch", "/v3beta/lease/keepalive"}
