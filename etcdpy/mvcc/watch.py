"""Watch: every change reaches every watcher that asked for it exactly once, in order, or the watcher is told otherwise.

    notify(changes)       right after each applied batch, before anything else runs on the loop: synced watchers get
                          their events from the bytes just stored
    leave_to_history()    instead, where a revision has so many changes that they must be served in slices
    sync_slice()          while `has_work`: watchers that are behind get a piece of history each
    progress_tick(now)    from time to time: watchers without events learn how far they are

    created --> SYNCED <-----------------------------+
       |          | outbox full, or copied enough    | history served up to the current revision
       |          v                                  |
       +----> LAGGING <--> PARKED (outbox full)  ----+
       |          | overtaken by a compaction
       |          v
       |      COMPACTED
       +----> WAITING (start revision ahead) --> SYNCED

Exactly once hangs on two invariants. A synced watcher has everything up to `history.current_revision`. A watcher behind
has everything below its `next_revision` and nothing from it on; it becomes synced only in the step that hands it the
history up to the current revision, and no revision can be applied within that step. Nothing is kept in memory for a
watcher that is behind: what it misses is read from history when its stream takes bytes again.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from etcdpy.limits import (
    GRPC_OVERHEAD_BYTES,
    MAX_REQUEST_BYTES_DEFAULT,
    WATCH_OUTBOX_BYTES_MAX,
    WATCH_OUTBOX_BYTES_RESUME,
    WATCH_PROGRESS_INTERVAL_SECONDS_MIN,
    WATCH_PROGRESS_SLICE_WATCHERS_MAX,
)
from etcdpy.mvcc.watch_catchup import CatchUp
from etcdpy.mvcc.watch_delivery import Delivery
from etcdpy.mvcc.watch_events import Change, Event, Headers
from etcdpy.mvcc.watch_groups import Group, GroupIndex, State, Watcher
from etcdpy.mvcc.watch_stream import Outbox, WatchStream
from etcdpy.mvcc.watch_window import History

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

__all__ = ["Change", "History", "Outbox", "WatchHub", "WatchStream"]

PROGRESS_INTERVAL_SECONDS_DEFAULT: Final = 600.0
_STALE_MIN: Final = 64


class WatchHub:
    """All watchers of a member. Owned by the core loop; nothing here waits.

    `raft_term` must be set whenever the term changes. `streams`, `watchers`, `slow_watchers` and `events_total` feed
    the metrics.
    """

    def __init__(
        self,
        history: History,
        *,
        cluster_id: int,
        member_id: int,
        random: Random,
        progress_interval_seconds: float = PROGRESS_INTERVAL_SECONDS_DEFAULT,
        max_request_bytes: int = MAX_REQUEST_BYTES_DEFAULT,
        outbox_bytes_max: int = WATCH_OUTBOX_BYTES_MAX,
        outbox_bytes_resume: int = WATCH_OUTBOX_BYTES_RESUME,
    ) -> None:
        self.history = history
        self.headers = Headers(cluster_id, member_id)
        self.groups = GroupIndex()
        self._random = random
        self._progress_interval = max(progress_interval_seconds, WATCH_PROGRESS_INTERVAL_SECONDS_MIN)
        self._outbox_max = outbox_bytes_max
        self._delivery = Delivery(history.record_at, outbox_bytes_max, max_request_bytes + GRPC_OVERHEAD_BYTES)
        self._behind = CatchUp(history, self.headers, self._delivery, outbox_bytes_max, outbox_bytes_resume)
        self._synced = 0
        self._synced_revision = 0
        """No change up to this revision may come to `notify`: somebody has it already."""
        self._progress_due: list[tuple[float, int, WatchStream]] = []
        self._progress_stale = 0
        self._progress_queue: list[Watcher] = []
        self._opened = 0
        self.streams = 0
        self.watchers = 0

    # --- what the server looks at ---

    @property
    def raft_term(self) -> int:
        """The term that response headers carry."""
        return self.headers.raft_term

    @raft_term.setter
    def raft_term(self, term: int) -> None:
        self.headers.raft_term = term

    @property
    def has_work(self) -> bool:
        """Whether `sync_slice` has watchers to serve at once."""
        return self._behind.has_work

    @property
    def blocked_streams(self) -> int:
        """Streams whose outbox must drain first. While there are any, call `sync_slice` every 10 ms or so."""
        return self._behind.blocked_streams

    @property
    def slow_watchers(self) -> int:
        """Watchers that are behind: etcd's unsynced ones and victims."""
        return self._behind.count

    @property
    def events_total(self) -> int:
        """Events handed to outboxes."""
        return self._delivery.events_total

    @property
    def pending_events(self) -> int:
        """Events made for a watcher and held back: none, ever. What an outbox does not take is read again later."""
        return 0

    # --- streams and watchers ---

    def open_stream(self, outbox: Outbox, now: float) -> WatchStream:
        """A stream for a new Watch call; `now` is monotonic seconds, the same clock as that of `progress_tick`."""
        stream = WatchStream(self, outbox)
        self.streams += 1
        self._opened += 1
        self._schedule_progress(stream, self._opened, now)
        return stream

    def forget_stream(self) -> None:
        """A stream was closed. Its entry among those due for progress goes when it comes up or when half are stale."""
        self.streams -= 1
        self._progress_stale += 1
        if self._progress_stale > _STALE_MIN and self._progress_stale * 2 > len(self._progress_due):
            self._progress_due = [entry for entry in self._progress_due if not entry[2].closed]
            heapify(self._progress_due)
            self._progress_stale = 0

    def is_full(self, outbox: Outbox) -> bool:
        """Whether an outbox takes no more events at present."""
        return outbox.buffered_bytes > self._outbox_max

    def add(self, watcher: Watcher) -> None:
        """Take in a new watcher whose `created` answer was sent."""
        watcher.group.members += 1
        self.watchers += 1
        current = self.history.current_revision
        if watcher.start_revision == 0 or watcher.start_revision > current:
            self._sync(watcher, current)
        else:
            self._behind.lag(watcher, watcher.start_revision)

    def remove(self, watcher: Watcher) -> None:
        """Let a watcher go, whatever its state."""
        self.watchers -= 1
        watcher.stream.progress.pop(watcher, None)
        if watcher.state is State.COMPACTED:
            watcher.stream.behind -= 1
        else:
            if watcher.state is State.LAGGING or watcher.state is State.PARKED:
                self._behind.take_out(watcher)
            else:
                self._unsync(watcher)
            self._leave_group(watcher)
        watcher.state = State.CLOSED

    def _leave_group(self, watcher: Watcher) -> None:
        group = watcher.group
        group.members -= 1
        if not group.members:
            self.groups.discard(group)

    def _sync(self, watcher: Watcher, current: int) -> None:
        group = watcher.group
        if watcher.start_revision > current + 1:
            watcher.state = State.WAITING
            group.waiting[watcher] = None
        else:
            watcher.state = State.SYNCED
            group.classes.setdefault(watcher.options, {})[watcher] = None
        group.synced += 1
        self._synced += 1
        self._synced_revision = current

    def _unsync(self, watcher: Watcher) -> None:
        group = watcher.group
        if watcher.state is State.WAITING:
            del group.waiting[watcher]
        else:
            assert watcher.state is State.SYNCED
            members = group.classes[watcher.options]
            del members[watcher]
            if not members:
                del group.classes[watcher.options]
        group.synced -= 1
        self._synced -= 1

    # --- synced watchers: the changes of the batch just applied ---

    def notify(self, changes: Sequence[Change]) -> None:
        """Hand the changes of an applied batch, one or more whole main revisions in order, to the synced watchers.

        Must follow the batch at once: `history.current_revision` is already that of the last change, and nothing else
        of the hub may be called in between. A watcher gets the batch in one response, as etcd does for those that catch
        up; a batch of one revision looks exactly as etcd's answer.
        """
        if not self._synced or not changes:
            return
        assert changes[0][0] >> 32 > self._synced_revision, "changes that were handed out already"
        touched = self._match(changes)
        if not touched:
            return
        revision = changes[-1][0] >> 32
        header = self.headers.encode(revision)
        delivery = self._delivery
        for group in touched:
            events = group.pending
            group.pending = []
            delivery.to_group(group, events, header, revision)
        for watcher, next_revision in delivery.left_behind:
            self._unsync(watcher)
            self._behind.lag(watcher, next_revision)
        for watcher in delivery.arrived:
            self._unsync(watcher)
            self._sync(watcher, revision)
        delivery.batch_done()

    def _match(self, changes: Sequence[Change]) -> list[Group]:
        """Gather each change in `pending` of the groups with synced watchers that it concerns; name those groups."""
        singles = self.groups.singles
        ranges_of = self.groups.ranges_of if self.groups.has_ranges else None
        touched: list[Group] = []
        for packed, key, deleted, record in changes:
            event = None
            single = singles.get(key)
            if single is not None and single.synced:
                event = Event(packed, key, deleted, record)
                if not single.pending:
                    touched.append(single)
                single.pending.append(event)
            if ranges_of is None:
                continue
            for group in ranges_of(key):
                if group.synced:
                    if event is None:
                        event = Event(packed, key, deleted, record)
                    if not group.pending:
                        touched.append(group)
                    group.pending.append(event)
        return touched

    def leave_to_history(self, main: int, first_key: bytes, last_key: bytes) -> None:
        """A revision was published whose changes, between these keys, are too many for `notify`: the synced watchers
        there get them as those who are behind do. Follows the revision before anything else of the hub is called."""
        for group in self.groups:
            if not group.synced or group.key > last_key or not _reaches(group, first_key):
                continue
            members = [watcher for members in group.classes.values() for watcher in members]
            members += [watcher for watcher in group.waiting if watcher.start_revision <= main]
            for watcher in members:
                self._unsync(watcher)
                self._behind.lag(watcher, main)

    # --- watchers that are behind ---

    def sync_slice(self, out_of_time: Callable[[], bool] | None = None) -> bool:
        """Serve watchers that are behind for about 1 to 3 ms. Returns whether there is more to do at once.

        `out_of_time`, where given, is asked between watchers and may end the slice sooner. Never call `sync_slice`
        between a batch and its `notify`.
        """
        caught_up, compacted = self._behind.serve(out_of_time)
        current = self.history.current_revision
        for watcher in caught_up:
            self._sync(watcher, current)
        for watcher in compacted:
            # The id stays taken until the client cancels it, and until then the stream counts as behind, as on etcd.
            watcher.state = State.COMPACTED
            watcher.stream.behind += 1
            self._leave_group(watcher)
        self._delivery.batch_done()
        return self._behind.has_work

    def resync(self, after_revision: int) -> None:
        """The store was replaced (a snapshot from the leader): synced watchers have all up to `after_revision` only."""
        self._behind.forget_window()
        for group in self.groups:
            members = [watcher for options in group.classes.values() for watcher in options]
            for watcher in (*members, *group.waiting):
                next_revision = max(after_revision + 1, watcher.start_revision)
                if next_revision <= self.history.current_revision:
                    self._unsync(watcher)
                    self._behind.lag(watcher, next_revision)

    # --- progress ---

    def _schedule_progress(self, stream: WatchStream, order: int, now: float) -> None:
        # Up to a tenth is added so that streams opened together are not all due together, as on etcd.
        interval = self._progress_interval * (1 + self._random.random() / 10)
        heappush(self._progress_due, (now + interval, order, stream))

    def progress_tick(self, now: float) -> float | None:
        """Tell watchers that asked for it, are synced and had no events since their last tick how far they are.

        Returns when to call again; None while there is no stream. A call that comes late is no harm.
        """
        due = self._progress_due
        queue = self._progress_queue
        while due and due[0][0] <= now and len(queue) < WATCH_PROGRESS_SLICE_WATCHERS_MAX:
            _, order, stream = heappop(due)
            if stream.closed:
                self._progress_stale -= 1
            else:
                queue += stream.progress
                self._schedule_progress(stream, order, now)
        if queue:
            self._report_progress(queue[-WATCH_PROGRESS_SLICE_WATCHERS_MAX:])
            del queue[-WATCH_PROGRESS_SLICE_WATCHERS_MAX:]
            if queue:
                return now
        return due[0][0] if due else None

    def _report_progress(self, watchers: list[Watcher]) -> None:
        current = self.history.current_revision
        header = self.headers.encode(current)
        for watcher in watchers:
            if watcher.quiet and self._may_report(watcher, current):
                watcher.outbox.send(header + watcher.id_field)
            watcher.quiet = True

    def _may_report(self, watcher: Watcher, current: int) -> bool:
        """Synced, started, and with room in the outbox: etcd drops a notice that finds its channel full."""
        if watcher.state is not State.SYNCED and watcher.state is not State.WAITING:
            return False
        return watcher.start_revision <= current and not self.is_full(watcher.outbox)


def _reaches(group: Group, key: bytes) -> bool:
    """Whether a group's range, which begins below the last of some keys, ends after the first of them."""
    if group.end is None:
        return group.key >= key
    return not group.end or group.end > key
