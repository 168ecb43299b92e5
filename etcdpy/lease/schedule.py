"""When which lease is due: a heap that is corrected when an entry comes up, not when a lease changes.

A renewal only moves an expiry later, so it needs not touch the heap: the entry comes up too early, is found to be early
and goes back in. Forty thousand renewals a second thus cost one store each.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.lease.lease import Lease

_STALE_MIN = 1024


class Schedule:
    """Leases by the time they are due. Entries of leases that are gone go when they come up, or when half are such."""

    __slots__ = ("_heap", "_is_live", "_sequence", "_stale")

    def __init__(self, is_live: Callable[[Lease], bool]) -> None:
        self._heap: list[tuple[float, int, Lease]] = []
        self._is_live = is_live
        self._sequence = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, lease: Lease) -> None:
        """One more entry for `lease`; what is due at the same time comes in the order of adding."""
        self._sequence += 1
        heappush(self._heap, (due, self._sequence, lease))

    def pop_due(self, now: float) -> Lease | None:
        """The next live lease whose entry is due, its entry taken out; None when there is none."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            lease = heappop(heap)[2]
            if self._is_live(lease):
                return lease
            self._stale = max(0, self._stale - 1)
        return None

    def note_stale(self) -> None:
        """A lease that may have an entry is gone. Keeps short-lived leases of long TTL from filling the heap."""
        self._stale += 1
        if self._stale > _STALE_MIN and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if self._is_live(entry[2])]
            heapify(self._heap)
            self._stale = 0

    def clear(self) -> None:
        """Forget all entries."""
        self._heap.clear()
        self._stale = 0
