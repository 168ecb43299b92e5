"""etcdserverpb.Lease at the proxy. The renewals of all clients share one upstream stream for each who asks, and those
of one lease that come while one is under way share its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.api.checks import parse
from etcdpy.client.call import LEASE_KEEP_ALIVE, LEASE_TIME_TO_LIVE
from etcdpy.client.following import RESUMABLE
from etcdpy.errors import NoLeader
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.upstream import StreamBroken, UpstreamStream, caller_of

if TYPE_CHECKING:
    from etcdpy.errors import EtcdError
    from etcdpy.proxy.asking import Asker
    from etcdpy.proxy.upstream import Caller, Upstream
    from etcdpy.transport.calls import Call, StreamCall


class LeaseService:
    """What of the Lease service is more than passing on."""

    def __init__(self, upstream: Upstream, asker: Asker, tasks: asyncio.TaskGroup) -> None:
        self._upstream = upstream
        self._asker = asker
        self._tasks: asyncio.TaskGroup = tasks
        self._renewals: dict[Caller, _Renewals] = {}

    async def time_to_live(self, call: Call, body: bytes) -> None:
        """Lease.LeaseTimeToLive, whose keys are those of the namespace."""
        request = parse(rpc_pb2.LeaseTimeToLiveRequest, body)
        call.finish(await self._asker.encoded(LEASE_TIME_TO_LIVE, request, caller_of(call)))

    async def keep_alive(self, call: StreamCall) -> None:
        """Lease.LeaseKeepAlive: one answer a request, in their order."""
        caller = caller_of(call)
        renewals = self._renewals.get(caller)
        if renewals is None:
            renewals = self._renewals[caller] = _Renewals(self._upstream, caller)
            renewals.task = self._tasks.create_task(renewals.run())
        renewals.users += 1
        try:
            while (body := await call.receive()) is not None:
                request = parse(rpc_pb2.LeaseKeepAliveRequest, body)
                call.send(await renewals.renew(request.ID))
                if call.buffered_bytes > limits.PROXY_PASSED_BYTES_MAX:
                    await call.wait_writable(limits.PROXY_PASSED_BYTES_MAX)
        finally:
            renewals.users -= 1
            if not renewals.users:
                del self._renewals[caller]
                renewals.task.cancel()


class _Renewals:
    """The upstream stream of one caller. A member answers renewals one after the other, in their order."""

    task: asyncio.Task[None]

    def __init__(self, upstream: Upstream, caller: Caller) -> None:
        self._upstream = upstream
        self._caller = caller
        self.users = 0
        """Clients' streams that stand on it."""
        self._wanted: dict[int, asyncio.Future[bytes]] = {}
        """The answers that are waited for, by lease."""
        self._queue: deque[int] = deque()
        """Leases to renew, in the order of their requests; the first `_sent` of them are asked for on this stream."""
        self._sent = 0
        self._news = asyncio.Event()

    async def renew(self, lease_id: int) -> bytes:
        """The answer to a renewal of the lease from now on. Raises EtcdError."""
        future = self._wanted.get(lease_id)
        if future is None:
            future = self._wanted[lease_id] = asyncio.get_running_loop().create_future()
            self._queue.append(lease_id)
            self._news.set()
        return await asyncio.shield(future)

    async def run(self) -> None:
        """Keep a stream open while there is something to renew, until cancelled."""
        while True:
            await self._wait_news()
            stream = await self._upstream.open(LEASE_KEEP_ALIVE.path, self._caller)
            self._sent = 0
            self._news.set()
            if (broken := await stream.exchange(self._send, self._take)) is not None:
                self._broke(broken)
            await asyncio.sleep(limits.PROXY_RESUME_SECONDS)

    async def _wait_news(self) -> None:
        while not self._queue:
            self._news.clear()
            await self._news.wait()

    async def _send(self, stream: UpstreamStream) -> None:
        while True:
            while self._sent < len(self._queue):
                request = rpc_pb2.LeaseKeepAliveRequest(ID=self._queue[self._sent])
                self._sent += 1
                await stream.send(request.SerializeToString())
            self._news.clear()
            await self._news.wait()

    def _take(self, body: bytes) -> None:
        lease_id = self._queue.popleft()
        self._sent -= 1
        future = self._wanted.pop(lease_id)
        if not future.done():
            future.set_result(body)

    def _broke(self, broken: StreamBroken) -> None:
        """What was refused is the first that was not answered; the rest is asked for again on the next stream."""
        failure = broken.failure
        if failure.code in RESUMABLE and not isinstance(failure.error, NoLeader):
            return
        if self._queue:
            self._fail(self._queue.popleft(), failure.error)

    def _fail(self, lease_id: int, error: EtcdError) -> None:
        future = self._wanted.pop(lease_id)
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waited may be gone, and then nobody is to be told of it
