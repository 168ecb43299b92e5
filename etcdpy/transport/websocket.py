"""WebSocket (RFC 6455), the server's side: frames without I/O, and a connection that has been upgraded.

    FrameReader     bytes in; messages, pings and the close out
    WebSocket       the connection: messages as they come, messages sent, the closing handshake

Extensions are not offered, so every reserved bit must be 0.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from etcdpy import limits
from etcdpy.transport.http1_stream import AnswerOwner, TakenConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.transport.exchange import HttpRequest
    from etcdpy.transport.server import Server

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NORMAL, _PROTOCOL_ERROR, _TOO_BIG, _GOING_AWAY = 1000, 1002, 1009, 1001
_CONTROL_BYTES_MAX: Final = 125


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(NamedTuple):
    """A whole message, or a control frame."""

    opcode: Opcode
    payload: bytes


class WebSocketError(Exception):
    """The client broke the protocol; `code` goes into the close frame."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def wants_websocket(request: HttpRequest) -> bool:
    """Whether a request asks for an upgrade, well or badly formed."""
    headers = request.headers
    return _has_token(headers.get("connection", ""), "upgrade") and _has_token(headers.get("upgrade", ""), "websocket")


def _has_token(header: str, token: str) -> bool:
    return token in (part.strip().lower() for part in header.split(","))


def upgrade_headers(request: HttpRequest) -> list[tuple[str, str]] | None:
    """The headers of the answer that upgrades; None where the request is not as it must be."""
    key = request.headers.get("sec-websocket-key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:
        return None
    version = request.headers.get("sec-websocket-version", "")
    if request.method != "GET" or request.version != "HTTP/1.1" or version != "13" or len(nonce) != 16:
        return None
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    return [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]


def encode_frame(opcode: Opcode, payload: bytes) -> bytes:
    """A whole frame as a server sends it: never masked."""
    length = len(payload)
    first = 0x80 | opcode
    if length <= _CONTROL_BYTES_MAX:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


class FrameReader:
    """Takes a client's bytes as they come."""

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._message = bytearray()
        self._opcode: Opcode | None = None
        """Of the message whose fragments are coming."""

    def feed(self, data: bytes) -> list[Frame]:
        """What is whole by now. Raises WebSocketError."""
        self._buffer += data
        found = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def _next(self) -> Frame | None:
        """The next message or control frame."""
        buffer = self._buffer
        while len(buffer) >= 2:
            opcode, final = self._opcode_of(buffer[0])
            length, start = buffer[1] & 0x7F, 2
            if length >= 126:
                start = 4 if length == 126 else 10
                if len(buffer) < start:
                    return None
                length = int.from_bytes(buffer[2:start], "big")
            self._check_length(opcode, final, length, masked=bool(buffer[1] & 0x80))
            end = start + 4 + length
            if len(buffer) < end:
                return None
            payload = _unmasked(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
            del buffer[:end]
            if opcode >= Opcode.CLOSE:
                return Frame(opcode, payload)
            self._message += payload
            self._opcode = self._opcode or opcode
            if final:
                whole = Frame(self._opcode, bytes(self._message))
                self._opcode = None
                self._message.clear()
                return whole
        return None

    def _opcode_of(self, first: int) -> tuple[Opcode, bool]:
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise WebSocketError(_PROTOCOL_ERROR, "unknown opcode") from None
        if first & 0x70:
            raise WebSocketError(_PROTOCOL_ERROR, "reserved bits are set")
        if opcode < Opcode.CLOSE and (opcode is Opcode.CONTINUATION) == (self._opcode is None):
            raise WebSocketError(_PROTOCOL_ERROR, "a fragment out of order")
        return opcode, bool(first & 0x80)

    def _check_length(self, opcode: Opcode, final: bool, length: int, *, masked: bool) -> None:
        if not masked:
            raise WebSocketError(_PROTOCOL_ERROR, "a client's frame must be masked")
        if opcode >= Opcode.CLOSE:
            if not final or length > _CONTROL_BYTES_MAX:
                raise WebSocketError(_PROTOCOL_ERROR, "a control frame is short and whole")
        elif len(self._message) + length > self._message_bytes_max:
            raise WebSocketError(_TOO_BIG, "the message is too large")


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """In one step: a loop over the bytes would cost 50 ms a megabyte."""
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


class Upgrade(AnswerOwner):
    """The body of an answer with status 101: `begin` gets the connection as a WebSocket."""

    def __init__(self, begin: Callable[[WebSocket], None], message_bytes_max: int) -> None:
        self._begin = begin
        self._message_bytes_max = message_bytes_max

    def take_over(self, server: Server, transport: asyncio.Transport, early: bytes) -> None:
        """The head is written; `early` is what the client has sent behind its own."""
        websocket = WebSocket(server, transport, self._message_bytes_max)
        transport.set_protocol(websocket)
        transport.resume_reading()
        self._begin(websocket)
        if early:
            websocket.data_received(early)


class WebSocket(TakenConnection):
    """A connection after its upgrade. Its owner reads with `receive` until None, and closes it."""

    def __init__(self, server: Server, transport: asyncio.Transport, message_bytes_max: int) -> None:
        super().__init__(server, transport)
        self._reader = FrameReader(message_bytes_max)
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._closed = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.on_closed: Callable[[], None] = lambda: None
        """Told once when the client is gone, or has said that it goes."""

    async def receive(self) -> bytes | None:
        """The next message, text or binary; None when there are no more."""
        while not self._messages:
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._waiting_bytes -= len(message) + limits.WEBSOCKET_MESSAGE_OVERHEAD_BYTES
        if self._paused and self._waiting_bytes <= limits.HTTP_STREAMED_BYTES_WAITING_MAX // 2:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return message

    async def send(self, text: bytes) -> None:
        """Send a text message; waits while the client reads too slowly."""
        if not self._transport.is_closing():
            self._transport.write(encode_frame(Opcode.TEXT, text))
        await self._writable.wait()

    def close(self, code: int = _NORMAL) -> None:
        """Say so, and close once all is sent."""
        if not self._transport.is_closing():
            self._transport.write(encode_frame(Opcode.CLOSE, code.to_bytes(2, "big")))
            self._transport.close()
            # A client that reads no more must not keep the socket for ever.
            self._set_timer(limits.DRAIN_SECONDS)
        self._end()

    def drain(self) -> None:
        """See TakenConnection."""
        self.close(_GOING_AWAY)

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._news.set()
            self._writable.set()
            self.on_closed()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closed:
            return
        try:
            frames = self._reader.feed(data)
        except WebSocketError as error:
            self.close(error.code)
            return
        for frame in frames:
            if frame.opcode is Opcode.CLOSE:
                self.close()
                return
            if frame.opcode is Opcode.PING:
                self._transport.write(encode_frame(Opcode.PONG, frame.payload))
            elif frame.opcode is not Opcode.PONG:
                self._messages.append(frame.payload)
                self._waiting_bytes += len(frame.payload) + limits.WEBSOCKET_MESSAGE_OVERHEAD_BYTES
                self._news.set()
        if self._waiting_bytes > limits.HTTP_STREAMED_BYTES_WAITING_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._writable.clear()
        self._set_timer(limits.WRITE_STALL_SECONDS_MAX)
        # Who does not read what it asked for asks for nothing more.
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._writable.set()
        self._cancel_timer()
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._cancel_timer()
        self._server.remove_connection(self)
        self._end()
