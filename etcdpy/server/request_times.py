"""How long requests took, from their arrival here to their answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.histogram import COMMIT_SECONDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.apply.applier import Applier
    from etcdpy.apply.proposal import Proposal
    from etcdpy.raft.entry import Entry
    from etcdpy.server.slow_requests import SlowRequests


class RequestTimes:
    """Told of what is applied by the deadline of the oldest batch under way, to which it belongs: a clock for every
    request would cost as much as its place in the index."""

    def __init__(
        self, applier: Applier, slow: SlowRequests, clock: Callable[[], float], *, timeout_seconds: float
    ) -> None:
        """`timeout_seconds` is what a batch gets: its deadline, less that, is when it came."""
        self._applier = applier
        self._slow = slow
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self.durations: dict[tuple[str, bool], Histogram] = {}
        """Seconds from a request's arrival to its answer, by kind and success."""

    def late(self, deadline: float | None, entries: Sequence[Entry]) -> list[Proposal]:
        """Who waits for these entries, if that is for long already; asked before they are applied and forgotten."""
        if deadline is None or self._age(deadline) <= self._slow.request_seconds:
            return []
        return self._slow.waiting(entries, self._applier.registry)

    def note(self, deadline: float | None, elapsed: float, entries: Sequence[Entry], late: Sequence[Proposal]) -> None:
        """Entries were applied in so many seconds, and whoever proposed them here was answered."""
        if deadline is not None:
            seconds = self._age(deadline)
            self._observe(seconds)
            if late:
                self._slow.answered(seconds, late)
        if elapsed > self._slow.apply_seconds:
            self._slow.applied(elapsed, entries)

    def _age(self, deadline: float) -> float:
        return self._clock() - deadline + self._timeout_seconds

    def _observe(self, seconds: float) -> None:
        applier = self._applier
        for key, count in applier.counts.items():
            own = count - applier.foreign_counts.get(key, 0)
            if not own:
                continue
            histogram = self.durations.get(key)
            if histogram is None:
                histogram = self.durations[key] = Histogram(COMMIT_SECONDS)
            histogram.observe_many(seconds, own)
