"""One lease: its time to live, when it expires on the leader, and the keys that go with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from etcdpy.backend import LEASE_BUCKET
from etcdpy.proto import lease_pb2

FOREVER: Final = math.inf
"""The expiry of every lease on a member that is not the leader: only the leader's clock counts."""

_UINT64_MASK: Final = (1 << 64) - 1


class Lease:
    """A lease as every member keeps it. `ttl` and `remaining_ttl` are seconds, `expiry` is monotonic seconds."""

    __slots__ = ("checkpoint_scheduled", "expiry", "id", "keys", "remaining_ttl", "reported", "ttl")

    def __init__(self, lease_id: int, ttl: int, remaining_ttl: int = 0) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.remaining_ttl = remaining_ttl
        """From the last checkpoint; 0 when there was none since the last renewal."""
        self.expiry = FOREVER
        self.keys: set[bytes] = set()
        """Never iterated unsorted: revoking deletes in the same order on every member."""
        self.reported = False
        """Found expired at least once."""
        self.checkpoint_scheduled = False

    def refresh(self, now: float, extend_seconds: float = 0.0) -> None:
        """Count from `now` again: the remaining TTL where a checkpoint set one, else the full TTL."""
        self.expiry = now + extend_seconds + self.effective_ttl
        self.reported = False

    @property
    def effective_ttl(self) -> int:
        """Seconds that a refresh gives."""
        return self.remaining_ttl if self.remaining_ttl > 0 else self.ttl

    def encode(self) -> bytes:
        """The stored form, leasepb.Lease."""
        return lease_pb2.Lease(ID=self.id, TTL=self.ttl, RemainingTTL=self.remaining_ttl).SerializeToString()

    @staticmethod
    def decode(value: bytes) -> Lease:
        """A lease from its stored form, without keys."""
        stored = lease_pb2.Lease.FromString(value)
        return Lease(stored.ID, stored.TTL, stored.RemainingTTL)


def storage_key(lease_id: int) -> bytes:
    """Where a lease is stored. Ids are int64; negative ones, which clients may pick, sort after the others."""
    return LEASE_BUCKET + (lease_id & _UINT64_MASK).to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """The answer to LeaseTimeToLive: ttl -1 and granted_ttl 0 say that there is no such lease."""

    ttl: int
    granted_ttl: int


NO_SUCH_LEASE: Final = TimeToLive(-1, 0)
