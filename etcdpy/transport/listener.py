"""Listening sockets: tcp and unix, plain and TLS, both on one port if need be.

The accept loop is our own so that the SSLContext is asked afresh for every connection (certificates are replaced
without a restart) and so that an accept error never spins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from etcdpy import limits
from etcdpy.transport.connection import Sniffer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

    from etcdpy.transport.exchange import HttpHandler
    from etcdpy.transport.grpc import GrpcService
    from etcdpy.transport.server import Server

_TLS_HANDSHAKE_BYTE: Final = 0x16
_TLS_SHUTDOWN_SECONDS: Final = 2.0


class TlsSource(Protocol):
    """Where a listener gets its TLS from, anew for every connection."""

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake. May raise OSError: that connection is refused and logged."""

    def check_peer(self, ssl_object: ssl.SSLObject) -> None:
        """Whether the client of a completed handshake is welcome: raises ssl.SSLError or PermissionError if not."""

    def check_address(self, ssl_object: ssl.SSLObject, address: str) -> Coroutine[None, None, None] | None:
        """Whether that client may come from that address: raises as `check_peer`, at once or when awaited."""

    def log_refused(self, address: str, error: Exception) -> None:
        """A connection was refused, in the handshake or after it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, out of one URL. `host` is empty and `path` set for a unix socket."""

    host: str
    port: int
    path: str
    secure: bool

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Of http, https, unix or unixs URLs. Raises ValueError naming the URL."""
        parts = urlsplit(url)
        secure = parts.scheme in ("https", "unixs")
        if parts.scheme in ("unix", "unixs"):
            path = (parts.netloc + parts.path) if parts.netloc else parts.path
            if not path:
                raise ValueError(f"no path in {url!r}")
            return cls("", 0, path, secure)
        if parts.scheme not in ("http", "https") or parts.hostname is None or parts.port is None:
            raise ValueError(f"cannot listen on {url!r}")
        return cls(parts.hostname, parts.port, "", secure)

    @property
    def place(self) -> tuple[str, int, str]:
        """What two URLs share if they are to share a socket."""
        return self.host, self.port, self.path


@dataclass(frozen=True, slots=True)
class Serves:
    """What connections of a listener get. Without `grpc`, HTTP/2 is refused; without `http`, HTTP/1 is.

    On the paths in `streamed` the HTTP/1 handler gets the request's body as it comes; where they are `endless`
    it may pause for as long as the client likes."""

    grpc: GrpcService | None
    http: HttpHandler | None
    streamed: frozenset[str] = frozenset()
    endless: bool = False


class Listener:
    """One listening socket. Plain, TLS, or (both `plain` and `tls`) whatever the first byte says."""

    def __init__(
        self, server: Server, sock: socket.socket, *, plain: Serves | None, tls: Serves | None, source: TlsSource | None
    ) -> None:
        assert plain is not None or (tls is not None and source is not None)
        self._server = server
        self._socket = sock
        self._plain = plain
        self._tls = tls
        self._source = source
        self._retry: asyncio.TimerHandle | None = None
        self.address: tuple[str, int] | str = ""
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            self.address = os.fsdecode(name)
        else:
            self.address = (name[0], name[1])

    def start(self) -> None:
        """Begin to accept."""
        self._server.loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; a unix socket's path is removed."""
        if self._socket.fileno() < 0:
            return
        if self._retry is not None:
            self._retry.cancel()
        self._server.loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if isinstance(self.address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)

    def _accept(self) -> None:
        for _ in range(limits.ACCEPTS_PER_TURN if self._tls is None else limits.ACCEPTS_PER_TURN // 4):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._receive(sock, _shown(sock, address))

    def _receive(self, sock: socket.socket, address: str) -> None:
        """Serve a connection, or let it wait or drop it where others of its address were ended for flooding."""
        self._server.accepted += 1
        seconds = self._server.offenders.wait_seconds(address, self._server.loop.time())
        if seconds is None:
            sock.close()
            return
        self._server.spawn(self._serve_later(sock, address, seconds) if seconds else self._serve(sock, address))

    async def _serve_later(self, sock: socket.socket, address: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            sock.close()
            raise
        await self._serve(sock, address)

    def _pause(self, error: OSError) -> None:
        """EMFILE and its kin leave the socket readable: stop looking for a moment, or the loop would spin."""
        loop = self._server.loop
        loop.remove_reader(self._socket.fileno())
        self._server.on_accept_error(error)

        def resume() -> None:
            self._retry = None
            self.start()

        self._retry = loop.call_later(limits.ACCEPT_RETRY_SECONDS, resume)

    async def _serve(self, sock: socket.socket, address: str) -> None:
        try:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secure = self._plain is None
            if self._plain is not None and self._tls is not None:
                secure = await self._first_byte(sock) == _TLS_HANDSHAKE_BYTE
            if secure:
                await self._serve_tls(sock, address)
            else:
                assert self._plain is not None
                await self._connect(sock, address, self._plain, None, None)
        except (OSError, TimeoutError):
            # The client went before its connection was one.
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    async def _serve_tls(self, sock: socket.socket, address: str) -> None:
        source = self._source
        assert source is not None
        assert self._tls is not None
        try:
            context = source.context()
            await self._connect(sock, address, self._tls, source, context)
        except (OSError, ValueError) as error:
            source.log_refused(address, error)
            sock.close()

    async def _connect(
        self,
        sock: socket.socket,
        address: str,
        serves: Serves,
        source: TlsSource | None,
        context: ssl.SSLContext | None,
    ) -> None:
        server = self._server
        await server.loop.connect_accepted_socket(
            lambda: Sniffer(server, address, serves, source),
            sock,
            ssl=context,
            ssl_handshake_timeout=server.options.tls_handshake_seconds if context is not None else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS if context is not None else None,
        )

    async def _first_byte(self, sock: socket.socket) -> int:
        """The first byte, left in place; -1 if the client closes. Raises TimeoutError."""
        loop = self._server.loop
        readable: asyncio.Future[None] = loop.create_future()
        descriptor = sock.fileno()
        loop.add_reader(descriptor, _settle, readable)
        try:
            async with asyncio.timeout(limits.PREFACE_SECONDS_MAX):
                await readable
        finally:
            loop.remove_reader(descriptor)
        first = sock.recv(1, socket.MSG_PEEK)
        return first[0] if first else -1


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _shown(sock: socket.socket, address: tuple[str, int] | str) -> str:
    if sock.family == socket.AF_UNIX:
        return "@"
    host, port = str(address[0]), address[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_sockets(endpoint: Endpoint, *, reuse_address: bool, reuse_port: bool) -> list[socket.socket]:
    """Bound and listening sockets for an endpoint: one, or one for each address of a name. Raises OSError."""
    if endpoint.path:
        return [_open_unix(endpoint.path)]
    loop = asyncio.get_running_loop()
    host = endpoint.host or None
    found = await loop.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = sorted({(family, sockaddr) for family, _, _, _, sockaddr in found})
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sockets.append(_open_tcp(family, address, reuse_address=reuse_address, reuse_port=reuse_port))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open_tcp(family: int, address: object, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # The wildcard takes IPv4 as well, as in Go; a name's addresses each get their own socket.
            wildcard = address[0] == "::"  # type: ignore[index]
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if wildcard else 1)
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(limits.LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        host, port = address[:2]  # type: ignore[index]
        raise OSError(error.errno, f"listen tcp {host}:{port}: {error.strerror}") from error
    return sock


def _open_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead_socket(path)
        sock.setblocking(False)
        sock.bind(path)
        sock.listen(limits.LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"listen unix {path}: {error.strerror}") from error
    return sock


def _remove_dead_socket(path: str) -> None:
    """A socket file that nobody listens on is left over from a process that died."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
