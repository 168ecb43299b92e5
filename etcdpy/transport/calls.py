"""gRPC calls as handlers see them: methods, unary calls, streaming calls.

A unary handler is a plain function that answers through its call, now or later. A streaming handler is a coroutine
that owns its task for as long as the client stays.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from etcdpy.errors import Code, EtcdError, StatusError, Stopped
from etcdpy.transport import framing
from etcdpy.transport.frames import FLAG_END_HEADERS, FLAG_END_STREAM, FRAME_BYTES_DEFAULT, HEADERS
from etcdpy.transport.framing import OK_TRAILERS, RESPONSE_HEADERS
from etcdpy.transport.streams import Stream

if TYPE_CHECKING:
    from etcdpy.transport.deadlines import Slot
    from etcdpy.transport.heads import RequestHead
    from etcdpy.transport.http2 import Http2Connection

_PREFIX: Final = struct.Struct(">BI").pack
# An answer is these bytes, the message, and those: one pack each, because eleven parts in a join cost 0.5 us more.
_BEFORE: Final = struct.Struct(f">5sI{len(RESPONSE_HEADERS)}sIBIBI").pack
_AFTER: Final = struct.Struct(f">5sI{len(OK_TRAILERS)}s").pack
_WHOLE: Final = [
    struct.Struct(f">5sI{len(RESPONSE_HEADERS)}sIBIBI{length}s5sI{len(OK_TRAILERS)}s").pack for length in range(128)
]
"""And a short answer is one pack, by the length of its message: that of a put is its header."""
_HEADERS_START: Final = struct.pack(">IB", len(RESPONSE_HEADERS) << 8 | HEADERS, FLAG_END_HEADERS)
_TRAILERS_START: Final = struct.pack(">IB", len(OK_TRAILERS) << 8 | HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM)
_MESSAGE_OVERHEAD_BYTES: Final = 64
"""What an unread message counts beside its bytes, so that empty ones are not free."""


class Kind(Enum):
    """The four shapes of a gRPC method."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI = "bidi_stream"


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of a connection. `common_name` is that of its verified certificate, empty where that has none."""

    address: str
    common_name: str | None = None
    secure: bool = False


UnaryHandler = Callable[["Call", bytes], None]
StreamHandler = Callable[["StreamCall"], Awaitable[None]]


class Method:
    """A registered method with its counters. `handled` has a count for every code."""

    __slots__ = (
        "handled",
        "handler",
        "kind",
        "name",
        "path",
        "received",
        "received_bytes",
        "sent",
        "sent_bytes",
        "service",
        "started",
    )

    def __init__(self, service: str, name: str, kind: Kind, handler: UnaryHandler | StreamHandler) -> None:
        self.service = service
        self.name = name
        self.kind = kind
        self.path = f"/{service}/{name}".encode()
        self.handler: Any = handler
        self.started = 0
        self.handled: dict[Code, int] = dict.fromkeys(Code, 0)
        self.received = 0
        self.sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0


class Call(Stream):
    """A unary call. `done` says that it is answered or gone; after that nothing it is told reaches anybody."""

    __slots__ = ("done", "inbox", "on_cancel", "slot")

    def __init__(self, connection: Http2Connection, stream_id: int, head: RequestHead) -> None:
        # The base's fields are set here once more: a super() call would cost 0.15 us a request.
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.read_done = False
        self.window = 0
        self.outbox = None
        self.outbox_bytes = 0
        self.final = None
        self.unacked = 0
        self.consumed = 0
        self.body_bytes = 0
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self.inbox: bytearray | None = None
        self.slot: Slot | None = None

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self.connection.peer

    @property
    def method(self) -> Method:
        """What is called."""
        method = self.head.method
        assert method is not None
        return method

    # --- the handler's side ---

    def finish(self, message: bytes) -> None:
        """Answer OK with one message. Dropped without a word if the call is gone."""
        if self.done:
            return
        self.done = True
        connection = self.connection
        length = len(message)
        size = length + 5
        method: Method = self.head.method  # type: ignore[assignment]
        method.handled[0] += 1  # type: ignore[index]
        method.sent += 1
        method.sent_bytes += length
        if size <= connection.direct_bytes and size <= connection.quota and self.read_done:
            connection.quota -= size
            connection.send_window -= size
            stream_id = self.id
            if length < len(_WHOLE):
                connection.out.append(
                    _WHOLE[length](
                        _HEADERS_START,
                        stream_id,
                        RESPONSE_HEADERS,
                        size << 8,
                        0,
                        stream_id,
                        0,
                        length,
                        message,
                        _TRAILERS_START,
                        stream_id,
                        OK_TRAILERS,
                    )
                )
            else:
                connection.out += (
                    _BEFORE(_HEADERS_START, stream_id, RESPONSE_HEADERS, size << 8, 0, stream_id, 0, length),
                    message,
                    _AFTER(_TRAILERS_START, stream_id, OK_TRAILERS),
                )
            del connection.streams[stream_id]
            if self.slot is not None:
                self._settle()
            if not connection.dirty:
                connection.wake()
        else:
            self._settle()
            connection.send_headers(self, RESPONSE_HEADERS)
            connection.send_data(self, (_PREFIX(0, length), message), size)
            connection.end_stream(self, OK_TRAILERS)

    def finish_parts(self, parts: list[bytes]) -> None:
        """Answer OK with one message that comes in pieces, which spares a large one from being copied together."""
        length = sum(map(len, parts))
        if self.done or length <= FRAME_BYTES_DEFAULT:
            self.finish(b"".join(parts))
            return
        self.done = True
        method = self.method
        method.handled[Code.OK] += 1
        method.sent += 1
        method.sent_bytes += length
        self._settle()
        self.connection.send_headers(self, RESPONSE_HEADERS)
        self.connection.send_data(self, (_PREFIX(0, length), *parts), length + 5)
        self.connection.end_stream(self, OK_TRAILERS)

    def fail(self, error: EtcdError) -> None:
        """Answer with an error. Dropped without a word if the call is gone."""
        if self.done:
            return
        self.done = True
        self.method.handled[error.code] += 1
        self._settle()
        self.connection.end_stream(self, framing.error_block(error.code, error.message, alone=self._nothing_sent()))

    def _nothing_sent(self) -> bool:
        return True

    def fail_with(self, error: Exception) -> None:
        """The handler raised: what a client can cause, or a bug."""
        if isinstance(error, EtcdError):
            self.fail(error)
        else:
            self.crash(error)

    def crash(self, error: Exception) -> None:
        """The handler raised what only a bug can raise: the client gets Internal, the server's owner the exception."""
        self.fail(StatusError(Code.INTERNAL, "internal error"))
        self.connection.service.on_bug(error)

    def expire(self) -> None:
        """The deadline has passed."""
        if self.done:
            return
        callback = self.on_cancel
        self.fail(StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))
        if callback is not None:
            callback()

    def _settle(self) -> None:
        """Let go of what an open call holds."""
        if self.slot is not None:
            self.slot.pop(self, None)
            self.slot = None
        if self.inbox:
            self.connection.held_bytes -= len(self.inbox)
        self.inbox = None
        self.on_cancel = None

    # --- the connection's side ---

    def on_open(self) -> None:
        """See Stream."""
        self.method.started += 1
        self.head.tally.count += 1
        self.start_clock()

    def start_clock(self) -> None:
        """Begin the deadline, if the request carries one."""
        seconds = self.head.timeout_seconds
        if seconds is None:
            return
        if seconds <= 0:
            self.expire()
            return
        self.slot = self.connection.service.deadlines.add(self, seconds)

    def on_data(self, data: bytes) -> None:
        """See Stream."""
        if self.done:
            return
        inbox = self.inbox
        if inbox is None:
            if self.body_bytes > len(data):
                return  # more than one message: nobody will read it, and its window is never given back
            inbox = self.inbox = bytearray()
        inbox += data
        connection = self.connection
        connection.held_bytes += len(data)
        connection.give_back(self, len(data))
        if len(inbox) >= 5:
            size = int.from_bytes(inbox[1:5], "big")
            if size > connection.service.max_receive_bytes:
                self.fail(framing.too_large(size, connection.service.max_receive_bytes))
                return
            if len(inbox) >= size + 5:
                # As grpc-go: the message starts the call, whether the client has ended its side or not.
                self._dispatch()
                return
        connection.check_held(self)

    def on_end(self) -> None:
        """See Stream."""
        if not self.done and (self.inbox is not None or self.body_bytes == 0):
            self._dispatch()

    def _dispatch(self) -> None:
        inbox, self.inbox = self.inbox or bytearray(), None
        self.connection.held_bytes -= len(inbox)
        method = self.method
        try:
            message = framing.single_message(inbox, self.head.encoding, self.connection.service.max_receive_bytes)
            method.received += 1
            method.received_bytes += len(message)
            method.handler(self, message)
        except EtcdError as error:
            self.fail(error)
        except Exception as error:
            self.crash(error)

    def on_gone(self) -> None:
        """See Stream."""
        if self.done:
            return
        self.done = True
        self.method.handled[Code.CANCELLED] += 1
        callback = self.on_cancel
        self._settle()
        if callback is not None:
            callback()


class StreamCall(Call):
    """A streaming call of any of the three kinds."""

    __slots__ = ("_ended", "_error", "_given_bytes", "_headers_sent", "_messages", "_reader", "_task")

    def __init__(self, connection: Http2Connection, stream_id: int, head: RequestHead) -> None:
        super().__init__(connection, stream_id, head)
        self._messages: deque[tuple[bytes, int]] = deque()
        """Unread messages, each with the window that its reading gives back."""
        self._given_bytes = 0
        """Bytes of the incomplete message whose window is given back already."""
        self._ended = False
        self._error: EtcdError | None = None
        self._headers_sent = False
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[None] | None = None

    # --- the handler's side ---

    async def receive(self) -> bytes | None:
        """The next message; None after the client has ended its side. Raises the EtcdError of a broken message."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message, window = self._messages.popleft()
        if not self.done:
            self.connection.held_bytes -= len(message) + _MESSAGE_OVERHEAD_BYTES
            self.connection.give_back(self, window)
            self._give_back_partial()
        return message

    def send(self, message: bytes) -> None:
        """Send a message after those before it, never waiting. Dropped if the call is gone."""
        self._send((message,), len(message))

    def send_parts(self, parts: Sequence[bytes]) -> None:
        """The same of one that comes in pieces, which spares a large one from being copied together."""
        self._send(parts, sum(map(len, parts)))

    def _send(self, parts: Sequence[bytes], length: int) -> None:
        if self.done:
            return
        connection = self.connection
        if not self._headers_sent:
            self._headers_sent = True
            connection.send_headers(self, RESPONSE_HEADERS)
        method = self.method
        method.sent += 1
        method.sent_bytes += length
        connection.send_data(self, (_PREFIX(0, length), *parts), length + 5)

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the client's windows or for the socket of its connection."""
        return self.connection.buffered_bytes(self)

    async def wait_writable(self, limit_bytes: int) -> None:
        """Return when at most `limit_bytes` are buffered, or the call is gone."""
        await self.connection.wait_writable(self, limit_bytes)

    def end(self) -> None:
        """End the answer with OK."""
        if self.done:
            return
        self.done = True
        self.method.handled[Code.OK] += 1
        if not self._headers_sent:
            self._headers_sent = True
            self.connection.send_headers(self, RESPONSE_HEADERS)
        self._settle()
        self.connection.end_stream(self, OK_TRAILERS)

    # --- the connection's side ---

    def _nothing_sent(self) -> bool:
        return not self._headers_sent

    def on_open(self) -> None:
        """See Stream."""
        self.method.started += 1
        self.head.tally.count += 1
        self.start_clock()
        if not self.done:
            self._task = self.connection.service.spawn(self._run(self.method.handler))

    async def _run(self, handler: StreamHandler) -> None:
        try:
            await handler(self)
            self.end()
        except EtcdError as error:
            self.fail(error)
        except asyncio.CancelledError:
            self.fail(Stopped())
            raise
        except Exception as error:
            self.crash(error)

    def on_data(self, data: bytes) -> None:
        """See Stream."""
        if self.done or self._error is not None:
            return
        inbox = self.inbox
        if inbox is None:
            inbox = self.inbox = bytearray()
        inbox += data
        connection = self.connection
        service = connection.service
        connection.held_bytes += len(data)
        position, size = 0, len(inbox)
        try:
            while size - position >= 5:
                length = int.from_bytes(inbox[position + 1 : position + 5], "big")
                if length > service.max_receive_bytes:
                    raise framing.too_large(length, service.max_receive_bytes)
                if size - position < 5 + length:
                    break
                payload = bytes(inbox[position + 5 : position + 5 + length])
                message = framing.plain_message(inbox[position], payload, self.head.encoding, service.max_receive_bytes)
                position += 5 + length
                self._take_message(message, 5 + length)
        except EtcdError as error:
            self._error = error
            connection.held_bytes -= size - position
            self.inbox = None
            self._wake_reader()
            return
        del inbox[:position]
        self._give_back_partial()
        self._wake_reader()
        connection.check_held(self)

    def _give_back_partial(self) -> None:
        """The start of a message whose rest may need the window: with nothing before it unread, let the rest come.

        So an unread stream holds at most its window and one message.
        """
        inbox = self.inbox
        if inbox and not self._messages and len(inbox) > self._given_bytes:
            self.connection.give_back(self, len(inbox) - self._given_bytes)
            self._given_bytes = len(inbox)

    def _take_message(self, message: bytes, wire_bytes: int) -> None:
        method = self.method
        method.received += 1
        method.received_bytes += len(message)
        self._messages.append((message, wire_bytes - self._given_bytes))
        self._given_bytes = 0
        self.connection.held_bytes += len(message) + _MESSAGE_OVERHEAD_BYTES - wire_bytes

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def on_end(self) -> None:
        """See Stream."""
        self._ended = True
        if self.inbox and self._error is None:
            self._error = StatusError(Code.INTERNAL, "unexpected EOF")
        self._wake_reader()

    def _settle(self) -> None:
        if self._messages:
            self.connection.held_bytes -= sum(len(message) + _MESSAGE_OVERHEAD_BYTES for message, _ in self._messages)
            self._messages.clear()
        super()._settle()

    def expire(self) -> None:
        """The deadline has passed."""
        super().expire()
        self._cancel_task()

    def on_gone(self) -> None:
        """See Stream."""
        super().on_gone()
        self._cancel_task()

    def end_by_server(self, error: EtcdError | None = None) -> None:
        """The server ends the call: the handler is cancelled, and the client told `error`, or that the server stops."""
        if error is not None:
            self.fail(error)
        self._cancel_task()

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
