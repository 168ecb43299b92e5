"""What the proxy holds at the cluster for itself: a lease that is kept alive, and a watcher."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

from etcdpy import limits
from etcdpy.client import call as calls
from etcdpy.client.keepalive import KeepAlives
from etcdpy.errors import EtcdError
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.upstream import NOBODY, StreamBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.client.namespace import Namespace
    from etcdpy.client.watch_state import WatchState
    from etcdpy.proxy.upstream import Upstream


class Session:
    """A lease, from its grant until it is lost or ended."""

    def __init__(self, upstream: Upstream, granted: rpc_pb2.LeaseGrantResponse, asked_at: float) -> None:
        self._upstream = upstream
        self._schedule = KeepAlives()
        self._schedule.add(granted.ID, granted.TTL, asked_at)
        self._ended = asyncio.Event()
        self.id: int = granted.ID
        self.revision: int = granted.header.revision
        """Where the store stood when the lease was granted, or a little before: nothing with the lease is older."""

    @classmethod
    async def begin(cls, upstream: Upstream, ttl_seconds: int) -> Self:
        """Have a lease granted. Raises EtcdError."""
        asked_at = time.monotonic()
        return cls(
            upstream, await upstream.call(calls.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds)), asked_at
        )

    @property
    def lives(self) -> bool:
        """Whether the cluster has not ended the lease, for sure."""
        return self._schedule.ends_at(self.id) > time.monotonic()

    async def keep(self) -> None:
        """Renew the lease until it is lost or ended."""
        while self.lives:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._schedule.next_at() - time.monotonic())):
                    await self._ended.wait()
            if self._schedule.due(time.monotonic()):
                await self._renew()

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        # Another attempt must fit in, should this endpoint not answer.
        seconds = (self._schedule.ends_at(self.id) - asked_at) / 2
        with contextlib.suppress(TimeoutError, StreamBroken):
            async with asyncio.timeout(seconds):
                stream = await self._upstream.open(calls.LEASE_KEEP_ALIVE.path, NOBODY)
                try:
                    await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=self.id).SerializeToString())
                    body = await stream.read()
                finally:
                    stream.cancel()
            if body is not None:
                self._schedule.renewed(self.id, rpc_pb2.LeaseKeepAliveResponse.FromString(body).TTL, asked_at)

    def end(self) -> None:
        """Count on the lease no longer, and let `keep` return."""
        self._schedule.remove(self.id)
        self._ended.set()

    async def revoke(self) -> None:
        """End the lease at the cluster too, if that answers; otherwise it ends by itself."""
        self.end()
        with contextlib.suppress(TimeoutError, EtcdError):
            async with asyncio.timeout(limits.PROXY_REVOKE_SECONDS):
                await self._upstream.call(calls.LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=self.id))


async def watch_once(
    upstream: Upstream, namespace: Namespace | None, state: WatchState, take: Callable[[rpc_pb2.WatchResponse], None]
) -> None:
    """Watch on one stream until the member ends it. Raises StreamBroken, and the reason why the watcher was ended."""
    state.disconnected()
    stream = await upstream.open(calls.WATCH.path, NOBODY)
    try:
        await stream.send(state.create_request().SerializeToString())
        while (body := await stream.read()) is not None:
            answer = state.received(rpc_pb2.WatchResponse.FromString(body))
            if state.failed is not None:
                raise state.failed
            if answer is not None:
                take(answer if namespace is None else namespace.out_of(answer))
    finally:
        stream.cancel()
