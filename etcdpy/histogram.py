"""A histogram that costs one bisect a value: the hot road counts here, and /metrics reads it at scrape time."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Upper bounds `start, start*factor, ...`, multiplied up one by one as Prometheus' Go library does, so that the
    printed bounds agree to the last digit.
    """
    bounds = []
    for _ in range(count):
        bounds.append(start)
        start *= factor
    return tuple(bounds)


# etcd's layouts
COMMIT_SECONDS: Final = exponential(0.001, 2, 14)
"""1 ms to 8.192 s: fsync, commit, request, save."""
APPLY_SECONDS: Final = exponential(0.0001, 2, 20)
"""100 us to 52 s: apply and range."""
HASH_SECONDS: Final = exponential(0.01, 2, 15)
SNAPSHOT_SECONDS: Final = exponential(0.01, 2, 17)
DEFRAG_SECONDS: Final = exponential(0.1, 2, 13)
TRANSFER_SECONDS: Final = exponential(0.1, 2, 10)
COMPACTION_PAUSE_MS: Final = exponential(1, 2, 13)
COMPACTION_TOTAL_MS: Final = exponential(100, 2, 14)
INDEX_COMPACTION_PAUSE_MS: Final = exponential(0.5, 2, 14)
LEASE_TTL_SECONDS: Final = exponential(1, 2, 24)
ROUND_TRIP_SECONDS: Final = exponential(0.0001, 2, 16)
HANDLING_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Prometheus' default layout, which the gRPC interceptor uses."""

# ours
LOOP_LAG_SECONDS: Final = tuple(sorted((*exponential(0.0005, 2, 12), 0.01)))
"""0.5 ms to 1 s: how late the loop is. The 10 ms that nothing may exceed are a bound of their own."""


class Histogram:
    """Counts of values a bucket, and their sum. `counts` has one more entry than `bounds`: what lies above them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value. 0.25 us measured; a value on a bound belongs to that bound's bucket, as in Prometheus."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_many(self, value: float, times: int) -> None:
        """Count the same value `times` times, for a batch whose members are not timed one by one."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)
