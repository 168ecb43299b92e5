"""Request bodies that are taken as they come, and answers that have no end, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from etcdpy import limits, work_limits
from etcdpy.transport.calls import Peer
from etcdpy.transport.chunked import ChunkDecoder
from etcdpy.transport.exchange import HttpHandler, HttpRequest, HttpResponse
from etcdpy.transport.http1 import Http1Protocol
from etcdpy.transport.http1_stream import AnswerOwner, BodyLost, EndlessAnswer
from etcdpy.transport.options import TransportOptions
from etcdpy.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

STREAMED = frozenset({"/in"})


def run(work: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 20))


@asynccontextmanager
async def serving(handler: HttpHandler, options: TransportOptions | None = None) -> AsyncIterator[tuple[Server, int]]:
    bugs: list[Exception] = []
    server = Server({}, options, on_bug=bugs.append)
    listeners = await server.listen_http1(["http://127.0.0.1:0"], handler, streamed=STREAMED)
    yield server, int(listeners[0].address[1])
    await server.close()
    assert not bugs, bugs


class Owner(AnswerOwner):
    def __init__(self) -> None:
        self.answer: EndlessAnswer | None = None
        self.rooms = 0
        self.reasons: list[str] = []
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    def begin(self, answer: EndlessAnswer) -> None:
        self.answer = answer
        self.begun.set()

    def room(self) -> None:
        self.rooms += 1

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.ended.set()


async def head_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def post(length: int) -> bytes:
    return b"POST /in HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % length


def test_the_handler_starts_before_the_body_is_there() -> None:
    async def scenario() -> None:
        pieces: list[bytes] = []
        first = asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            assert request.stream is not None
            assert request.body == b""
            async for piece in request.stream:
                pieces.append(piece)
                first.set()
            return HttpResponse(204)

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):  # the connection serves the next request as well
                first.clear()
                writer.write(post(6) + b"abc")
                await first.wait()
                writer.write(b"def")
                assert (await head_of(reader)).startswith("HTTP/1.1 204")
            assert b"".join(pieces) == b"abcdefabcdef"
            chunked = b"POST /in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nghi\r\n0\r\n\r\n"
            writer.write(chunked)
            assert (await head_of(reader)).startswith("HTTP/1.1 204")
            assert pieces[-1] == b"ghi"
            writer.close()

    run(scenario())


def test_a_handler_that_does_not_read_holds_the_sender_back() -> None:
    size = 64 * 1024 * 1024

    async def scenario() -> None:
        taken, gate = 0, asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            nonlocal taken
            await gate.wait()
            assert request.stream is not None
            async for piece in request.stream:
                taken += len(piece)
            return HttpResponse(204)

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(size))
            sent = asyncio.create_task(send(writer, size))
            await asyncio.sleep(0.2)
            assert not sent.done()
            gate.set()
            assert (await head_of(reader)).startswith("HTTP/1.1 204")
            await sent
            assert taken == size
            writer.close()

    async def send(writer: asyncio.StreamWriter, size: int) -> None:
        for _ in range(0, size, 65536):
            writer.write(bytes(65536))
            await writer.drain()

    run(scenario())


def test_a_body_that_breaks_off_is_an_error_for_its_handler() -> None:
    async def scenario() -> None:
        failures: list[BodyLost] = []
        done = asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            assert request.stream is not None
            try:
                async for _ in request.stream:
                    pass
            except BodyLost as error:
                failures.append(error)
            done.set()
            return HttpResponse(400)

        async with serving(handler) as (_, port):
            for how in ("close", "nonsense"):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                if how == "close":
                    writer.write(post(6) + b"abc")
                else:
                    writer.write(b"POST /in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n")
                await writer.drain()
                writer.close()
                await done.wait()
                done.clear()
            assert str(failures[0]) == "unexpected EOF"
            assert len(failures) == 2

    run(scenario())


class GoneTransport(asyncio.Transport):
    """A uvloop transport whose handle is closed: it may say that it is not closing, and refuses every write."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError("the handler is closed")

    def abort(self) -> None:
        pass


def test_an_answer_that_comes_after_the_end_of_its_connection_is_dropped() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()

        async def handler(request: HttpRequest) -> HttpResponse:
            assert request.stream is not None
            with pytest.raises(BodyLost):
                async for _ in request.stream:
                    pass
            asyncio.get_running_loop().call_later(0.01, answered.set)
            return HttpResponse(503, body=b"too late")

        async with serving(handler) as (server, _):
            protocol = Http1Protocol(server, Peer("nobody"), handler, STREAMED)
            protocol.connection_made(GoneTransport())
            protocol.data_received(post(6) + b"abc")
            protocol.connection_lost(None)
            await answered.wait()

    run(scenario())


@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_comes_while_the_server_closes_is_no_bug(turns: int) -> None:
    async def scenario() -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(404, body=b"nobody here")

        async with serving(handler) as (server, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                for _ in range(turns):
                    await asyncio.sleep(0)
                await server.close()
                await asyncio.sleep(0.01)

    run(scenario())


def test_a_body_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_REQUEST_SECONDS_MAX", 0.05)

    async def scenario() -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            assert request.stream is not None
            with pytest.raises(BodyLost, match="nothing came"):
                async for _ in request.stream:
                    pass
            return HttpResponse(408)

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(6) + b"abc")
            assert (await head_of(reader)).startswith("HTTP/1.1 408")
            writer.close()

    run(scenario())


def test_a_refusal_reaches_a_sender_that_is_still_sending() -> None:
    async def scenario() -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(412, [], b"no")

        async with serving(handler) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(10_000_000))
            for _ in range(100):
                writer.write(bytes(50_000))
            assert (await head_of(reader)).startswith("HTTP/1.1 412")
            assert await reader.read() == b"no"
            writer.close()
            await server.drain(5)
            assert not server.connections

    run(scenario())


def test_an_endless_answer_is_flushed_at_every_send() -> None:
    async def scenario() -> None:
        owner = Owner()

        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(200, [], owner)

        async with serving(handler) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /out HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await head_of(reader)
            assert "transfer-encoding: chunked" in head.lower()
            await owner.begun.wait()
            assert owner.answer is not None
            decoder = ChunkDecoder()
            for number in range(3):
                assert owner.answer.send([b"a" * number, b"b"]) == number + 1
                assert decoder.feed(await reader.read(100)) == [b"a" * number + b"b"]
            assert owner.answer.send([]) == 0
            assert len(server.connections) == 1
            sock = owner.answer._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
            owner.answer.close("enough")
            decoder.feed(await reader.read())
            assert decoder.ended
            await owner.ended.wait()
            assert owner.reasons == ["enough"]
            assert owner.answer.send([b"late"]) == 4  # nobody to send to, and nobody is hurt
            writer.close()
            assert not server.connections

    run(scenario())


def test_a_client_that_goes_ends_the_answer_and_drain_does_too() -> None:
    async def scenario() -> None:
        owners: list[Owner] = []

        async def handler(request: HttpRequest) -> HttpResponse:
            owners.append(Owner())
            return HttpResponse(200, [], owners[-1])

        async with serving(handler) as (server, port):
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /out HTTP/1.1\r\nhost: a\r\n\r\n")
                await head_of(reader)
                await owners[-1].begun.wait()
                if len(owners) == 1:
                    writer.close()
                    await owners[0].ended.wait()
            await server.drain(5)
            await owners[1].ended.wait()
            assert owners[1].reasons == ["closed"]

    run(scenario())


def test_a_client_that_reads_nothing_is_dropped() -> None:
    async def scenario() -> None:
        owner = Owner()

        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(200, [], owner)

        async with serving(handler, TransportOptions(stream_stall_seconds=0.1)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /out HTTP/1.1\r\nhost: a\r\n\r\n")
            await owner.begun.wait()
            assert owner.answer is not None
            while owner.answer.has_room:
                owner.answer.send([bytes(1_000_000)])
                await asyncio.sleep(0)
            await owner.ended.wait()
            assert owner.reasons == ["write: i/o timeout"]
            writer.close()
            del reader

    run(scenario())


def test_room_is_told_when_the_client_reads_on() -> None:
    async def scenario() -> None:
        owner = Owner()

        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(200, [], owner)

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /out HTTP/1.1\r\nhost: a\r\n\r\n")
            await owner.begun.wait()
            assert owner.answer is not None
            while owner.answer.has_room:
                owner.answer.send([bytes(1_000_000)])
                await asyncio.sleep(0)
            while not owner.rooms:
                await reader.read(1_000_000)
            assert owner.answer.has_room
            writer.close()

    run(scenario())


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.seen = 0
        self.running = True

    def count(self) -> None:
        self.seen += 1
        if self.running:
            asyncio.get_running_loop().call_soon(self.count)


def test_a_body_of_tiny_chunks_leaves_others_their_turn() -> None:
    """Found by tests/fuzz: 43,000 chunks in one read held the loop for 0.2 s."""
    chunks = b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n"

    async def scenario() -> None:
        bodies: list[int] = []

        async def handler(request: HttpRequest) -> HttpResponse:
            size = len(request.body)
            if request.stream is not None:
                size = sum([len(piece) async for piece in request.stream])
            bodies.append(size)
            return HttpResponse(204)

        async with serving(handler) as (_, port):
            for path in (b"/whole", b"/in"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                turns = Turns()
                writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
                await writer.drain()
                turns.count()
                assert (await head_of(reader)).startswith("HTTP/1.1 204")
                assert turns.seen > len(chunks) / 6 / work_limits.HTTP_EVENTS_PER_TURN
                turns.running = False
                writer.close()
        assert bodies == [40_000, 40_000]

    run(scenario())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"CONNECT /x HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a:b\r\n" * 1500 + b"\r\n", "431"),
        (b"HEAD / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "400"),
    ],
)
def test_requests_that_were_bugs(request_bytes: bytes, status: str) -> None:
    """Found by tests/fuzz: a tunnel that h11 took for granted, a head of 6,000 lines, a body for a HEAD."""

    async def scenario() -> None:
        async def handler(_request: HttpRequest) -> HttpResponse:
            return HttpResponse(200)

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_bytes)
            assert (await head_of(reader)).startswith(f"HTTP/1.1 {status}")
            writer.close()

    run(scenario())
