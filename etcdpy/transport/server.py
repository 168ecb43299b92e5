"""The transport as the composition root sees it: build, listen, flush, drain, close.

server = Server(methods, TransportOptions(...), on_bug=...)
await server.listen(["http://127.0.0.1:2379"], http=handler)
...
await server.drain(timeout_seconds=5)
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from etcdpy import limits, work_limits
from etcdpy.transport.deadlines import Deadlines
from etcdpy.transport.grpc import GrpcService
from etcdpy.transport.listener import Endpoint, Listener, Serves, TlsSource, open_sockets
from etcdpy.transport.offenders import Offenders
from etcdpy.transport.options import TransportOptions
from etcdpy.transport.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from etcdpy.transport.calls import Method, Peer
    from etcdpy.transport.exchange import HttpHandler
    from etcdpy.transport.heads import RequestHead


class _Connection(Protocol):
    def drain(self) -> None: ...

    def end_endless(self) -> None: ...

    def finish_drain(self) -> None: ...

    def abort(self) -> None: ...


class _Dirty(Protocol):
    def flush(self) -> None: ...


class Server:
    """Everything that clients connect to. Belongs to the running event loop.

    `on_bug` gets what handlers raise by mistake (the client has got Internal or a 500 by then); `on_accept_error` the
    errors of accept(2). Both default to the loop's exception handler.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        options: TransportOptions | None = None,
        *,
        on_bug: Callable[[Exception], None] | None = None,
        on_accept_error: Callable[[OSError], None] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options if options is not None else TransportOptions()
        self.methods = methods
        self.draining = False
        self.connections: dict[_Connection, None] = {}
        self.on_bug = on_bug if on_bug is not None else self._report
        self.on_head: Callable[[RequestHead], None] | None = None
        """Sees every new kind of request head that has a method, once a connection; set it before `listen`."""
        self.on_drain: Callable[[], None] = lambda: None
        """Told when connections drain: what goes on without end over HTTP is to end."""
        self.on_accept_error: Callable[[OSError], None] = (
            on_accept_error if on_accept_error is not None else self._report
        )
        self.offenders = Offenders()
        self.accepted = 0
        """Connections so far, with those that never got through their handshake."""
        self.turns = Turns(self.loop)
        self._deadlines = Deadlines(self.loop.time, self.loop.call_at)
        self._tasks: set[asyncio.Task[None]] = set()
        self._dirty: list[_Dirty] = []
        self._flushing = False
        """Whether more was dirty than one turn writes; what comes is behind that."""
        self._unhurried: list[_Dirty] = []
        self._listeners: list[Listener] = []
        self._all_gone: asyncio.Event | None = None

    def _report(self, error: Exception) -> None:
        self.loop.call_exception_handler({"message": "transport", "exception": error})

    # --- listening ---

    async def listen(
        self,
        urls: Sequence[str],
        *,
        tls: TlsSource | None = None,
        grpc: bool = True,
        http: HttpHandler | None = None,
        http_on_plain_http2: bool = False,
        streamed: frozenset[str] = frozenset(),
    ) -> list[Listener]:
        """Listen on http, https, unix and unixs URLs; an http and an https URL may share a port.

        `grpc` and `http` say what is served. Over TLS, HTTP/2 requests that are not gRPC go to `http`; on plaintext
        HTTP/2 they get 415 as from etcd, unless `http_on_plain_http2`. Requests for the paths in `streamed` reach
        `http` with their head; it takes the body as it comes, however long that is. Raises ValueError for a bad URL,
        OSError when an address cannot be had; nothing listens then.
        """
        places = _places(urls, tls)
        plain = Serves(
            self._service(http if http_on_plain_http2 else None) if grpc else None, http, streamed, endless=True
        )
        # An HTTP-only TLS port speaks HTTP/2 as well, because TLS clients negotiate it.
        secure = Serves(self._service(http) if grpc else self._http_service(http), http, streamed, endless=True)
        if not grpc and http_on_plain_http2:
            plain = Serves(self._http_service(http), http, streamed, endless=True)
        for serves in (plain, secure):
            if serves.grpc is not None:
                serves.grpc.streamed = streamed
        return await self._open(places, plain, secure, tls)

    async def listen_http1(
        self,
        urls: Sequence[str],
        handler: HttpHandler,
        *,
        tls: TlsSource | None = None,
        streamed: frozenset[str] = frozenset(),
    ) -> list[Listener]:
        """Listen for HTTP/1.1 alone, which is what etcd's members speak to each other.

        Requests for the paths in `streamed` reach the handler with their head; it takes the body as it comes. Raises
        as `listen` does.
        """
        serves = Serves(None, handler, streamed)
        return await self._open(_places(urls, tls), serves, serves, tls)

    async def _open(
        self,
        places: Mapping[tuple[str, int, str], Sequence[Endpoint]],
        plain: Serves,
        secure: Serves,
        tls: TlsSource | None,
    ) -> list[Listener]:
        opened: list[Listener] = []
        try:
            for endpoints in places.values():
                has_plain = any(not endpoint.secure for endpoint in endpoints)
                has_tls = any(endpoint.secure for endpoint in endpoints)
                sockets = await open_sockets(
                    endpoints[0], reuse_address=self.options.reuse_address, reuse_port=self.options.reuse_port
                )
                opened += [
                    Listener(
                        self,
                        sock,
                        plain=plain if has_plain else None,
                        tls=secure if has_tls else None,
                        source=tls if has_tls else None,
                    )
                    for sock in sockets
                ]
        except OSError:
            for listener in opened:
                listener.close()
            raise
        for listener in opened:
            listener.start()
        self._listeners += opened
        return opened

    def _service(self, http: HttpHandler | None, methods: Mapping[bytes, Method] | None = None) -> GrpcService:
        return GrpcService(
            self.methods if methods is None else methods,
            max_receive_bytes=self.options.max_receive_bytes,
            deadlines=self._deadlines,
            spawn=self.spawn,
            on_bug=self.on_bug,
            now=self.loop.time,
            http=http,
            on_head=self.on_head,
        )

    def _http_service(self, http: HttpHandler | None) -> GrpcService | None:
        return self._service(http, {}) if http is not None else None

    # --- connections ---

    def add_connection(self, connection: _Connection) -> None:
        """A connection exists."""
        self.connections[connection] = None

    def remove_connection(self, connection: _Connection) -> None:
        """A connection is gone, or its protocol has handed it on."""
        self.connections.pop(connection, None)
        if not self.connections and self._all_gone is not None:
            self._all_gone.set()

    def close_later(self, transport: asyncio.Transport | None, peer: Peer) -> bool:
        """Close a connection whose client sends no more, of very many a share a turn. Returns whether it stays open for
        now; TLS has no half-closed connection to keep."""
        if transport is None or peer.secure:
            return False
        self.turns.later(transport.close, work_limits.CONNECTION_CLOSE_SECONDS)
        return True

    # --- work ---

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task of this server; `close` waits for it."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            # uvloop may raise RuntimeError out of a dial that is cancelled at the moment when it succeeds.
            if isinstance(error, Exception) and not (task.cancelling() and isinstance(error, RuntimeError)):
                self.on_bug(error)

    def add_dirty(self, connection: _Dirty) -> None:
        """A connection has something to write: it is flushed once, at the end of this turn of the loop."""
        if not self._dirty:
            self.loop.call_soon(self.flush_dirty)
        self._dirty.append(connection)

    def add_unhurried(self, connection: _Dirty) -> None:
        """A connection has something to write that may wait for PING_ANSWER_SECONDS_MAX, unless other things come."""
        if not self._unhurried:
            self.loop.call_later(limits.PING_ANSWER_SECONDS_MAX, self._flush_unhurried)
        self._unhurried.append(connection)

    def _flush_unhurried(self) -> None:
        self._dirty += self._unhurried
        self._unhurried.clear()
        self.flush_dirty()

    def flush_dirty(self) -> None:
        """Write what connections have gathered, of very many a share a turn. The ready loop calls it at the end of a
        batch."""
        if not self._flushing:
            self._flush_share()

    def _flush_share(self) -> None:
        share, self._dirty = self._dirty[: work_limits.FLUSHES_PER_TURN], self._dirty[work_limits.FLUSHES_PER_TURN :]
        self._flushing = bool(self._dirty)
        if self._flushing:
            self.loop.call_soon(self._flush_share)
        for connection in share:
            connection.flush()

    @property
    def sent_bytes(self) -> int:
        """Message bytes sent to clients (`etcd_network_client_grpc_sent_bytes_total`)."""
        return sum(method.sent_bytes for method in self.methods.values())

    @property
    def received_bytes(self) -> int:
        """Message bytes received from clients (`etcd_network_client_grpc_received_bytes_total`)."""
        return sum(method.received_bytes for method in self.methods.values())

    # --- the end ---

    def stop_listening(self) -> None:
        """Close the listening sockets."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def drain(self, timeout_seconds: float) -> None:
        """Stop accepting, let open calls finish for at most `timeout_seconds`, then close everything."""
        self.stop_listening()
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
            connection.end_endless()
        self.on_drain()
        if self.connections:
            self._all_gone = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._all_gone.wait()
        await self.close()

    async def close(self) -> None:
        """Drop all connections, cancel all handlers and wait for them."""
        self.stop_listening()
        self.draining = True
        self._deadlines.close()
        for connection in list(self.connections):
            connection.abort()
        while tasks := [task for task in self._tasks if task is not asyncio.current_task()]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # what they start in their last moment ends too
        await asyncio.sleep(0)


def _places(urls: Sequence[str], tls: TlsSource | None) -> dict[tuple[str, int, str], list[Endpoint]]:
    """The endpoints by the socket that they share. Raises ValueError."""
    places: dict[tuple[str, int, str], list[Endpoint]] = {}
    for url in urls:
        endpoint = Endpoint.parse(url)
        if endpoint.secure and tls is None:
            raise ValueError(f"{url!r} needs TLS")
        places.setdefault(endpoint.place, []).append(endpoint)
    return places
