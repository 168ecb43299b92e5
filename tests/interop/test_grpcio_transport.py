"""The transport against grpcio's client, which we did not write."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import hpack
import pytest

from etcdpy.errors import Code, KeyNotFound, StatusError
from etcdpy.transport import frames
from etcdpy.transport.calls import Call, Kind, Method, StreamCall
from etcdpy.transport.options import TransportOptions
from tests.support.transport import TransportThread
from tests.support.wire import headers, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20


class Room:
    """Handlers, and what they saw."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.held: list[Call] = []
        self.metadata: dict[bytes, list[bytes]] = {}
        self.received = 0

    def methods(self) -> list[Method]:
        return [
            Method("t.T", "Echo", Kind.UNARY, self.echo),
            Method("t.T", "Later", Kind.UNARY, self.later),
            Method("t.T", "Hold", Kind.UNARY, self.hold),
            Method("t.T", "Fail", Kind.UNARY, self.fail),
            Method("t.T", "Size", Kind.UNARY, self.size),
            Method("t.T", "Talk", Kind.BIDI, self.talk),
            Method("t.T", "Count", Kind.SERVER_STREAM, self.count),
            Method("t.T", "Sum", Kind.CLIENT_STREAM, self.sum),
            Method("t.T", "Refuse", Kind.BIDI, self.refuse),
            Method("t.T", "Slow", Kind.CLIENT_STREAM, self.slow),
        ]

    def echo(self, call: Call, body: bytes) -> None:
        self.metadata = call.head.metadata
        call.finish(body)

    def later(self, call: Call, body: bytes) -> None:
        asyncio.get_running_loop().call_later(0.01, call.finish, body)

    def hold(self, call: Call, _body: bytes) -> None:
        call.on_cancel = self.cancelled.set
        self.held.append(call)

    def fail(self, _call: Call, body: bytes) -> None:
        if body:
            raise StatusError(Code.UNAVAILABLE, body.decode())
        raise KeyNotFound

    def size(self, call: Call, body: bytes) -> None:
        call.finish(b"x" * int(body))

    async def talk(self, call: StreamCall) -> None:
        try:
            while (message := await call.receive()) is not None:
                call.send(message)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def count(self, call: StreamCall) -> None:
        request = await call.receive()
        assert request is not None
        for number in range(int(request)):
            call.send(b"%d" % number + b"x" * 10_000)
            await call.wait_writable(100_000)

    async def sum(self, call: StreamCall) -> None:
        total = 0
        while (message := await call.receive()) is not None:
            total += len(message)
        call.send(b"%d" % total)

    async def refuse(self, _call: StreamCall) -> None:
        raise KeyNotFound

    async def slow(self, call: StreamCall) -> None:
        await asyncio.sleep(0.3)
        self.received = call.connection.held_bytes
        while await call.receive() is not None:
            pass
        call.send(b"done")


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


@pytest.fixture(scope="module")
def server(room: Room) -> Iterator[TransportThread]:
    with TransportThread(room.methods(), options=TransportOptions(max_receive_bytes=4 * MIB)) as running:
        yield running
        assert not running.bugs


@pytest.fixture(scope="module")
def channel(server: TransportThread) -> Iterator[Any]:
    with connect(server) as opened:
        yield opened


def connect(server: TransportThread) -> Any:
    """A channel of its own. Any: the stubs of grpcio demand serializers, bytes need none."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options)


def unary(channel: Any, name: str) -> Any:
    return channel.unary_unary(f"/t.T/{name}")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_unary(channel: Any) -> None:
    for name in ("Echo", "Later"):
        call = unary(channel, name)
        for body in (b"", b"hello", b"x" * 100_000):
            assert call(body, timeout=10) == body


def test_many_at_once(channel: Any) -> None:
    call = channel.unary_unary("/t.T/Later")
    futures = [call.future(b"%d" % number, timeout=30) for number in range(500)]
    assert [future.result() for future in futures] == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("size", [16_379, 16_380, 65_530, 65_531, 4 * MIB])
def test_large_messages(channel: Any, size: int) -> None:
    assert unary(channel, "Echo")(b"x" * size, timeout=30) == b"x" * size


def test_an_answer_of_many_slices(channel: Any) -> None:
    assert len(unary(channel, "Size")(b"50000000", timeout=60)) == 50_000_000


def test_a_message_over_the_limit(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(b"x" * (4 * MIB + 1), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == f"grpc: received message larger than max ({4 * MIB + 1} vs. {4 * MIB})"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key not found"),
        ("100% ü".encode(), grpc.StatusCode.UNAVAILABLE, "100% ü"),
    ],
)
def test_errors(channel: Any, body: bytes, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Fail")(body, timeout=10)
    assert caught.value.code() is code
    assert caught.value.details() == text


def test_unknown_methods(channel: Any) -> None:
    for path, text in (("/t.T/No", "unknown method No for service t.T"), ("/no.No/No", "unknown service no.No")):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=10)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, text)
        with pytest.raises(grpc.RpcError) as caught:
            next(channel.stream_stream(path)(itertools.repeat(b"x", 3), timeout=10))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metadata(channel: Any, room: Room) -> None:
    metadata = (("token", "abc"), ("many", "1"), ("many", "2"), ("raw-bin", b"\0\1\xff"))
    channel.unary_unary("/t.T/Echo")(b"", timeout=10, metadata=metadata)
    assert room.metadata[b"token"] == [b"abc"]
    assert room.metadata[b"many"] == [b"1", b"2"]
    assert room.metadata[b"raw-bin"] == [b"\0\1\xff"]


def test_gzip(channel: Any) -> None:
    call = channel.unary_unary("/t.T/Echo")
    assert call(b"x" * 10_000, timeout=10, compression=grpc.Compression.Gzip) == b"x" * 10_000
    talk = channel.stream_stream("/t.T/Talk")
    bodies = [b"y" * 1000, b"z" * 2000]
    assert list(talk(iter(bodies), timeout=10, compression=grpc.Compression.Gzip)) == bodies


def test_unknown_compression(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Echo")(b"x" * 1000, timeout=10, compression=grpc.Compression.Deflate)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_deadline(channel: Any, room: Room) -> None:
    room.cancelled.clear()
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Hold")(b"", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert room.cancelled.wait(5)


def test_cancellation(channel: Any, room: Room) -> None:
    room.cancelled.clear()
    room.held.clear()
    future = channel.unary_unary("/t.T/Hold").future(b"")
    wait_for(lambda: bool(room.held))
    future.cancel()
    assert room.cancelled.wait(5)
    assert room.held[0].done


def test_streams_both_ways(channel: Any) -> None:
    bodies = [b"%d" % number * (number % 100) for number in range(1000)]
    assert list(channel.stream_stream("/t.T/Talk")(iter(bodies), timeout=30)) == bodies


def test_a_stream_in_step(channel: Any) -> None:
    gate = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for number in range(50):
            gate.acquire()
            yield b"%d" % number

    for number, answer in enumerate(channel.stream_stream("/t.T/Talk")(requests(), timeout=30)):
        assert answer == b"%d" % number
        gate.release()


def test_stream_cancellation(channel: Any, room: Room) -> None:
    room.cancelled.clear()
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"one"
        done.wait(5)

    call = channel.stream_stream("/t.T/Talk")(requests())
    assert next(call) == b"one"
    call.cancel()
    assert room.cancelled.wait(5)
    done.set()


def test_server_stream(channel: Any) -> None:
    answers = list(channel.unary_stream("/t.T/Count")(b"2000", timeout=60))
    assert [int(answer.rstrip(b"x")) for answer in answers] == list(range(2000))


def test_client_stream(channel: Any) -> None:
    assert channel.stream_unary("/t.T/Sum")(iter([b"x" * 100_000] * 30), timeout=30) == b"3000000"
    assert channel.stream_unary("/t.T/Sum")(iter([]), timeout=30) == b"0"


def test_a_handler_that_does_not_read_holds_the_client_back(channel: Any, room: Room) -> None:
    assert channel.stream_unary("/t.T/Slow")(iter([b"x" * 100_000] * 100), timeout=30) == b"done"
    assert 0 < room.received <= 2 * MIB


def test_stream_errors(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(channel.stream_stream("/t.T/Refuse")(itertools.repeat(b"x", 10), timeout=10))
    assert caught.value.details() == "etcdserver: key not found"


def test_a_lost_client_cancels_its_calls(server: TransportThread, room: Room) -> None:
    room.cancelled.clear()
    room.held.clear()
    lost = connect(server)
    pending = lost.unary_unary("/t.T/Hold").future(b"")
    wait_for(lambda: bool(room.held))
    lost.close()
    assert room.cancelled.wait(5)
    assert pending.code() is grpc.StatusCode.CANCELLED


def test_drain_lets_calls_finish_and_closes() -> None:
    room = Room()
    with TransportThread(room.methods()) as server, connect(server) as channel:
        future = channel.unary_unary("/t.T/Hold").future(b"", timeout=20)
        wait_for(lambda: bool(room.held))
        drained = asyncio.run_coroutine_threadsafe(server.server.drain(10), server.loop)
        time.sleep(0.1)
        assert not drained.done()
        server.call(lambda: room.held[0].finish(b"done"))
        assert future.result() == b"done"
        drained.result(10)
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "Echo")(b"", timeout=0.5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_keepalive_drops_a_silent_client() -> None:
    options = TransportOptions(keepalive_interval_seconds=0.1, keepalive_timeout_seconds=0.1)
    with TransportThread(Room().methods(), options=options) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("etcdpy.limits.PREFACE_SECONDS_MAX", 0.1)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.settimeout(5)
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            received = b""
            while chunk := client.recv(4096):
                received += chunk
        assert b"etcdping" in received


def test_keepalive_keeps_a_client_that_answers() -> None:
    options = TransportOptions(keepalive_interval_seconds=0.05, keepalive_timeout_seconds=0.2)
    room = Room()
    with TransportThread(room.methods(), options=options) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("etcdpy.limits.PREFACE_SECONDS_MAX", 0.05)
        with connect(server) as channel:
            future = channel.unary_unary("/t.T/Hold").future(b"", timeout=10)
            wait_for(lambda: bool(room.held))
            time.sleep(0.7)
            server.call(lambda: room.held[0].finish(b"still here"))
            assert future.result() == b"still here"


def test_a_client_that_takes_nothing_from_its_socket_is_dropped() -> None:
    with TransportThread(Room().methods()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("etcdpy.limits.WRITE_STALL_SECONDS_MAX", 0.2)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            window = frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 2**30}) + frames.window_update(0, 2**30)
            client.sendall(frames.PREFACE + window)
            wait_for(lambda: server.call(lambda: len(server.server.connections)) == 1)
            block = hpack.Encoder().encode(headers(path="/t.T/Size"))
            client.sendall(frames.frame(1, 4, 1, block) + frames.frame(0, 1, 1, message(b"20000000")))
            wait_for(lambda: server.call(lambda: len(server.server.connections)) == 0)


def test_requests_wait_while_the_client_reads_no_answers() -> None:
    """Back-pressure: with the socket full, nothing more is read, so no more work is done for this client."""
    started = 0

    def answer(call: Call, _body: bytes) -> None:
        nonlocal started
        started += 1
        call.finish(b"x" * 100_000)

    with TransportThread([Method("t.T", "Echo", Kind.UNARY, answer)]) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.connect(("127.0.0.1", server.port))
        window = frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 2**30}) + frames.window_update(0, 2**30)
        client.sendall(frames.PREFACE + window)
        block = hpack.Encoder().encode(headers())
        sent = 0
        client.setblocking(False)
        pad = b"y" * 10_000
        with contextlib.suppress(BlockingIOError):
            while sent < 5000:
                data = frames.frame(1, 4, 2 * sent + 1, block if sent == 0 else hpack.Encoder().encode(headers()))
                data += frames.frame(0, 1, 2 * sent + 1, message(pad))
                sent += 1
                while data:
                    data = data[client.send(data) :]
                time.sleep(0.0005)
        time.sleep(0.1)
        done = started
        assert 0 < done < sent
        time.sleep(0.2)
        assert started == done
