"""HTTP requests that are not gRPC: the handler's view, and how they travel over HTTP/2 (`http1.py` has HTTP/1.1)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.transport.frames import ErrorCode
from etcdpy.transport.hpackglue import Field, encode_block, status_field
from etcdpy.transport.http1_stream import AnswerOwner
from etcdpy.transport.streams import Stream

if TYPE_CHECKING:
    from etcdpy.transport.calls import Peer
    from etcdpy.transport.heads import RequestHead
    from etcdpy.transport.http2 import Http2Connection


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request. `path` is as sent, still percent-coded, without the query; header names are lower case and
    repeated headers are joined by a comma. `host` is the Host header or `:authority`. `stream` is the body as it comes,
    on the paths that the listener was told to stream; `body` is empty then. `gone` is done once an HTTP/1.1 client has
    closed its side, though it might still read: Go's server takes that for the end of who asked. `memo` is shared by
    the requests of a connection with the same head, for what handlers have learnt from that head alone."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: Peer
    secure: bool
    host: str
    version: str
    stream: AsyncIterator[bytes] | None = None
    gone: asyncio.Future[None] | None = None
    memo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. A body of bytes gets a content-length; an iterator is sent piece by piece as the client takes it.

    An AnswerOwner gets the connection once the head is written, and sends when it likes (HTTP/1.1 alone)."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] | AnswerOwner = b""


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]

INTERNAL_ERROR: Final = HttpResponse(500, [("content-type", "text/plain; charset=utf-8")], b"Internal Server Error\n")
TOO_LARGE: Final = HttpResponse(413, [("content-type", "text/plain; charset=utf-8")], b"Request Entity Too Large\n")

_STREAM_BUFFER_BYTES: Final = 256 * 1024


def build_request(
    method: bytes,
    target: bytes,
    fields: list[Field],
    body: bytes,
    peer: Peer,
    host: bytes,
    version: str,
    stream: AsyncIterator[bytes] | None = None,
    gone: asyncio.Future[None] | None = None,
) -> HttpRequest:
    """A handler's request out of what either protocol parsed."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    path, _, query = target.decode("latin-1").partition("?")
    return HttpRequest(
        method=method.decode("latin-1"),
        path=path,
        query=query,
        headers=headers,
        body=body,
        peer=peer,
        secure=peer.secure,
        host=host.decode("latin-1"),
        version=version,
        stream=stream,
        gone=gone,
    )


def body_forbidden(method: str, status: int) -> bool:
    """Whether an answer has no body whatever the handler gave."""
    return method == "HEAD" or status in (204, 304) or status < 200


class StreamedBody:
    """The body of a request on an HTTP/2 stream, as it comes. The stream's window bounds what waits here."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._news = asyncio.Event()

    def feed(self, piece: bytes) -> None:
        """Bytes have come."""
        self._pieces.append(piece)
        self._stream.connection.held_bytes += len(piece)
        self._news.set()

    def end(self) -> None:
        """The body is whole, or the client is gone and nobody waits for it."""
        self._ended = True
        self._news.set()

    def drop(self) -> None:
        """Nobody reads on."""
        self._stream.connection.held_bytes -= sum(map(len, self._pieces))
        self._pieces.clear()
        self.end()

    def __aiter__(self) -> StreamedBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        piece = self._pieces.popleft()
        connection = self._stream.connection
        connection.held_bytes -= len(piece)
        connection.give_back(self._stream, len(piece))
        return piece


class Exchange(Stream):
    """One HTTP request and its answer on an HTTP/2 stream. A `streamed` one reaches the handler with its head."""

    __slots__ = ("_body", "_handler", "_streamed", "_task")

    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        head: RequestHead,
        handler: HttpHandler,
        *,
        streamed: bool = False,
    ) -> None:
        super().__init__(connection, stream_id, head)
        self._handler = handler
        self._body = bytearray()
        self._streamed = StreamedBody(self) if streamed else None
        self._task: asyncio.Task[None] | None = None

    def on_open(self) -> None:
        """See Stream."""
        if self._streamed is not None:
            self._task = self.connection.service.spawn(self._run())

    def on_data(self, data: bytes) -> None:
        """See Stream."""
        if self._streamed is not None:
            self._streamed.feed(data)
            self.connection.check_held(self)
            return
        if self._task is not None:
            return
        self._body += data
        connection = self.connection
        connection.held_bytes += len(data)
        connection.give_back(self, len(data))
        if len(self._body) > limits.HTTP_BODY_BYTES_MAX:
            self._release_body()
            self._task = connection.service.spawn(self._respond(TOO_LARGE, "POST"))
            return
        connection.check_held(self)

    def on_end(self) -> None:
        """See Stream."""
        if self._streamed is not None:
            self._streamed.end()
        if self._task is None:
            self._task = self.connection.service.spawn(self._run())

    def on_gone(self) -> None:
        """See Stream."""
        self._release_body()
        if self._task is not None:
            self._task.cancel()

    def _release_body(self) -> None:
        if self._streamed is not None:
            self._streamed.drop()
        self.connection.held_bytes -= len(self._body)
        self._body = bytearray()

    async def _run(self) -> None:
        head = self.head
        regular = [(name, value) for name, value in head.fields if not name.startswith(b":")]
        request = build_request(
            head.http_method,
            head.path,
            regular,
            bytes(self._body),
            self.connection.peer,
            head.authority,
            "HTTP/2.0",
            self._streamed,
        )
        if self._streamed is None:
            self._release_body()
        try:
            response = await self._handler(request)
        except Exception as error:
            self.connection.service.on_bug(error)
            response = INTERNAL_ERROR
        await self._respond(response, request.method)

    async def _respond(self, response: HttpResponse, method: str) -> None:
        connection = self.connection
        body = response.body
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers]
        if isinstance(body, bytes) and not (response.status < 200 or response.status == 204):
            fields.append((b"content-length", b"%d" % len(body)))
        if not self._open:
            return
        connection.send_headers(self, status_field(response.status) + encode_block(fields))
        if body_forbidden(method, response.status):
            connection.end_stream(self, b"")
        elif isinstance(body, bytes):
            if body:
                connection.send_data(self, (body,), len(body))
            connection.end_stream(self, b"")
        else:
            assert not isinstance(body, AnswerOwner)
            await self._stream_body(body)

    async def _stream_body(self, body: AsyncIterator[bytes]) -> None:
        connection = self.connection
        try:
            async for chunk in body:
                if not self._open:
                    return
                if chunk:
                    connection.send_data(self, (chunk,), len(chunk))
                    await connection.wait_writable(self, _STREAM_BUFFER_BYTES)
        except Exception as error:
            connection.service.on_bug(error)
            if self._open:
                connection.abort(self, ErrorCode.INTERNAL_ERROR)
            return
        if self._open:
            connection.end_stream(self, b"")

    @property
    def _open(self) -> bool:
        return self.connection.streams.get(self.id) is self
