"""The gRPC service behind connections: finding the method of a request, refusing what has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy.errors import Code
from etcdpy.transport import framing
from etcdpy.transport.calls import Call, Kind, Method, StreamCall
from etcdpy.transport.exchange import Exchange, HttpHandler
from etcdpy.transport.heads import Refusal, RequestHead
from etcdpy.transport.streams import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Mapping

    from etcdpy.transport.deadlines import Deadlines
    from etcdpy.transport.http2 import Http2Connection

_REFUSED_BODY_BYTES: Final = 64 * 1024


class GrpcService:
    """What one kind of listener serves over HTTP/2.

    `http` takes the requests that are not gRPC; without it they get what grpc-go's own transport answers.
    `methods` may be filled until the first connection.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        *,
        max_receive_bytes: int,
        deadlines: Deadlines,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_bug: Callable[[Exception], None],
        now: Callable[[], float],
        http: HttpHandler | None = None,
        on_head: Callable[[RequestHead], None] | None = None,
    ) -> None:
        self.methods = methods
        self.max_receive_bytes = max_receive_bytes
        self.deadlines = deadlines
        self._spawn = spawn
        self.http = http
        self.streamed: frozenset[str] = frozenset()
        """Paths whose requests reach `http` with their head."""
        self._on_bug = on_bug
        self._now = now
        self._on_head = on_head
        self._services = {method.service for method in methods.values()}

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handler in a task that the server owns."""
        return self._spawn(work)

    def on_bug(self, error: Exception) -> None:
        """A handler raised what only a bug can raise."""
        self._on_bug(error)

    def now(self) -> float:
        """Seconds of the event loop's clock."""
        return self._now()

    def resolve(self, head: RequestHead) -> None:
        """Set a head's `method`, `refusal` and `plain_unary`; `on_head` may add to a head that has a method."""
        if not head.is_grpc:
            if self.http is None:
                shown = head.content_type.decode("latin-1")
                head.refusal = Refusal(415, Code.INVALID_ARGUMENT, f'invalid gRPC request content-type "{shown}"')
            return
        if head.refusal is None:
            head.refusal = self._refusal(head)
        if head.refusal is None:
            method = head.method = self.methods[head.path]
            head.plain_unary = method.kind is Kind.UNARY
            if self._on_head is not None:
                self._on_head(head)

    def _refusal(self, head: RequestHead) -> Refusal | None:
        if not head.authority:
            return Refusal(400, Code.INTERNAL, "no host or :authority header present")
        if head.http_method != b"POST":
            shown = head.http_method.decode("latin-1")
            text = f'Received a HEADERS frame with :method "{shown}" which should be POST'
            return Refusal(405, Code.INTERNAL, text)
        if head.path not in self.methods:
            return Refusal(200, Code.UNIMPLEMENTED, self._unknown(head.path.decode("latin-1")))
        if not framing.known_encoding(head.encoding):
            return Refusal(200, Code.UNIMPLEMENTED, framing.unknown_encoding(head.encoding).message)
        return None

    def _unknown(self, path: str) -> str:
        service, slash, method = path.removeprefix("/").rpartition("/")
        if not path.startswith("/") or not slash:
            return f'malformed method name: "{path}"'
        if service in self._services:
            return f"unknown method {method} for service {service}"
        return f"unknown service {service}"

    def open(self, connection: Http2Connection, stream_id: int, head: RequestHead) -> Stream:
        """The stream of a new request."""
        if head.refusal is not None:
            return RefusedStream(connection, stream_id, head)
        if head.method is None:
            assert self.http is not None
            streamed = head.path.partition(b"?")[0].decode("latin-1") in self.streamed
            return Exchange(connection, stream_id, head, self.http, streamed=streamed)
        if head.method.kind is Kind.UNARY:
            return Call(connection, stream_id, head)
        return StreamCall(connection, stream_id, head)


class RefusedStream(Stream):
    """A request whose head decides its answer.

    A gRPC client is answered at once. Anybody else is let finish its request first, so that a malformed request is
    told so (RFC 9113, 8.1.1) rather than refused for its content type.
    """

    __slots__ = ()

    def on_open(self) -> None:
        """See Stream."""
        refusal = self.head.refusal
        assert refusal is not None
        if refusal.status == 200:
            self._answer()

    def on_data(self, data: bytes) -> None:
        """See Stream."""
        if self.final is None:
            self.connection.give_back(self, len(data))
            if self.body_bytes > _REFUSED_BODY_BYTES:
                self._answer()

    def on_end(self) -> None:
        """See Stream."""
        if self.final is None:
            self._answer()

    def on_gone(self) -> None:
        """See Stream."""

    def _answer(self) -> None:
        refusal = self.head.refusal
        assert refusal is not None
        block = framing.error_block(refusal.code, refusal.message, alone=True, status=refusal.status)
        self.connection.end_stream(self, block)
