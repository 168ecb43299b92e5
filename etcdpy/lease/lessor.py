"""Leases: granted, revoked and attached to keys on every member alike; renewed and expired on the leader alone.

What comes out of the log (grant, revoke, attach, detach, checkpoint) changes the same state on every member. Expiry
times exist only on the leader, called the primary here as in etcd, and only in memory: a new leader starts every lease
anew and adds its election time, so that no lease ends early. Checkpoints, where enabled, carry what remained.

Time is monotonic seconds and an argument. It never goes back here: an earlier `now` counts as the latest one seen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from etcdpy.backend import LEASE_BUCKET, Backend
from etcdpy.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge
from etcdpy.lease.lease import FOREVER, NO_SUCH_LEASE, Lease, TimeToLive, storage_key
from etcdpy.lease.schedule import Schedule
from etcdpy.lease.spread import spread_expiries
from etcdpy.limits import (
    LEASE_CHECKPOINT_BATCH_MAX,
    LEASE_CHECKPOINT_INTERVAL_SECONDS_DEFAULT,
    LEASE_REVOKES_PER_SECOND_MAX,
    LEASE_TTL_SECONDS_MAX,
    RESTORE_ASIDE_SLICE_RECORDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from random import Random

NO_LEASE: Final = 0
TTL_BUCKETS_SECONDS: Final = tuple(1 << power for power in range(24))
"""Upper bounds of etcd's histogram of TTLs; the last count is of those above."""


class NotPrimary(Exception):
    """This member is not the leader; the server forwards the call. No client sees it."""


class LeaseExpiring(Exception):
    """The lease has expired and its revocation is under way; see `Lessor.when_gone`. No client sees it."""


def pick_lease_id(random: Random) -> int:
    """A positive 63-bit id, for a grant that asks the server to choose; called before proposing, not while applying."""
    while True:
        lease_id = random.getrandbits(63)
        if lease_id != NO_LEASE:
            return lease_id


def minimum_ttl_seconds(election_ticks: int, tick_ms: int) -> int:
    """The shortest TTL granted: 1.5 election timeouts in whole ticks, rounded up to seconds, as on etcd."""
    return -(-(3 * election_ticks // 2 * tick_ms) // 1000)


class Lessor:
    """All leases of a member.

    `checkpointing` is the gate LeaseCheckpoint: the leader replicates what remains of long leases. `checkpoint_persist`
    is LeaseCheckpointPersist; etcd from cluster version 3.6 on stores checkpoints whatever the gate says, so the server
    sets it once the cluster version is that high. `retry_seconds` is how long a reported expiry may take to be revoked
    before it is reported again; etcd takes its request timeout.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        minimum_ttl: int,
        checkpointing: bool = False,
        checkpoint_persist: bool = False,
        checkpoint_interval_seconds: float = LEASE_CHECKPOINT_INTERVAL_SECONDS_DEFAULT,
        retry_seconds: float = 7.0,
        revokes_per_second: int = LEASE_REVOKES_PER_SECOND_MAX,
    ) -> None:
        self._backend = backend
        self._minimum_ttl = minimum_ttl
        self._checkpointing = checkpointing
        self.checkpoint_persist = checkpoint_persist
        self._checkpoint_interval = checkpoint_interval_seconds
        self._retry_seconds = retry_seconds
        self._revokes_per_second = revokes_per_second
        self._leases: dict[int, Lease] = {}
        self._lease_of: dict[bytes, int] = {}
        self._expiries = Schedule(self._is_live)
        self._checkpoints = Schedule(self._is_live)
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        self._now = -math.inf
        self._primary = False
        self.granted_total = 0
        self.revoked_total = 0
        self.renewed_total = 0
        self.expired_total = 0
        """Leases revoked after this member had found them expired."""
        self.ttl_counts = [0] * (len(TTL_BUCKETS_SECONDS) + 1)
        self.ttl_sum = 0

    def __len__(self) -> int:
        return len(self._leases)

    def _is_live(self, lease: Lease) -> bool:
        return self._leases.get(lease.id) is lease

    def _advance(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    # --- what the log does, the same on every member ---

    def grant(self, lease_id: int, ttl: int, now: float) -> int:
        """Make a lease and return the TTL granted, which is at least the minimum.

        Raises LeaseNotFound for id 0, LeaseTtlTooLarge, LeaseExists, in etcd's order.
        """
        if lease_id == NO_LEASE:
            raise LeaseNotFound
        if ttl > LEASE_TTL_SECONDS_MAX:
            raise LeaseTtlTooLarge
        if lease_id in self._leases:
            raise LeaseExists
        lease = Lease(lease_id, max(ttl, self._minimum_ttl))
        self._leases[lease_id] = lease
        self._backend.put(storage_key(lease_id), lease.encode())
        self.granted_total += 1
        self.ttl_sum += lease.ttl
        self.ttl_counts[bisect_left(TTL_BUCKETS_SECONDS, lease.ttl)] += 1
        if self._primary:
            self._start(lease, self._advance(now))
        return lease.ttl

    def revoke(self, lease_id: int) -> list[bytes]:
        """End a lease. Returns its keys, sorted, which the caller deletes in one revision of the same batch.

        Raises LeaseNotFound.
        """
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFound
        keys = sorted(lease.keys)
        for key in keys:
            del self._lease_of[key]
        self._backend.delete(storage_key(lease_id))
        self.revoked_total += 1
        if lease.reported:
            self.expired_total += 1
        if self._primary:
            self._expiries.note_stale()
            self._checkpoints.note_stale()
        self._tell_waiting(lease_id)
        return keys

    def apply_checkpoint(self, lease_id: int, remaining_ttl: int, now: float) -> None:
        """Note what the leader said remained of a lease; it counts at the next refresh. Unknown leases are ignored."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_ttl = remaining_ttl
        if self.checkpoint_persist:
            self._backend.put(storage_key(lease_id), lease.encode())
        if self._primary:
            self._schedule_checkpoint(lease, self._advance(now))

    # --- keys (mvcc's LeaseBook) ---

    def exists(self, lease_id: int) -> bool:
        """Whether a key can be attached to this lease."""
        return lease_id in self._leases

    def attach(self, lease_id: int, key: bytes) -> None:
        """Let `key` go when the lease does; a key has one lease, the last it was attached to. Raises LeaseNotFound."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound
        before = self._lease_of.get(key)
        if before is not None and before != lease_id:
            self._leases[before].keys.discard(key)
        lease.keys.add(key)
        self._lease_of[key] = lease_id

    def detach(self, lease_id: int, key: bytes) -> None:
        """Take `key` off this lease. No error where it is not attached: `revoke` lets go of keys before they go."""
        if self._lease_of.get(key) == lease_id:
            del self._lease_of[key]
            self._leases[lease_id].keys.discard(key)

    def lease_of(self, key: bytes) -> int:
        """The lease of a key, 0 for none."""
        return self._lease_of.get(key, NO_LEASE)

    def key_count(self, lease_id: int) -> int:
        """How many keys are attached to a lease; 0 when there is no such lease."""
        lease = self._leases.get(lease_id)
        return 0 if lease is None else len(lease.keys)

    def keys_of(self, lease_id: int) -> list[bytes]:
        """The keys attached to a lease in no order, empty when there is no such lease. For whoever needs no order, or
        sorts them in slices: 50,000 at once take 20 ms."""
        lease = self._leases.get(lease_id)
        return [] if lease is None else list(lease.keys)

    # --- what clients ask ---

    def renew(self, lease_id: int, now: float) -> int:
        """Count the lease anew and return its TTL. HOT: etcd's clients call it for every lease every third of its TTL.

        Raises LeaseNotFound, NotPrimary, and LeaseExpiring: an expired lease cannot be saved, and the answer must wait
        until its revocation is done. See also `must_reset_checkpoint`.
        """
        if not self._primary:
            raise NotPrimary
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound
        now = self._advance(now)
        if lease.expiry <= now:
            raise LeaseExpiring
        lease.refresh(now)
        self.renewed_total += 1
        return lease.ttl

    def must_reset_checkpoint(self, lease_id: int) -> bool:
        """Whether a checkpoint of 0 must be committed before `renew`, or the lease would be counted short."""
        lease = self._leases.get(lease_id)
        return self._checkpointing and lease is not None and lease.remaining_ttl > 0

    def when_gone(self, lease_id: int, tell: Callable[[], None]) -> None:
        """Call `tell` once when the lease is revoked or this member stops being primary; `renew` then says which."""
        if lease_id not in self._leases or not self._primary:
            tell()
            return
        self._waiting.setdefault(lease_id, []).append(tell)

    def _tell_waiting(self, lease_id: int) -> None:
        for tell in self._waiting.pop(lease_id, ()):
            tell()

    def time_to_live(self, lease_id: int, now: float) -> TimeToLive:
        """What is left of a lease in whole seconds, rounded toward zero. Raises NotPrimary: only the leader knows."""
        if not self._primary:
            raise NotPrimary
        lease = self._leases.get(lease_id)
        if lease is None:
            return NO_SUCH_LEASE
        remaining = int(lease.expiry - self._advance(now))
        return TimeToLive(remaining, lease.ttl)

    def leases(self) -> list[int]:
        """All ids: those that expire first come first, by id where that does not decide."""
        return [lease.id for lease in sorted(self._leases.values(), key=_by_expiry)]

    # --- the primary's clock ---

    @property
    def is_primary(self) -> bool:
        """Whether this member expires and renews leases."""
        return self._primary

    def promote(self, now: float, extend_seconds: float) -> None:
        """This member became leader: every lease counts from now, plus `extend_seconds` (the election timeout).

        Where more leases than can be revoked in a second would expire close together, the later ones get more time.
        """
        self._primary = True
        now = self._advance(now)
        leases = list(self._leases.values())
        for lease in leases:
            lease.refresh(now, extend_seconds)
            lease.checkpoint_scheduled = False
        if len(leases) >= self._revokes_per_second:
            spread_expiries(sorted(leases, key=_by_expiry), now, extend_seconds, self._revokes_per_second)
        self._expiries.clear()
        self._checkpoints.clear()
        for lease in leases:
            self._expiries.add(lease.expiry, lease)
            self._schedule_checkpoint(lease, now)

    def demote(self) -> None:
        """This member is not leader any more: nothing expires here."""
        self._primary = False
        self._expiries.clear()
        self._checkpoints.clear()
        for lease in self._leases.values():
            lease.expiry = FOREVER
            lease.reported = False
        for lease_id in list(self._waiting):
            self._tell_waiting(lease_id)

    def has_expired(self, lease_id: int, now: float) -> bool:
        """Whether a lease that was found expired still is: a new leadership begins with all of them alive."""
        lease = self._leases.get(lease_id)
        return self._primary and lease is not None and lease.expiry <= self._advance(now)

    def expired(self, now: float, limit: int) -> list[int]:
        """Up to `limit` ids to revoke, the longest expired first. One that is not revoked in time is reported again."""
        if not self._primary:
            return []
        now = self._advance(now)
        found: list[int] = []
        while len(found) < limit:
            lease = self._expiries.pop_due(now)
            if lease is None:
                break
            if lease.expiry > now:
                self._expiries.add(lease.expiry, lease)
                continue
            lease.reported = True
            found.append(lease.id)
            self._expiries.add(now + self._retry_seconds, lease)
        return found

    def checkpoints_due(self, now: float, limit: int = LEASE_CHECKPOINT_BATCH_MAX) -> list[tuple[int, int]]:
        """Up to `limit` pairs (id, remaining TTL) for one log entry. A full list: call again, within the tick's bound.

        A lease is next due one interval after its checkpoint is applied. It has one entry in the schedule at most;
        etcd adds one for each checkpoint and each reset of one.
        """
        if not self._primary or not self._checkpointing:
            return []
        now = self._advance(now)
        found: list[tuple[int, int]] = []
        while len(found) < limit:
            lease = self._checkpoints.pop_due(now)
            if lease is None:
                break
            lease.checkpoint_scheduled = False
            remaining_ttl = math.ceil(lease.expiry - now)
            if remaining_ttl >= lease.ttl:
                # Renewed a moment ago. etcd forgets such a lease until the next leader; here its turn comes again.
                self._schedule_checkpoint(lease, now)
            elif remaining_ttl > 0:
                found.append((lease.id, remaining_ttl))
        return found

    def _start(self, lease: Lease, now: float) -> None:
        lease.refresh(now)
        self._expiries.add(lease.expiry, lease)
        self._schedule_checkpoint(lease, now)

    def _schedule_checkpoint(self, lease: Lease, now: float) -> None:
        if not self._checkpointing or lease.checkpoint_scheduled:
            return
        if lease.effective_ttl > self._checkpoint_interval:
            lease.checkpoint_scheduled = True
            self._checkpoints.add(now + self._checkpoint_interval, lease)

    # --- start ---

    def restore(self) -> None:
        """Read all leases, at start. Not primary afterwards.

        The store attaches the keys as it restores itself, so this comes first.
        """
        for _ in self.restore_steps():
            pass

    def restore_steps(self) -> Generator[None, None, None]:
        """The same in slices, for a lessor that is built while another one serves."""
        self.demote()
        self._leases.clear()
        self._lease_of.clear()
        end = bytes((LEASE_BUCKET[0] + 1,))
        for count, (_, value) in enumerate(self._backend.scan(LEASE_BUCKET, end), start=1):
            lease = Lease.decode(value)
            lease.ttl = max(lease.ttl, self._minimum_ttl)
            self._leases[lease.id] = lease
            if count % RESTORE_ASIDE_SLICE_RECORDS == 0:
                yield

    def take_over(self, other: Lessor) -> None:
        """Become what `other` is, whose state has taken this one's place in the backend. Not primary afterwards."""
        if self._primary:
            self.demote()
        self._leases, self._lease_of = other._leases, other._lease_of


def _by_expiry(lease: Lease) -> tuple[float, int]:
    return lease.expiry, lease.id
