"""`gateway`: passes TCP connections on to one of several endpoints, and knows nothing of what they carry.

An endpoint that cannot be dialed gets no client until a later dial, one each --retry-delay, succeeds. Among those that
can, the best priority of their SRV records is taken, and there the weights decide, or the turn where there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from etcdpy import limits
from etcdpy.duration import NS_PER_SECOND, format_duration
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from etcdpy.server.discovery_srv import Target

log = logs.get("tcpproxy")


class Remote:
    """An endpoint. `active` says whether new clients may get it."""

    __slots__ = ("active", "address", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        host = f"[{target.host}]" if ":" in target.host else target.host
        self.address = f"{host}:{target.port}"
        self.active = True


class Remotes:
    """The endpoints, and whose turn it is."""

    def __init__(self, targets: Sequence[Target], random: Random) -> None:
        self.all = [Remote(target) for target in targets]
        self._random = random
        self._turn = 0

    def pick(self) -> Remote | None:
        """Who gets the next client, by the rules of SRV records (RFC 2782) as etcd reads them. None: all are down."""
        active = [remote for remote in self.all if remote.active]
        best = min((remote.target.priority for remote in active), default=0)
        weighted = [remote for remote in active if remote.target.priority == best and remote.target.weight > 0]
        unweighted = [remote for remote in active if remote.target.priority == best and remote.target.weight == 0]
        if weighted and not (unweighted and self._random.randrange(100) == 0):
            return self._random.choices(weighted, [remote.target.weight for remote in weighted])[0]
        if not unweighted:
            return None
        self._turn += 1
        return unweighted[(self._turn - 1) % len(unweighted)]


class TcpGateway:
    """Serves until it is closed. `connections_max` is how many clients the process has descriptors for."""

    def __init__(self, remotes: Remotes, *, retry_ns: int, connections_max: int) -> None:
        self._remotes = remotes
        self._retry_ns = retry_ns or limits.GATEWAY_RETRY_NS_DEFAULT
        self._connections_max = connections_max
        self._tasks: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]]
        self.ends: set[_End] = set()
        """Both ends of every connection; those of a client whose endpoint is being dialed alone."""

    async def serve(self, host: str, port: int, stop: asyncio.Event, *, on_ready: Callable[[], None]) -> None:
        """Listen, and pass connections on until `stop`. Raises OSError."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Client(self), host, port, backlog=limits.LISTEN_BACKLOG)
        log.info("ready to proxy client requests", endpoints=[remote.address for remote in self._remotes.all])
        on_ready()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._running = {tasks.create_task(self._monitor())}
                await stop.wait()
                server.close()
                for task in self._running:
                    task.cancel()
        finally:
            server.close()
            for end in list(self.ends):
                end.transport.abort()

    @property
    def full(self) -> bool:
        """Whether there is no room for one more client."""
        return len(self.ends) >= 2 * self._connections_max

    def begin(self, client: _End) -> None:
        """Find an endpoint for a client."""
        task = self._tasks.create_task(self._connect(client))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _connect(self, client: _End) -> None:
        while (remote := self._remotes.pick()) is not None:
            end = _End(self)
            try:
                await self._dial(remote, end)
            except OSError as error:
                remote.active = False
                log.warn(
                    "deactivated endpoint",
                    address=remote.address,
                    interval=format_duration(self._retry_ns),
                    error=str(error) or "dial timed out",
                )
                continue
            client.join(end)
            return
        client.transport.close()

    async def _dial(self, remote: Remote, end: _End) -> None:
        """Raises OSError, TimeoutError among them."""
        try:
            async with asyncio.timeout(limits.GATEWAY_DIAL_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: end, remote.target.host, remote.target.port)
        except RuntimeError:
            # uvloop raises it where a dial is cancelled at the moment when it succeeds.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise
            raise asyncio.CancelledError from None

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self._retry_ns / NS_PER_SECOND)
            await asyncio.gather(*(self._try_again(remote) for remote in self._remotes.all if not remote.active))

    async def _try_again(self, remote: Remote) -> None:
        end = _End(self)
        try:
            await self._dial(remote, end)
        except OSError as error:
            log.warn(
                "failed to activate endpoint (stay inactive for another interval)",
                address=remote.address,
                interval=format_duration(self._retry_ns),
                error=str(error) or "dial timed out",
            )
            return
        end.transport.abort()
        remote.active = True
        log.info("activated", address=remote.address)


class _End(asyncio.Protocol):
    """One end of a connection; what it reads the other end writes. When one is closed the other is, as on etcd."""

    transport: asyncio.Transport

    def __init__(self, gateway: TcpGateway) -> None:
        self._gateway = gateway
        self._other: _End | None = None
        self._early = b""
        """Read before there is another end."""
        self._gone = False

    def join(self, other: _End) -> None:
        """Pass bytes between the two from now on."""
        self._other, other._other = other, self
        if self._gone or other._gone:
            self.transport.close()
            other.transport.close()
            return
        for each in (self, other):
            each._begin()

    def _begin(self) -> None:
        assert self._other is not None
        self._other.transport.write(self._early)
        self._early = b""
        self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=limits.GATEWAY_BUFFER_BYTES)
        self._gateway.ends.add(self)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
            self.transport.pause_reading()
        else:
            self._other.transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None:
            with contextlib.suppress(RuntimeError):  # it closes already
                self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            with contextlib.suppress(RuntimeError):
                self._other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._gateway.ends.discard(self)
        if self._other is not None:
            self._other.transport.close()


class _Client(_End):
    """The end that a client has opened."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._gateway.full:
            self.transport = cast("asyncio.Transport", transport)
            transport.close()
            return
        super().connection_made(transport)
        self._gateway.begin(self)
