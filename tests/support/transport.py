"""A transport server in a thread of its own, for tests with real sockets and independent clients."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvloop

from etcdpy.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from etcdpy.transport.calls import Method
    from etcdpy.transport.exchange import HttpHandler
    from etcdpy.transport.listener import TlsSource
    from etcdpy.transport.options import TransportOptions

T = TypeVar("T")


class TransportThread:
    """Runs a `Server` on uvloop. `bugs` holds what handlers raised by mistake."""

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        urls: Sequence[str] = ("http://127.0.0.1:0",),
        options: TransportOptions | None = None,
        tls: TlsSource | None = None,
        grpc: bool = True,
        http: HttpHandler | None = None,
        http_on_plain_http2: bool = False,
    ) -> None:
        self.bugs: list[Exception] = []
        self.ports: list[int] = []
        self._methods = {method.path: method for method in methods}
        self._urls = urls
        self._options = options
        self._listen: dict[str, Any] = {
            "tls": tls, "grpc": grpc, "http": http, "http_on_plain_http2": http_on_plain_http2
        }  # fmt: skip
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        return self.ports[0]

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's loop."""

        async def work() -> T:
            return function()

        return self.run(work())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                self._failed = error
                self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.server = Server(self._methods, self._options, on_bug=self.bugs.append)
        listeners = await self.server.listen(self._urls, **self._listen)
        self.ports = [listener.address[1] for listener in listeners if not isinstance(listener.address, str)]
        self._ready.set()
        await self._stop.wait()
        await self.server.close()
