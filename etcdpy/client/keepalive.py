"""When which lease is kept alive, and when it must be taken for lost.

A lease is renewed each third of its time, counted from when the request for the last renewal was sent: what the server
grants lasts no shorter than that. While renewals fail they are tried each half second, as etcd's own client does. A
lease whose time is over without a renewal counts as lost, whatever the server may think: its owner must not act on it.
"""

from __future__ import annotations

from typing import Final

RETRY_SECONDS: Final = 0.5


class _Kept:
    __slots__ = ("ends_at", "next_at")

    def __init__(self, next_at: float, ends_at: float) -> None:
        self.next_at = next_at
        self.ends_at = ends_at


class KeepAlives:
    """The leases of one client. Times are seconds of a clock that never goes back.

    A worker goes through them while other threads add and remove some, so it looks at copies.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, lease_id: int, ttl: float, asked_at: float) -> None:
        """Keep a lease whose `ttl` seconds began no earlier than `asked_at`, when the server was asked for it."""
        self._kept[lease_id] = _Kept(asked_at + ttl / 3, asked_at + ttl)

    def remove(self, lease_id: int) -> None:
        """Keep it no longer."""
        self._kept.pop(lease_id, None)

    def ends_at(self, lease_id: int) -> float:
        """Until when the lease lives for sure; a time long past where it is not kept."""
        kept = self._kept.get(lease_id)
        return kept.ends_at if kept else 0.0

    def due(self, now: float) -> list[int]:
        """The leases to renew now; they are due again a little later unless `renewed` is heard first."""
        found = [(lease_id, kept) for lease_id, kept in list(self._kept.items()) if kept.next_at <= now]
        for _, kept in found:
            kept.next_at = now + RETRY_SECONDS
        return [lease_id for lease_id, _ in found]

    def renewed(self, lease_id: int, ttl: float, asked_at: float) -> bool:
        """The server's answer to a request of that time. False where the lease is gone, and is now forgotten."""
        if lease_id not in self._kept:
            return True
        if ttl <= 0:
            self.remove(lease_id)
            return False
        self.add(lease_id, ttl, asked_at)
        return True

    def overdue(self, now: float) -> list[int]:
        """The leases whose time is over; they are forgotten."""
        found = [lease_id for lease_id, kept in list(self._kept.items()) if kept.ends_at <= now]
        for lease_id in found:
            self.remove(lease_id)
        return found

    def next_at(self) -> float:
        """When there is something to do; infinity where there is no lease."""
        return min((min(kept.next_at, kept.ends_at) for kept in list(self._kept.values())), default=float("inf"))
