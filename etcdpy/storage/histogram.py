"""Durations counted in plain integers, to be read by whoever renders metrics."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

DISK_BUCKETS_SECONDS: Final = tuple(0.001 * 2**power for power in range(14))
"""Upper bounds of etcd's disk histograms: 1 ms to 8.192 s, doubling."""


class Histogram:
    """Counts by bucket; the last count is of what exceeds every bound. Written by one thread at a time."""

    __slots__ = ("bounds", "counts", "total_seconds")

    def __init__(self, bounds: tuple[float, ...] = DISK_BUCKETS_SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_seconds = 0.0

    @property
    def count(self) -> int:
        """How many durations were observed."""
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds
