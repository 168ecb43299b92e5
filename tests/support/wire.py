"""HTTP/2 by hand: an in-memory client on `Http2Connection`, for tests of single frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hpack

from etcdpy.transport import frames
from etcdpy.transport.calls import Call, Kind, Method, Peer, StreamCall
from etcdpy.transport.deadlines import Deadlines
from etcdpy.transport.frames import PREFACE, frame
from etcdpy.transport.grpc import GrpcService
from etcdpy.transport.http2 import Http2Connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

BASE_HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/t.T/Echo",
    ":authority": "x",
    "content-type": "application/grpc",
    "te": "trailers",
}


def headers(**changes: str | None) -> list[tuple[str, str]]:
    """A gRPC request's headers; keyword `path` changes `:path`, None leaves a field out, `_` stands for `-`."""
    fields: dict[str, str] = dict(BASE_HEADERS)
    for name, value in changes.items():
        key = f":{name}" if f":{name}" in BASE_HEADERS else name.replace("_", "-")
        if value is None:
            fields.pop(key)
        else:
            fields[key] = value
    return list(fields.items())


def message(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


@dataclass
class Seen:
    """One frame from the server; `fields` for HEADERS, `code` for RST_STREAM and GOAWAY."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: dict[str, str]
    code: int = 0


class FakeClock:
    """A clock that the test moves, and its timers."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.timers: list[tuple[float, Callable[[], None], FakeTimer]] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer()
        self.timers.append((when, callback, timer))
        return timer

    def advance(self, seconds: float) -> None:
        self.time += seconds
        while due := [entry for entry in self.timers if entry[0] <= self.time]:
            for entry in due:
                self.timers.remove(entry)
                if not entry[2].cancelled:
                    entry[1]()


class FakeTimer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Wire:
    """A client and the connection under test. Calls of `/t.T/Echo` are echoed, those of `/t.T/Hold` kept in `held`."""

    def __init__(
        self,
        *,
        max_streams: int = 2**32 - 1,
        ping_min_seconds: float = 5.0,
        max_receive_bytes: int = 1 << 20,
        greet: bool = True,
        settings: dict[int, int] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.held: list[Call] = []
        self.streaming: list[StreamCall] = []
        self.bugs: list[Exception] = []
        self.bodies: list[bytes] = []
        methods = [
            Method("t.T", "Echo", Kind.UNARY, self._echo),
            Method("t.T", "Hold", Kind.UNARY, self._hold),
            Method("t.T", "Bug", Kind.UNARY, self._bug),
            Method("t.T", "Talk", Kind.BIDI, self._talk),
        ]
        self.methods = {method.path: method for method in methods}
        self.service = GrpcService(
            self.methods,
            max_receive_bytes=max_receive_bytes,
            deadlines=Deadlines(self.clock.now, self.clock.call_at),
            spawn=self._spawn,
            on_bug=self.bugs.append,
            now=self.clock.now,
        )
        self.connection = Http2Connection(
            self.service, Peer("127.0.0.1:1"), max_streams=max_streams, ping_min_seconds=ping_min_seconds
        )
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self._buffer = b""
        if greet:
            self.send(PREFACE + frames.settings(settings or {}))
            self.take()

    def _echo(self, call: Call, body: bytes) -> None:
        self.bodies.append(body)
        call.finish(body)

    def _hold(self, call: Call, body: bytes) -> None:
        self.bodies.append(body)
        self.held.append(call)

    def _bug(self, call: Call, body: bytes) -> None:
        raise RuntimeError("a bug")

    async def _talk(self, call: StreamCall) -> None:
        raise AssertionError("the fake spawn does not run it")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Tests drive StreamCall themselves: the handler's coroutine is dropped."""
        work.close()
        calls = [stream for stream in self.connection.streams.values() if isinstance(stream, StreamCall)]
        self.streaming.append(next(call for call in calls if call not in self.streaming))
        return FakeTask()  # type: ignore[return-value]

    def send(self, data: bytes) -> None:
        self.connection.receive(data)
        while self.connection.behind:
            self.connection.receive(b"")

    def request(self, stream: int, body: bytes | None = b"hi", *, end: bool = True, **changes: str | None) -> None:
        """HEADERS and DATA of a call; body None: HEADERS alone."""
        flags = frames.FLAG_END_HEADERS | (frames.FLAG_END_STREAM if body is None and end else 0)
        data = frame(frames.HEADERS, flags, stream, self.encoder.encode(headers(**changes)))
        if body is not None:
            data += frame(frames.DATA, frames.FLAG_END_STREAM if end else 0, stream, message(body))
        self.send(data)

    def take(self, *, pump: bool = True) -> list[Seen]:
        """The frames that the server sent since the last call, as the I/O side would take them."""
        data = self.connection.take()
        while pump and self.connection.more:
            self.connection.pump()
            data += self.connection.take()
        return self.parse(data)

    def parse(self, data: bytes) -> list[Seen]:
        self._buffer += data
        seen: list[Seen] = []
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big")
            payload = self._buffer[9 : 9 + length]
            self._buffer = self._buffer[9 + length :]
            one = Seen(kind, flags, stream, payload, {})
            if kind == frames.HEADERS and flags & frames.FLAG_END_HEADERS:
                one.fields = {str(field[0]): str(field[1]) for field in self.decoder.decode(payload)}
            elif kind == frames.RST_STREAM:
                one.code = int.from_bytes(payload, "big")
            elif kind == frames.GOAWAY:
                one.code = int.from_bytes(payload[4:8], "big")
            seen.append(one)
        return seen

    def status(self, stream: int) -> tuple[str, str]:
        """grpc-status and grpc-message of a stream, out of what was sent since the last look."""
        for one in self.take():
            if one.stream == stream and "grpc-status" in one.fields:
                return one.fields["grpc-status"], one.fields.get("grpc-message", "")
        raise AssertionError(f"stream {stream} has no status")

    def goaway(self) -> tuple[int, bytes] | None:
        """Code and debug data of a GOAWAY among what was sent since the last look."""
        for one in self.take():
            if one.kind == frames.GOAWAY:
                return one.code, one.payload[8:]
        return None


class FakeTask:
    """Stands for the task of a streaming handler."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> bool:
        self.cancelled = True
        return True
