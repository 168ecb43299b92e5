"""Spread the expiries of leases that a new leader would otherwise have to revoke in one heap.

A leader change starts all leases anew, so those of equal TTL would all end in the same second, and their revocations
would crowd out everything else. As in etcd, at most three quarters of the revoke rate expire in a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.lease.lease import Lease


def spread_expiries(leases: Sequence[Lease], now: float, extend_seconds: float, revokes_per_second: int) -> None:
    """Delay some of `leases`, which are sorted by expiry and not empty. Times are seconds; nothing expires sooner."""
    per_second = max(1, 3 * revokes_per_second // 4)
    window_start = leases[0].expiry - now
    window_end = window_start + 1.0
    count = 0
    for lease in leases:
        remaining = lease.expiry - now
        if remaining > window_end:
            window_start = remaining
            window_end = window_start + 1.0
            count = 1
            continue
        count += 1
        if count <= per_second:
            continue
        # How many seconds the leases counted so far fill, less how far into the window this one lies already.
        delay = count / per_second - (remaining - window_start)
        window_end = window_start + delay
        lease.refresh(now, delay + extend_seconds)
