"""Connections to other members: dialed plain or over TLS, kept for a moment after an answer, used again.

One request at a time goes over a connection. A kept connection that the other side closed at the same moment costs a
second try, for requests that may be made twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import h11

from etcdpy import VERSION, limits
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence

P = TypeVar("P", bound=asyncio.Protocol)

TLS_HANDSHAKE_SECONDS: Final = 10.0


class PeerUnreachable(ConnectionError):
    """A member that could not be asked, or whose answer was cut off or made no sense; the text says why."""


class RequestBody(Protocol):
    """A body that is too large to be held."""

    @property
    def size_bytes(self) -> int:
        """Its length, known beforehand."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (lower-case names) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as a line of text."""
        return self.body.decode("utf-8", "replace").removesuffix("\n")


class Dialer:
    """Opens connections. `local_address` binds them (SetMemberLocalAddr); `tls` None still dials https URLs, checked
    against the system's authorities, as etcd does."""

    def __init__(self, tls: ClientTls | None, *, dial_seconds: float = 2.0, local_address: str = "") -> None:
        self._tls = tls
        self._dial_seconds = dial_seconds
        self._local_address = (local_address, 0) if local_address else None

    async def connect(self, url: str, factory: Callable[[], P]) -> P:
        """A connection to the host of `url` with a new protocol. Raises PeerUnreachable."""
        loop = asyncio.get_running_loop()
        parts = urlsplit(url)
        secure = parts.scheme in ("https", "unixs")
        try:
            tls = self._tls_source() if secure else None
            options: dict[str, Any] = {"ssl": tls.context() if tls is not None else None}
            if tls is not None:
                options["server_hostname"] = tls.config.server_name or parts.hostname or "localhost"
                options["ssl_handshake_timeout"] = TLS_HANDSHAKE_SECONDS
            async with asyncio.timeout(self._dial_seconds + (TLS_HANDSHAKE_SECONDS if secure else 0)):
                if parts.scheme in ("unix", "unixs"):
                    transport, protocol = await loop.create_unix_connection(
                        factory, parts.netloc + parts.path, **options
                    )
                else:
                    port = parts.port or (443 if secure else 80)
                    transport, protocol = await loop.create_connection(
                        factory, parts.hostname or "", port, local_addr=self._local_address, **options
                    )
        except TimeoutError as error:
            raise PeerUnreachable(f"dial tcp {parts.netloc}: i/o timeout") from error
        except (OSError, ValueError) as error:
            raise PeerUnreachable(f"dial tcp {parts.netloc}: {_reason(error)}") from error
        if tls is not None:
            self._check(tls, transport)
        _keep_alive(transport)
        return protocol

    def _tls_source(self) -> ClientTls:
        if self._tls is None:
            self._tls = ClientTls(ClientTlsConfig())
        return self._tls

    def _check(self, tls: ClientTls, transport: asyncio.Transport) -> None:
        ssl_object: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            tls.check_server(ssl_object)
        except PermissionError as error:
            transport.abort()
            raise PeerUnreachable(str(error)) from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"connect: {text.lower()}" if isinstance(error, ConnectionError) else text


def _keep_alive(transport: asyncio.Transport) -> None:
    """A host that vanished is noticed after about a minute, even while it owes us nothing but an answer."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class _Connection(asyncio.Protocol):
    """One connection and the exchange that runs on it."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._limit = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.used = False
        """Whether it has carried an exchange before."""
        self.silent = True
        """Whether no byte of the present answer has come."""

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_SLICE_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.silent = False
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> bool:
        """The other side sends no more."""
        self._http.receive_data(b"")
        self._read()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._writable.set()
        self._fail(PeerUnreachable(_reason(exc) if exc is not None else "EOF"))

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._writable.set()

    # --- the exchange ---

    @property
    def fit(self) -> bool:
        """Whether it can carry another exchange."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._http.our_state is h11.IDLE
            and self._http.their_state is h11.IDLE
        )

    async def exchange(self, request: h11.Request, body: bytes | RequestBody, limit: int) -> Answer:
        """Send, and wait for the whole answer of at most `limit` bytes. Raises PeerUnreachable."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._head, self._body, self._limit, self.silent = None, bytearray(), limit, True
        try:
            if isinstance(body, bytes):
                parts = [self._http.send(request), self._http.send(h11.Data(data=body)) if body else b""]
                self._write(*parts, self._http.send(h11.EndOfMessage()))
            else:
                self._write(self._http.send(request))
                await self._send_body(body)
            return await answer
        finally:
            self._answer = None
            answer.cancel()
            self._end()

    async def _send_body(self, body: RequestBody) -> None:
        assert self._answer is not None
        async for piece in body.chunks():
            # An answer before the end is a refusal: the rest is not wanted.
            if self._answer.done():
                return
            self._write(self._http.send(h11.Data(data=piece)))
            await self._writable.wait()
        if not self._answer.done():
            self._write(self._http.send(h11.EndOfMessage()))

    def _write(self, *parts: bytes | None) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(b"".join([part for part in parts if part]))

    def _read(self) -> None:
        try:
            while self._answer is not None and not self._answer.done():
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > self._limit:
                        self._fail(PeerUnreachable(f"response body exceeds {self._limit} bytes limit"))
                elif isinstance(event, h11.EndOfMessage):
                    self._finish()
                elif isinstance(event, h11.ConnectionClosed):
                    self._fail(PeerUnreachable("EOF"))
        except h11.RemoteProtocolError as error:
            self._fail(PeerUnreachable(f"malformed HTTP response: {error}"))

    def _finish(self) -> None:
        head, answer = self._head, self._answer
        assert head is not None
        assert answer is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        answer.set_result(Answer(head.status_code, headers, bytes(self._body)))

    def _fail(self, error: PeerUnreachable) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _end(self) -> None:
        """Make ready for the next exchange, or close."""
        self.used = True
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class Connections:
    """The connections to all members, by origin."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._idle: dict[str, list[tuple[_Connection, asyncio.TimerHandle]]] = {}

    async def request(
        self,
        method: str,
        url: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | RequestBody = b"",
        *,
        seconds: float | None = None,
        limit: int = limits.PEER_ANSWER_BYTES_MAX,
        again: bool = True,
    ) -> Answer:
        """Ask one member. `again`: a request that a kept connection lost may be sent once more. Raises PeerUnreachable.

        `seconds` bounds everything from dialing to the last byte of the answer.
        """
        request = _request(method, url, path, headers, body)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    # What cannot be sent again gets a connection that nobody can have closed meanwhile.
                    kept = self._take(url) if isinstance(body, bytes) else None
                    connection = kept or await self._dialer.connect(url, _Connection)
                    was_used = connection.used
                    try:
                        answer = await connection.exchange(request, body, limit)
                    except PeerUnreachable:
                        if was_used and connection.silent and again:
                            continue
                        raise
                    self._keep(url, connection)
                    return answer
        except TimeoutError as error:
            raise PeerUnreachable(f"{method} {url}{path}: request timed out") from error

    def close(self) -> None:
        """Close what is idle."""
        for kept in self._idle.values():
            for connection, timer in kept:
                timer.cancel()
                connection.close()
        self._idle.clear()

    def _take(self, url: str) -> _Connection | None:
        kept = self._idle.get(url, [])
        while kept:
            connection, timer = kept.pop()
            timer.cancel()
            if connection.fit:
                return connection
            connection.close()
        return None

    def _keep(self, url: str, connection: _Connection) -> None:
        kept = self._idle.setdefault(url, [])
        if not connection.fit or len(kept) >= limits.PEER_CONNECTIONS_IDLE_MAX:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        kept.append((connection, loop.call_later(limits.PEER_CONNECTION_IDLE_SECONDS, self._expire, url, connection)))

    def _expire(self, url: str, connection: _Connection) -> None:
        kept = [item for item in self._idle.get(url, []) if item[0] is not connection]
        if kept:
            self._idle[url] = kept
        else:
            self._idle.pop(url, None)
        connection.close()


def _request(
    method: str, url: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | RequestBody
) -> h11.Request:
    size = len(body) if isinstance(body, bytes) else body.size_bytes
    length = [("Content-Length", str(size))] if size or method != "GET" else []
    host = urlsplit(url).netloc.rpartition("@")[2] or "localhost"
    return h11.Request(
        method=method,
        target=path,
        headers=[("Host", host), ("User-Agent", f"etcdpy/{VERSION}"), *headers, *length],
    )


@contextlib.asynccontextmanager
async def connections(tls: ClientTls | None) -> AsyncIterator[Connections]:
    """Connections for a few questions, such as those of a member that starts."""
    opened = Connections(Dialer(tls))
    try:
        yield opened
    finally:
        opened.close()
