"""A stream of an HTTP/2 connection, as the server sees it: what it may still send and receive, and what waits.

State (RFC 9113, section 5.1) is three facts. A stream in `Connection.streams` is open or half closed; `read_done`
says that the client has ended its side; `final` is set once our side will end after what is queued. A stream that is
in no table is idle, or closed when its number is not above the connection's last.

    client ends first:   open -> read_done -> trailers written -> closed
    server ends first:   open -> trailers written, RST_STREAM(NO_ERROR) -> closed, late frames ignored
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections import deque
    from collections.abc import Coroutine

    from etcdpy.transport.deadlines import Deadlines
    from etcdpy.transport.heads import RequestHead
    from etcdpy.transport.http2 import Http2Connection

Chunk = bytes | memoryview


class Stream:
    """Base of everything that answers on a stream. Subclasses take the request in `on_data`, `on_end`, `on_gone`."""

    __slots__ = (
        "body_bytes",
        "connection",
        "consumed",
        "final",
        "head",
        "id",
        "outbox",
        "outbox_bytes",
        "read_done",
        "unacked",
        "window",
    )

    def __init__(self, connection: Http2Connection, stream_id: int, head: RequestHead) -> None:
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.read_done = False
        self.window = 0
        """Send window, as the difference to the peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.outbox: deque[Chunk] | None = None
        """Bytes that wait for a window, in order. None until the first byte has to wait."""
        self.outbox_bytes = 0
        self.final: bytes | None = None
        """The trailer block that ends our side after the outbox; empty: END_STREAM on an empty DATA frame."""
        self.unacked = 0
        """Bytes received for which no WINDOW_UPDATE went out. Invariant: 0 <= consumed <= unacked <= the window."""
        self.consumed = 0
        self.body_bytes = 0

    def on_open(self) -> None:
        """The head has arrived and the stream is in the connection's table; `read_done` is already right."""

    def on_data(self, data: bytes) -> None:
        """Bytes of the request body."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The client has ended its side."""
        raise NotImplementedError

    def on_gone(self) -> None:
        """The client reset the stream or its connection is lost. The stream is in no table any more."""


class StreamOpener(Protocol):
    """What a connection needs to know of the service behind it."""

    max_receive_bytes: int
    deadlines: Deadlines

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handler in a task that the server owns."""

    def resolve(self, head: RequestHead) -> None:
        """Complete a head that was just parsed."""

    def open(self, connection: Http2Connection, stream_id: int, head: RequestHead) -> Stream:
        """The stream object for a new request."""

    def on_bug(self, error: Exception) -> None:
        """A handler raised what only a bug can raise."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
