"""Watchers of one range behind one upstream watcher. Nothing here waits: answers go in, responses come out.

    Ranges       every range that somebody watches, kept apart by who asks
      Broadcast    one upstream watcher of that range, and its receivers: the clients' watchers

A watcher joins a broadcast that it misses nothing of: one that has not passed the revision that it starts at. One from
now on therefore gets an upstream watcher of its own at first, whose first answer says where the store stands; then it
is merged into an older one that has come no further, and its own is let go.

Each event is encoded once a broadcast, whoever receives it; only watchers that begin within a response, or that filter,
get events of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from etcdpy import limits
from etcdpy.client.watch_state import WatchState
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.proxy.upstream import Caller

INVALID_WATCH_ID = -1


class Range(NamedTuple):
    """What is watched, and by whose right."""

    key: bytes
    end: bytes
    caller: Caller


class Sink(Protocol):
    """A client's stream."""

    def send(self, message: bytes) -> None:
        """Take a response; never waits."""
        ...


class Counts:
    """What /proxy/metrics tells of watchers."""

    def __init__(self) -> None:
        self.watchers = 0
        self.events = 0


class Watcher:
    """A client's watcher. `next_revision` is the first that it has not seen; 0 until it is known."""

    __slots__ = ("_sink", "filters", "header", "id", "next_revision", "prev_kv", "progress", "range")

    def __init__(self, sink: Sink, watch_id: int, range_: Range, request: rpc_pb2.WatchCreateRequest) -> None:
        self._sink = sink
        self.id = watch_id
        self.range = range_
        self.next_revision = request.start_revision
        self.progress = request.progress_notify
        self.prev_kv = request.prev_kv
        types = {rpc_pb2.WatchCreateRequest.NOPUT: kv_pb2.Event.PUT}
        self.filters = frozenset(types.get(each, kv_pb2.Event.DELETE) for each in request.filters)
        self.header = rpc_pb2.ResponseHeader()

    def post(self, head: rpc_pb2.WatchResponse, events: bytes = b"") -> None:
        """Send a response; `events` are encoded already."""
        head.watch_id = self.id
        self._sink.send(head.SerializeToString() + events)


class _Answer:
    """An upstream answer, with its events as watchers of either kind get them."""

    __slots__ = ("_encoded", "answer")

    def __init__(self, answer: rpc_pb2.WatchResponse) -> None:
        self.answer = answer
        self._encoded: dict[bool, bytes] = {}

    def events(self, watcher: Watcher) -> bytes:
        """The events that are news for a watcher, encoded; empty where there is none."""
        events = self.answer.events
        if not watcher.filters and events[0].kv.mod_revision >= watcher.next_revision:
            encoded = self._encoded.get(watcher.prev_kv)
            if encoded is None:
                encoded = self._encoded[watcher.prev_kv] = _encode(events, prev_kv=watcher.prev_kv)
            return encoded
        news = [
            event
            for event in events
            if event.kv.mod_revision >= watcher.next_revision and event.type not in watcher.filters
        ]
        return _encode(news, prev_kv=watcher.prev_kv)


def _encode(events: Sequence[kv_pb2.Event], *, prev_kv: bool) -> bytes:
    response = rpc_pb2.WatchResponse(events=events)
    if not prev_kv:
        for event in response.events:
            event.ClearField("prev_kv")
    return response.SerializeToString()


class Broadcast:
    """One upstream watcher, and who gets what it sees."""

    def __init__(self, range_: Range, start_revision: int) -> None:
        self.range = range_
        self.receivers: dict[Watcher, None] = {}
        self.state = WatchState(
            rpc_pb2.WatchCreateRequest(
                key=range_.key,
                range_end=range_.end,
                start_revision=start_revision,
                prev_kv=True,
                progress_notify=True,
                fragment=True,
            )
        )

    @property
    def next_revision(self) -> int:
        """The first revision that it has not passed on; 0 until that is known."""
        return self.state.next_revision

    def fits(self, watcher: Watcher) -> bool:
        """Whether a new watcher would miss nothing here."""
        own, wanted = self.next_revision, watcher.next_revision
        return own <= wanted and (own != 0 or wanted == 0)

    def was_created(self, header: rpc_pb2.ResponseHeader) -> None:
        """The cluster has taken the upstream watcher for the first time."""
        for watcher in self.receivers:
            if watcher.next_revision == 0:
                watcher.next_revision = header.revision + 1
            watcher.header = header
            watcher.post(rpc_pb2.WatchResponse(header=header, created=True))

    def has_come(self, answer: rpc_pb2.WatchResponse) -> None:
        """Pass on events, or word of how far the watcher has come."""
        if not answer.events:
            for watcher in self.receivers:
                if watcher.progress:
                    watcher.header = answer.header
                    watcher.post(rpc_pb2.WatchResponse(header=answer.header))
            return
        shared = _Answer(answer)
        last = answer.events[-1].kv.mod_revision
        for watcher in self.receivers:
            if last < watcher.next_revision:
                continue
            events = shared.events(watcher)
            watcher.next_revision = last + 1
            if events:
                watcher.header = answer.header
                watcher.post(rpc_pb2.WatchResponse(header=answer.header), events)

    def was_ended(self, header: rpc_pb2.ResponseHeader, reason: str, compact_revision: int) -> list[Watcher]:
        """The cluster has ended the upstream watcher; its receivers, who have been told."""
        created = not self.state.created
        ended = list(self.receivers)
        self.receivers.clear()
        for watcher in ended:
            watcher.post(
                rpc_pb2.WatchResponse(
                    header=header,
                    created=created and compact_revision == 0,
                    canceled=True,
                    compact_revision=compact_revision,
                    cancel_reason=reason,
                )
            )
        return ended


class Ranges:
    """Every broadcast. `begin` and `end` are told which upstream watchers are wanted."""

    def __init__(self, begin: Callable[[Broadcast], None], end: Callable[[Broadcast], None], counts: Counts) -> None:
        self._begin = begin
        self._end = end
        self.counts = counts
        self._broadcasts: dict[Range, list[Broadcast]] = {}
        self._of: dict[Watcher, Broadcast] = {}

    def add(self, watcher: Watcher) -> None:
        """A new watcher."""
        for broadcast in self._broadcasts.get(watcher.range, ()):
            if broadcast.fits(watcher):
                self._join(watcher, broadcast)
                return
        broadcast = Broadcast(watcher.range, watcher.next_revision)
        self._broadcasts.setdefault(watcher.range, []).append(broadcast)
        self._join(watcher, broadcast)
        self._begin(broadcast)

    def _join(self, watcher: Watcher, broadcast: Broadcast) -> None:
        if broadcast.receivers:
            self.counts.watchers += 1
        broadcast.receivers[watcher] = None
        self._of[watcher] = broadcast
        if broadcast.state.created:
            # The cluster has said so before; the header is as etcd's proxy makes it up.
            watcher.header = rpc_pb2.ResponseHeader(revision=watcher.next_revision)
            watcher.post(rpc_pb2.WatchResponse(header=watcher.header, created=True))

    def remove(self, watcher: Watcher) -> None:
        """A watcher that is wanted no more; one that is gone already is no matter."""
        broadcast = self._of.pop(watcher, None)
        if broadcast is None:
            return
        del broadcast.receivers[watcher]
        if broadcast.receivers:
            self.counts.watchers -= 1
        else:
            self._drop(broadcast)
            self._end(broadcast)

    def _drop(self, broadcast: Broadcast) -> None:
        others = self._broadcasts[broadcast.range]
        others.remove(broadcast)
        if not others:
            del self._broadcasts[broadcast.range]

    def received(self, broadcast: Broadcast, answer: rpc_pb2.WatchResponse) -> None:
        """An upstream answer for one broadcast."""
        was_created = broadcast.state.created
        passed = broadcast.state.received(answer)
        if broadcast.state.failed is not None:
            self.ended(broadcast, answer.header, answer.cancel_reason, answer.compact_revision)
            return
        if broadcast.state.created and not was_created:
            broadcast.was_created(answer.header)
        elif passed is not None:
            if passed.events:
                self.counts.events += len(broadcast.receivers) - 1
            broadcast.has_come(passed)
        self._merge(broadcast)

    def ended(
        self, broadcast: Broadcast, header: rpc_pb2.ResponseHeader, reason: str, compact_revision: int = 0
    ) -> None:
        """The upstream watcher is over for good."""
        self.counts.watchers -= max(0, len(broadcast.receivers) - 1)
        for watcher in broadcast.was_ended(header, reason, compact_revision):
            del self._of[watcher]
        self._drop(broadcast)

    def _merge(self, broadcast: Broadcast) -> None:
        """Move the receivers to another broadcast of the range that has come no further, if there is one."""
        others = self._broadcasts[broadcast.range]
        if len(others) == 1 or len(broadcast.receivers) >= limits.PROXY_WATCHERS_MERGED_MAX:
            return
        for other in others:
            if other is broadcast or not other.state.created or other.next_revision > broadcast.next_revision:
                continue
            self.counts.watchers += 1  # each group had one that did not count; the joint one has one
            for watcher in broadcast.receivers:
                self._of[watcher] = other
            other.receivers.update(broadcast.receivers)
            broadcast.receivers.clear()
            self._drop(broadcast)
            self._end(broadcast)
            return
