"""HTTP/1.1 bodies that are no single value: a request body taken as it comes, and an answer that has no end.

Both belong to `Http1Protocol`. The endless answer leaves h11 behind after the head: each `send` is one chunk in one
write (0.7 us), where h11 takes 8 us for a Data event.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from etcdpy import limits, work_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.transport.server import Server


class BodyLost(ConnectionError):
    """The client went away before its request body was whole, or sent nothing of it for too long."""


class RequestBody:
    """The body of a request, piece by piece. The socket is not read while more than a bounded amount waits here.

    An `endless` one may pause for as long as the client likes.
    """

    def __init__(self, transport: asyncio.Transport, *, endless: bool) -> None:
        self._transport = transport
        self._patience_seconds = None if endless else limits.HTTP_REQUEST_SECONDS_MAX
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._ended = False
        self._failure: BodyLost | None = None
        self._news = asyncio.Event()

    def feed(self, piece: bytes) -> None:
        """Bytes have come."""
        self._pieces.append(piece)
        self._waiting_bytes += len(piece) + work_limits.HTTP_PIECE_OVERHEAD_BYTES
        self._news.set()
        if self._waiting_bytes > limits.HTTP_STREAMED_BYTES_WAITING_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    @property
    def is_full(self) -> bool:
        """Whether the socket is not read until the handler has taken some."""
        return self._paused

    def end(self) -> None:
        """The body is whole."""
        self._ended = True
        self._news.set()

    def fail(self, reason: str) -> None:
        """No more comes, and it is not whole."""
        if not self._ended:
            self._failure = BodyLost(reason)
            self._news.set()

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises BodyLost."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await self._news.wait()
            except TimeoutError:
                self.fail("nothing came for too long")
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece) + work_limits.HTTP_PIECE_OVERHEAD_BYTES
        if self._paused and self._waiting_bytes <= limits.HTTP_STREAMED_BYTES_WAITING_MAX // 2:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return piece


class AnswerOwner:
    """Who sends an endless answer. The defaults do nothing."""

    def begin(self, answer: EndlessAnswer) -> None:
        """The head is on its way; from now on bytes may be sent."""

    def room(self) -> None:
        """The socket takes bytes again after `has_room` was false."""

    def closed(self, reason: str) -> None:
        """The connection is gone, whoever closed it."""


class TakenConnection(asyncio.Protocol):
    """A connection that HTTP/1.1 has given away after the head of an answer, as the server sees it."""

    def __init__(self, server: Server, transport: asyncio.Transport) -> None:
        self._server = server
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        server.add_connection(self)

    def drain(self) -> None:
        """Nothing makes such a connection end by itself."""
        self.close()

    def close(self) -> None:
        """End it: what was sent still goes out."""
        raise NotImplementedError

    def finish_drain(self) -> None:
        """As `drain`."""

    def end_endless(self) -> None:
        """`drain` has done it."""

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._server.loop.call_later(seconds, self._stalled)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stalled(self) -> None:
        """The other side takes nothing for too long."""
        self._transport.abort()


class EndlessAnswer(TakenConnection):
    """The body of an answer that goes on until one side closes. It owns the connection from its head on."""

    def __init__(self, server: Server, transport: asyncio.Transport, owner: AnswerOwner) -> None:
        super().__init__(server, transport)
        self._owner = owner
        self._reason = "closed by the remote side"
        self.has_room = True
        transport.set_write_buffer_limits(high=limits.ENDLESS_ANSWER_BUFFER_BYTES)
        self._bound_silence()

    def _bound_silence(self) -> None:
        """Small sends to a host that vanished never fill the buffer: the kernel notices that nobody acknowledges."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            milliseconds = int(self._server.options.stream_stall_seconds * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def send(self, pieces: Sequence[bytes]) -> int:
        """One chunk, one write; its bytes. Never blocks; whoever goes on while `has_room` is false fills memory."""
        size = sum(map(len, pieces))
        if size and not self._transport.is_closing():
            self._transport.write(b"".join((b"%x\r\n" % size, *pieces, b"\r\n")))
        return size

    def close(self, reason: str = "closed") -> None:
        """End the answer: what was sent still goes out."""
        self._reason = reason
        if not self._transport.is_closing():
            self._transport.write(_LAST_CHUNK)
            self._transport.close()
            # A remote side that reads no more must not keep the socket for ever.
            self._set_timer(limits.DRAIN_SECONDS)

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        """A client has nothing to say during the answer; what it says is not kept."""

    def eof_received(self) -> bool:
        """The client waits no more."""
        return False

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.has_room = False
        self._set_timer(self._server.options.stream_stall_seconds)

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.has_room = True
        self._cancel_timer()
        self._owner.room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._cancel_timer()
        self._server.remove_connection(self)
        self._owner.closed(str(exc) if exc is not None else self._reason)

    def _stalled(self) -> None:
        self._reason = "write: i/o timeout"
        super()._stalled()


_LAST_CHUNK: Final = b"0\r\n\r\n"
