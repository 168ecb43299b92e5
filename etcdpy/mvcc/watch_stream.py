"""One client's watch stream: its watchers by id, and the requests that make, end and question them.

The rules are etcd's to the letter, odd ones included; `tests/interop/test_watch_rules.py` holds them against etcd.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy.errors import Compacted
from etcdpy.mvcc.watch_events import CANCELED, CREATED, INVALID_WATCH_ID, cancel_reason_field, id_field
from etcdpy.mvcc.watch_groups import FRAGMENTS, NO_DELETE, NO_PUT, PREVIOUS, PROGRESS, Watcher
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.mvcc.watch import WatchHub

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"


class Outbox(Protocol):
    """Where a stream's responses go, in order. Neither member may call back into the hub."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed to `send` that have not left for the client."""
        ...

    def send(self, message: bytes) -> None:
        """Take one WatchResponse. Never waits; does nothing once the client is gone."""
        ...

    def send_parts(self, parts: list[bytes]) -> None:
        """The same of one that comes in pieces."""
        ...


class WatchStream:
    """The server's side of one Watch call. Made by `WatchHub.open_stream`; `close` must be called when the call ends.

    Answers to requests are sent whatever the outbox holds, so the caller must stop reading requests while the outbox is
    over its limit.
    """

    __slots__ = (
        "_hub",
        "_next_id",
        "behind",
        "closed",
        "forbids",
        "latest_start",
        "outbox",
        "parked",
        "progress",
        "watchers",
    )

    def __init__(self, hub: WatchHub, outbox: Outbox) -> None:
        self._hub = hub
        self._next_id = 0
        self.outbox = outbox
        self.watchers: dict[int, Watcher] = {}
        self.parked: OrderedDict[Watcher, None] = OrderedDict()
        """Watchers behind that wait until the outbox has drained; who waits longest is served first."""
        self.progress: dict[Watcher, None] = {}
        """Watchers that asked for progress notices."""
        self.behind = 0
        """Watchers not synced, compacted ones included; etcd answers no progress request while there are any."""
        self.latest_start = 0
        """No watcher of the stream has a later start revision."""
        self.forbids: Callable[[bytes, bytes], str] | None = None
        """Why the client may not watch a key and range end, as requests have them; empty where it may."""
        self.closed = False

    def handle(self, request: rpc_pb2.WatchRequest) -> None:
        """Serve one request of the client. A request of none of the known kinds is ignored, as on etcd."""
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self.create(request.create_request)
        elif kind == "cancel_request":
            self.cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self.request_progress()

    def create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        """Start a watcher and answer `created`, or answer `created` and `canceled` at once with the reason."""
        if request.start_revision < 0:
            self._refuse(Compacted.message)
            return
        key = request.key or b"\x00"
        forbidden = self.forbids(key, request.range_end) if self.forbids is not None else ""
        if forbidden:
            self._refuse(forbidden)
            return
        end = _range_end(request.range_end)
        if end and key >= end:
            self._refuse(EMPTY_RANGE)
            return
        watch_id = request.watch_id
        if watch_id == 0:
            watch_id = self._pick_id()
        elif watch_id in self.watchers:
            self._refuse(DUPLICATE_ID)
            return
        hub = self._hub
        watcher = Watcher(self, hub.groups.obtain(key, end), watch_id, id_field(watch_id), _options(request))
        watcher.start_revision = request.start_revision
        self.watchers[watch_id] = watcher
        self.latest_start = max(self.latest_start, request.start_revision)
        if request.progress_notify:
            self.progress[watcher] = None
        self.outbox.send(hub.headers.encode(hub.history.current_revision) + watcher.id_field + CREATED)
        hub.add(watcher)

    def _pick_id(self) -> int:
        while self._next_id in self.watchers:
            self._next_id += 1
        picked = self._next_id
        self._next_id += 1
        return picked

    def _refuse(self, reason: str) -> None:
        head = self._hub.headers.encode(self._hub.history.current_revision) + id_field(INVALID_WATCH_ID)
        self.outbox.send(head + CREATED + CANCELED + cancel_reason_field(reason))

    def cancel(self, watch_id: int) -> None:
        """End a watcher and say so; an id that is not in use is ignored."""
        watcher = self.watchers.pop(watch_id, None)
        if watcher is None:
            return
        self._hub.remove(watcher)
        self.outbox.send(self._hub.headers.encode(self._hub.history.current_revision) + watcher.id_field + CANCELED)

    def cancel_forbidden(self) -> int:
        """End the watchers that `forbids` now, and tell the client why. Returns how many."""
        assert self.forbids is not None, "nobody says what is forbidden"
        head = self._hub.headers.encode(self._hub.history.current_revision)
        count = 0
        for watch_id, watcher in list(self.watchers.items()):
            end = watcher.group.end
            reason = self.forbids(watcher.group.key, b"" if end is None else end or b"\x00")
            if reason:
                del self.watchers[watch_id]
                self._hub.remove(watcher)
                self.outbox.send(head + watcher.id_field + CANCELED + cancel_reason_field(reason))
                count += 1
        return count

    def request_progress(self) -> None:
        """Say up to which revision all watchers have everything, under id -1.

        Nothing is answered when there is no watcher, or while one is behind, compacted, or starts in the future.
        """
        current = self._hub.history.current_revision
        if not self.watchers or self.behind or self._hub.is_full(self.outbox):
            return
        if self.latest_start > current:
            self.latest_start = max(watcher.start_revision for watcher in self.watchers.values())
            if self.latest_start > current:
                return
        self.outbox.send(self._hub.headers.encode(current) + id_field(INVALID_WATCH_ID))

    def close(self) -> None:
        """Free everything. Nothing is sent any more; calling it again does nothing."""
        if self.closed:
            return
        self.closed = True
        for watcher in self.watchers.values():
            self._hub.remove(watcher)
        self.watchers.clear()
        self._hub.forget_stream()


def _range_end(range_end: bytes) -> bytes | None:
    """The request's range end as a group's: one zero byte asks for all keys from the key on."""
    if not range_end:
        return None
    return b"" if range_end == b"\x00" else range_end


def _options(request: rpc_pb2.WatchCreateRequest) -> int:
    options = 0
    if request.prev_kv:
        options |= PREVIOUS
    if request.fragment:
        options |= FRAGMENTS
    if request.progress_notify:
        options |= PROGRESS
    for wanted in request.filters:
        if wanted == rpc_pb2.WatchCreateRequest.NOPUT:
            options |= NO_PUT
        elif wanted == rpc_pb2.WatchCreateRequest.NODELETE:
            options |= NO_DELETE
    return options
