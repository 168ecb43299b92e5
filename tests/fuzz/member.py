"""One whole member without sockets: its real replica, services and peer port, on a loop whose turns are timed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from google.protobuf.message import DecodeError

from etcdpy.api.client_versions import ClientVersions
from etcdpy.api.health import Health
from etcdpy.api.http import Access, MetricsPage, Versions, client_port
from etcdpy.api.metrics import build_registry
from etcdpy.apply.entry_data import UnknownRequest
from etcdpy.gateway.gateway import streamed_paths
from etcdpy.peer.connections import PeerUnreachable
from etcdpy.peer.handler import STREAMED_PATHS
from etcdpy.raft.errors import LogLost
from etcdpy.server.config import load
from etcdpy.server.loop_lag import LoopLag
from etcdpy.server.member import open_replica
from etcdpy.server.run import Running
from etcdpy.server.stats import MemberHealth, MemberStats
from etcdpy.server.tokens import make_tokens
from etcdpy.transport.calls import Peer
from etcdpy.transport.connection import Http2Protocol
from etcdpy.transport.http1 import Http1Protocol
from tests.fuzz.harness import STALL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from etcdpy.transport.exchange import HttpHandler
    from tests.fuzz.harness import Watch

QUIET_TURNS: Final = 4
"""Turns without anything to do after which a member has done what it was asked to."""
PATIENCE_TURNS: Final = 400
"""And after which it is left alone, when other threads or timers are to be waited for."""


class TimedLoop(asyncio.SelectorEventLoop):
    """Each turn is timed while somebody watches."""

    watch: Watch | None = None

    def _run_once(self) -> None:
        if self.watch is None:
            super()._run_once()  # type: ignore[misc]
        else:
            with self.watch.turn():
                super()._run_once()  # type: ignore[misc]


class MemoryTransport(asyncio.Transport):
    """A socket that takes everything. `written` is what the member said."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.BaseProtocol = protocol
        self._closing = False
        self.reading = True
        self.written = bytearray()
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += data

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def feed(self, data: bytes) -> None:
        """Bytes from the other side."""
        if not self._closing:
            self._protocol.data_received(data)  # type: ignore[attr-defined]


class FuzzedMember:
    """A cluster of one in a directory of its own. `bugs` holds what must never happen."""

    def __init__(self) -> None:
        self.bugs: list[Exception] = []
        self.is_over = False
        self._directory = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_memory_directory()))
        self.loop = TimedLoop()
        self.loop.set_exception_handler(self._on_loop_error)
        self.running: Running
        self._duties: list[asyncio.Task[Any]] = []

    def __enter__(self) -> Self:
        try:
            self.loop.run_until_complete(self._start())
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self._remove()

    def _remove(self) -> None:
        self.loop.close()
        shutil.rmtree(self._directory)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.bugs.append(context.get("exception") or RuntimeError(context["message"]))

    def _on_broken(self, error: Exception) -> None:
        """The process ends here. What a leader says is in the log is believed, as etcd believes it."""
        self.is_over = True
        if not isinstance(error, (LogLost, DecodeError, JSONDecodeError, UnknownRequest)):
            self.bugs.append(error)

    async def _start(self) -> None:
        flags = [
            f"--data-dir={self._directory}/data",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--name=m1",
            "--bcrypt-cost=4",
        ]
        self.config = load(flags, {})
        self.replica = await open_replica(self.config, self.loop, make_tokens(self.config))
        self.replica.broken = self._on_broken  # type: ignore[method-assign]
        self.running = Running(self.config, self.replica, asyncio.Event())
        for server in (self.running._server, self.running._peer_server):
            server.on_bug = self.bugs.append
        self.network = self.running._peers.network
        self.network._roads.dialer.connect = _unreachable  # type: ignore[method-assign, assignment]
        self.replica.begin()
        for _ in range(PATIENCE_TURNS):
            if self.replica.raw.is_leader and self.replica.lessor.is_primary:
                break
            await asyncio.sleep(0.001)
        await self.replica.publish()
        duties = (self.running._watches.run(), self.running._upkeep.compact_forever())
        self._duties = [self.loop.create_task(duty) for duty in duties]

    async def _end(self) -> None:
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        await self.running._server.close()
        await self.network.stop()
        await self.running._peer_server.close()
        self.running._snapshots.close()
        self.replica.engine.close()

    # --- doors ---

    def client_http(self) -> HttpHandler:
        """What the client port answers to HTTP that is not gRPC."""
        health = Health(MemberHealth(self.replica))
        lag = LoopLag(self.loop, lambda _seconds: None)
        stats = MemberStats(self.replica, self.running._upkeep, self.running._server, lag, None)
        metrics = MetricsPage(build_registry(stats.sources(health, ClientVersions(), None)))
        return client_port(
            health=health,
            metrics=metrics,
            versions=lambda: Versions(self.replica.membership.version, self.replica.storage_version),
            variables=lambda: {"cmdline": ["etcdpy"]},
            access=Access(),
            gateway=self._gateway(),
        )

    def _gateway(self) -> HttpHandler:
        self.running._server.on_head = lambda _head: None
        return self.running._make_gateway()

    def grpc_connection(self) -> MemoryTransport:
        """A client's HTTP/2 connection."""
        server = self.running._server
        return MemoryTransport(self.loop, Http2Protocol(server, Peer("10.0.0.9:1"), server._service(None)))

    def http_connection(self, handler: HttpHandler) -> MemoryTransport:
        """A client's HTTP/1.1 connection."""
        return MemoryTransport(
            self.loop, Http1Protocol(self.running._server, Peer("10.0.0.9:1"), handler, streamed_paths())
        )

    def peer_connection(self) -> MemoryTransport:
        """A member's HTTP/1.1 connection."""
        server, handler = self.running._peer_server, self.network.handle
        return MemoryTransport(self.loop, Http1Protocol(server, Peer("10.0.0.9:1"), handler, STREAMED_PATHS))

    # --- time ---

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Time the turns meanwhile."""
        self.loop.watch = watch
        try:
            yield
        finally:
            self.loop.watch = None

    def work(self, watch: Watch, first: Callable[[], None], done: Callable[[], bool]) -> None:
        """Call `first` on the loop and let the member work until it is done and quiet."""
        with self.watched(watch):
            self.loop.run_until_complete(self._work(first, done))
        if self.bugs:
            raise self.bugs[0]

    async def _work(self, first: Callable[[], None], done: Callable[[], bool]) -> None:
        first()
        quiet = 0
        for turn in range(PATIENCE_TURNS):
            await asyncio.sleep(0 if turn < 3 * QUIET_TURNS else 0.0005)
            quiet = quiet + 1 if done() else 0
            if quiet >= QUIET_TURNS:
                return


class MemberSurface:
    """A door of a fresh member; a Surface."""

    name: str
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        """See Surface."""
        with FuzzedMember() as member:
            self.talk(draw, watch, member)

    def talk(self, draw: Random, watch: Watch, member: FuzzedMember) -> None:
        """Send the inputs of one seed to it."""
        raise NotImplementedError


async def _unreachable(url: str, _factory: object) -> Any:
    raise PeerUnreachable(f"dial {url}: nobody is there")


def _memory_directory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
