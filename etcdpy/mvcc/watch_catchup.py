"""Watchers that are behind, and the slices in which they are served from history.

A watcher behind is either LAGGING, ready to be served, or PARKED, its stream's outbox being full. Nothing is kept for
it but the revision that it needs next. Serving moves upward through history like a lift: everybody whose next revision
lies in the piece of history that was read is served from it, and late comers below wait until the lift comes down
again, so that they cannot hold up those who are nearly there.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from etcdpy.limits import WATCH_SLICE_PREVIOUS_READS_MAX, WATCH_SLICE_SENT_BYTES_MAX, WATCH_SLICE_WATCHERS_MAX
from etcdpy.mvcc.watch_events import CANCELED, Headers, compact_revision_field
from etcdpy.mvcc.watch_groups import State, Watcher
from etcdpy.mvcc.watch_window import History, ReadAllowance, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.mvcc.watch_delivery import Delivery
    from etcdpy.mvcc.watch_stream import WatchStream

_TIME_CHECK_WATCHERS = 32
"""How many watchers are served between two looks at the clock."""


class CatchUp:
    """Holds the watchers behind. The hub moves watchers in and out; `serve` reports those that have caught up."""

    def __init__(self, history: History, headers: Headers, delivery: Delivery, outbox_max: int, resume: int) -> None:
        self._history = history
        self._headers = headers
        self._delivery = delivery
        self._outbox_max = outbox_max
        self._outbox_resume = resume
        self._lagging: SortedDict[int, OrderedDict[Watcher, None]] = SortedDict()
        """Cohorts by next revision. OrderedDict, because a dict is slow to give away its first entries."""
        self._blocked: dict[WatchStream, None] = {}
        self._more_parked = False
        """The last slice could not take all watchers of the streams that had drained."""
        self._window: Window | None = None
        self._cursor = 0
        self.count = 0
        """Watchers behind."""

    @property
    def has_work(self) -> bool:
        """Whether anybody can be served now."""
        return bool(self._lagging) or self._more_parked

    @property
    def blocked_streams(self) -> int:
        """Streams with parked watchers."""
        return len(self._blocked)

    def forget_window(self) -> None:
        """History was replaced."""
        self._drop_window()

    def _drop_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()

    # --- moving watchers ---

    def lag(self, watcher: Watcher, next_revision: int) -> None:
        """Take a watcher that has all below `next_revision`."""
        watcher.state = State.LAGGING
        watcher.next_revision = next_revision
        cohort = self._lagging.get(next_revision)
        if cohort is None:
            cohort = self._lagging[next_revision] = OrderedDict()
        cohort[watcher] = None
        watcher.stream.behind += 1
        self.count += 1

    def _park(self, watcher: Watcher, next_revision: int) -> None:
        watcher.state = State.PARKED
        watcher.next_revision = next_revision
        watcher.stream.parked[watcher] = None
        self._blocked[watcher.stream] = None
        watcher.stream.behind += 1
        self.count += 1

    def take_out(self, watcher: Watcher) -> None:
        """Let go of a watcher that is behind; the caller gives it its next state."""
        if watcher.state is State.LAGGING:
            cohort = self._lagging[watcher.next_revision]
            del cohort[watcher]
            if not cohort:
                del self._lagging[watcher.next_revision]
        else:
            assert watcher.state is State.PARKED
            stream = watcher.stream
            del stream.parked[watcher]
            if not stream.parked:
                del self._blocked[stream]
        watcher.stream.behind -= 1
        self.count -= 1

    # --- one slice ---

    def serve(self, out_of_time: Callable[[], bool] | None) -> tuple[list[Watcher], list[Watcher]]:
        """Serve for one slice. Returns the watchers that have everything now and those that a compaction overtook.

        Both kinds are out of this collection; the caller must put them in their new state before anything else happens.
        """
        self._unpark()
        compacted = self._find_compacted()
        caught_up: list[Watcher] = []
        start = self._pick()
        if start:
            window = self._window_from(start)
            if window.read_slice():
                self._serve_window(window, start, caught_up, out_of_time)
        if not self._lagging:
            self._drop_window()
        return caught_up, compacted

    def _unpark(self) -> None:
        """Make watchers of streams that have drained ready again, as many as a slice serves, in turns by stream."""
        self._more_parked = False
        room = WATCH_SLICE_WATCHERS_MAX
        for stream in list(self._blocked):
            if stream.outbox.buffered_bytes > self._outbox_resume:
                continue
            if not room:
                self._more_parked = True
                return
            while stream.parked and room:
                watcher = next(iter(stream.parked))
                self.take_out(watcher)
                self.lag(watcher, watcher.next_revision)
                room -= 1
            if stream.parked:
                # To the end of the line.
                del self._blocked[stream]
                self._blocked[stream] = None
                self._more_parked = True

    def _find_compacted(self) -> list[Watcher]:
        """Cancel those that need a revision below the compaction's; like etcd's, the answer gives no reason text."""
        found: list[Watcher] = []
        compact_revision = self._history.compact_revision
        for _ in range(WATCH_SLICE_WATCHERS_MAX):
            if not self._lagging or self._lagging.peekitem(0)[0] >= compact_revision:
                break
            watcher = next(iter(self._lagging.peekitem(0)[1]))
            self.take_out(watcher)
            if watcher.outbox.buffered_bytes > self._outbox_max:
                self._park(watcher, watcher.next_revision)
                continue
            # etcd's header has no revision here.
            head = self._headers.encode(0) + watcher.id_field
            watcher.outbox.send(head + CANCELED + compact_revision_field(compact_revision))
            found.append(watcher)
        return found

    def _pick(self) -> int:
        """The next revision of the watchers whose turn it is; 0 when nobody can be served."""
        lagging = self._lagging
        compact_revision = self._history.compact_revision
        position = lagging.bisect_left(max(self._cursor, compact_revision))
        if position == len(lagging):
            position = lagging.bisect_left(compact_revision)
            if position == len(lagging):
                return 0
        start: int = lagging.keys()[position]
        return start

    def _window_from(self, start: int) -> Window:
        window = self._window
        if (
            window is None
            or not window.first <= start <= window.last
            or (window.last < self._history.current_revision and not window.full and window.complete)
        ):
            self._drop_window()
            self._window = window = Window(self._history, start)
        return window

    def _serve_window(
        self, window: Window, start: int, caught_up: list[Watcher], out_of_time: Callable[[], bool] | None
    ) -> None:
        reads = ReadAllowance(WATCH_SLICE_PREVIOUS_READS_MAX)
        current = self._history.current_revision
        header = self._headers.encode(current)
        copied_before = self._delivery.copied_bytes
        served = 0
        while True:
            position = self._lagging.bisect_left(start)
            if position == len(self._lagging) or self._lagging.keys()[position] > window.last:
                self._cursor = window.last + 1
                return
            start, cohort = self._lagging.peekitem(position)
            self._cursor = start
            while cohort:
                if served == WATCH_SLICE_WATCHERS_MAX:
                    return
                if self._delivery.copied_bytes - copied_before > WATCH_SLICE_SENT_BYTES_MAX:
                    return
                if out_of_time is not None and served % _TIME_CHECK_WATCHERS == 0 and served and out_of_time():
                    return
                watcher = next(iter(cohort))
                if not self._serve_watcher(watcher, window, header, reads):
                    return
                served += 1
                if watcher.state is State.CLOSED:
                    caught_up.append(watcher)

    def _serve_watcher(self, watcher: Watcher, window: Window, header: bytes, reads: ReadAllowance) -> bool:
        """Serve what the window has for one watcher; False when that must wait for the next slice."""
        parts = window.parts(watcher.group, watcher.options, watcher.next_revision, reads)
        if parts is None:
            return False
        self.take_out(watcher)
        undelivered = self._delivery.send_parts(watcher, header, parts)
        if undelivered:
            self._park(watcher, undelivered)
        elif window.last < self._history.current_revision:
            self.lag(watcher, window.last + 1)
        else:
            watcher.state = State.CLOSED
        return True
