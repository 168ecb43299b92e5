"""Watches at the proxy: clients' streams on one side, one upstream stream for each who asks on the other.

    client stream --\\                               /-- Feed of one caller: an upstream stream,
    client stream ---+-- WatchService -- Ranges ----+         all its watchers on it by number
    client stream --/                               \\-- Feed of another

A feed whose stream breaks opens another one, at whichever endpoint serves, and asks there for what comes after all that
was passed on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.api.checks import parse
from etcdpy.client.call import WATCH
from etcdpy.client.following import RESUMABLE
from etcdpy.errors import Code, Compacted, EtcdError, NoLeader, StatusError
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.broadcast import INVALID_WATCH_ID, Broadcast, Counts, Range, Ranges, Watcher
from etcdpy.proxy.upstream import StreamBroken, UpstreamStream, caller_of
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.client.namespace import Namespace
    from etcdpy.proxy.upstream import Caller, Upstream
    from etcdpy.transport.calls import StreamCall

    Check = Callable[[rpc_pb2.RangeRequest, Caller], Awaitable[object]]

log = logs.get("grpcproxy")

_NEEDS_LEADER = ("hasleader", "true")


class WatchService:
    """Watch.Watch. `check` is asked with a range whether the caller may read what is to be watched."""

    def __init__(self, upstream: Upstream, namespace: Namespace | None, tasks: asyncio.TaskGroup, check: Check) -> None:
        self.upstream = upstream
        self.namespace = namespace
        self._tasks: asyncio.TaskGroup = tasks
        self._check = check
        self.counts = Counts()
        self.ranges = Ranges(self._begin, self._end, self.counts)
        self._feeds: dict[Caller, _Feed] = {}
        self._streams: dict[_ClientStream, None] = {}

    async def watch(self, call: StreamCall) -> None:
        """One client's stream. The client's half-close ends nothing, as on a member."""
        stream = _ClientStream(call, self.ranges, self._check)
        self._streams[stream] = None
        try:
            while (body := await call.receive()) is not None:
                await stream.handle(parse(rpc_pb2.WatchRequest, body))
            await asyncio.Event().wait()
        finally:
            del self._streams[stream]
            stream.close()

    def _begin(self, broadcast: Broadcast) -> None:
        caller = broadcast.range.caller
        feed = self._feeds.get(caller)
        if feed is None:
            feed = self._feeds[caller] = _Feed(self, caller)
            feed.task = self._tasks.create_task(feed.run())
        feed.add(broadcast)

    def _end(self, broadcast: Broadcast) -> None:
        self._feeds[broadcast.range.caller].remove(broadcast)

    def let_go(self, feed: _Feed) -> None:
        """A feed has nothing to watch any more."""
        del self._feeds[feed.caller]
        feed.task.cancel()

    def close(self) -> None:
        """End all upstream streams."""
        for feed in self._feeds.values():
            feed.task.cancel()

    def tell_no_leader(self, caller: Caller) -> None:
        """A member has no leader: who asked to be told so is told, and comes again."""
        for stream in list(self._streams):
            if stream.caller == caller and _NEEDS_LEADER in caller:
                stream.call.end_by_server(NoLeader())


class _ClientStream:
    """The watchers of one client's stream."""

    def __init__(self, call: StreamCall, ranges: Ranges, check: Check) -> None:
        self.call = call
        self.caller = caller_of(call)
        self._ranges = ranges
        self._check = check
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0

    def send(self, message: bytes) -> None:
        """See Sink. A client that reads too little loses its stream, and may come again from where it is."""
        if self.call.buffered_bytes > limits.PROXY_STREAM_UNREAD_BYTES_MAX:
            self.call.end_by_server(StatusError(Code.CANCELLED, "context canceled"))
            return
        self.call.send(message)

    async def handle(self, request: rpc_pb2.WatchRequest) -> None:
        """Do what the client asks for."""
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            await self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        else:
            log.error("not supported request type by gRPC proxy", request=str(kind))

    async def _create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        if request.start_revision < 0:
            self._refuse(Compacted.message)
            return
        try:
            await self._check(_permission_question(request), self.caller)
        except EtcdError as error:
            self._refuse(error.message)
            return
        if request.range_end and request.range_end != b"\0" and request.range_end <= request.key:
            self._refuse("")
            return
        range_ = Range(request.key, request.range_end, self.caller)
        watcher = self._watchers[self._next_id] = Watcher(self, self._next_id, range_, request)
        self._next_id += 1
        self._ranges.add(watcher)

    def _refuse(self, reason: str) -> None:
        response = rpc_pb2.WatchResponse(
            header=rpc_pb2.ResponseHeader(),
            watch_id=INVALID_WATCH_ID,
            created=True,
            canceled=True,
            cancel_reason=reason,
        )
        self.send(response.SerializeToString())

    def _cancel(self, watch_id: int) -> None:
        watcher = self._watchers.pop(watch_id, None)
        if watcher is not None:
            self._ranges.remove(watcher)
            watcher.post(rpc_pb2.WatchResponse(header=watcher.header, canceled=True))

    def close(self) -> None:
        """The client is gone."""
        for watcher in self._watchers.values():
            self._ranges.remove(watcher)


def _permission_question(request: rpc_pb2.WatchCreateRequest) -> rpc_pb2.RangeRequest:
    """A range that shows whether the keys may be read, and costs a member as little as may be."""
    key, end = (request.key, request.range_end) if request.key else (b"\0", b"\0")
    return rpc_pb2.RangeRequest(key=key, range_end=end, serializable=True, count_only=True, limit=1)


class _Feed:
    """The upstream stream of one caller. Its watchers have numbers of our own choice."""

    task: asyncio.Task[None]

    def __init__(self, service: WatchService, caller: Caller) -> None:
        self._service = service
        self.caller = caller
        self._numbers = itertools.count(1)
        self._by_number: dict[int, Broadcast] = {}
        self._numbers_of: dict[Broadcast, int] = {}
        self._asked_for: deque[int] = deque()
        """Numbers that were sent on this stream and not answered: one that is refused is answered without a number."""
        self._wishes: asyncio.Queue[rpc_pb2.WatchRequest] = asyncio.Queue()
        """What is to be sent on the stream that is open."""

    def add(self, broadcast: Broadcast) -> None:
        """Watch something more."""
        number = self._numbers_of[broadcast] = next(self._numbers)
        self._by_number[number] = broadcast
        self._wishes.put_nowait(self._create(number, broadcast))

    def remove(self, broadcast: Broadcast) -> None:
        """Watch it no more."""
        number = self._forget(broadcast)
        self._wishes.put_nowait(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=number)))

    def _forget(self, broadcast: Broadcast) -> int:
        number = self._numbers_of.pop(broadcast)
        del self._by_number[number]
        if not self._numbers_of:
            self._service.let_go(self)
        return number

    def _create(self, number: int, broadcast: Broadcast) -> rpc_pb2.WatchRequest:
        request = broadcast.state.create_request()
        if self._service.namespace is not None:
            request.create_request.CopyFrom(self._service.namespace.into(request.create_request))
        request.create_request.watch_id = number
        return request

    async def run(self) -> None:
        """Keep a stream open until cancelled."""
        # A member that has lost its leader ends the stream, which is then opened elsewhere.
        caller = (*(pair for pair in self.caller if pair != _NEEDS_LEADER), _NEEDS_LEADER)
        while True:
            stream = await self._service.upstream.open(WATCH.path, caller)
            self._wishes = asyncio.Queue()
            self._asked_for.clear()
            for broadcast, number in self._numbers_of.items():
                broadcast.state.disconnected()
                self._wishes.put_nowait(self._create(number, broadcast))
            if (broken := await stream.exchange(self._send, self._take)) is not None:
                self._broke(broken)
            await asyncio.sleep(limits.PROXY_RESUME_SECONDS)

    async def _send(self, stream: UpstreamStream) -> None:
        wishes = self._wishes
        while True:
            request = await wishes.get()
            if request.HasField("create_request"):
                self._asked_for.append(request.create_request.watch_id)
            await stream.send(request.SerializeToString())

    def _take(self, body: bytes) -> None:
        answer = rpc_pb2.WatchResponse.FromString(body)
        broadcast = self._by_number.get(self._asked_for.popleft() if answer.created else answer.watch_id)
        if broadcast is None:
            return  # it was let go meanwhile
        if self._service.namespace is not None:
            answer = self._service.namespace.out_of(answer)
        if answer.canceled:
            self._forget(broadcast)
        self._service.ranges.received(broadcast, answer)

    def _broke(self, broken: StreamBroken) -> None:
        failure = broken.failure
        if isinstance(failure.error, NoLeader):
            self._service.tell_no_leader(self.caller)
        elif failure.code not in RESUMABLE:
            for broadcast in list(self._numbers_of):
                self._forget(broadcast)
                self._service.ranges.ended(broadcast, rpc_pb2.ResponseHeader(), failure.error.message)
