"""Leases on one member, time given by hand. tests/interop/test_lease.py asks real etcd the same where it can."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from etcdpy import limits
from etcdpy.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge
from etcdpy.lease.lease import NO_SUCH_LEASE, TimeToLive
from etcdpy.lease.lessor import (
    TTL_BUCKETS_SECONDS,
    LeaseExpiring,
    Lessor,
    NotPrimary,
    minimum_ttl_seconds,
    pick_lease_id,
)
from etcdpy.proto import lease_pb2
from tests.support.memory_backend import MemoryBackend


def primary(**options: Any) -> Lessor:
    lessor = Lessor(MemoryBackend(), minimum_ttl=2, **options)
    lessor.promote(0.0, 0.0)
    return lessor


@pytest.mark.parametrize(
    ("election_ticks", "tick_ms", "seconds"), [(10, 100, 2), (5, 100, 1), (50, 1000, 75), (3, 333, 2), (10, 67, 2)]
)
def test_minimum_ttl(election_ticks: int, tick_ms: int, seconds: int) -> None:
    assert minimum_ttl_seconds(election_ticks, tick_ms) == seconds


def test_picked_ids_are_positive_and_63_bits() -> None:
    random = Random(1)
    ids = [pick_lease_id(random) for _ in range(200)]
    assert all(0 < lease_id < 1 << 63 for lease_id in ids)
    assert max(ids) > 1 << 62
    assert len(set(ids)) == 200

    class Stuck(Random):
        draws = iter([0, 0, 5])

        def getrandbits(self, k: int, /) -> int:
            return next(self.draws)

    assert pick_lease_id(Stuck()) == 5


@pytest.mark.parametrize(
    ("asked", "granted"), [(-1, 2), (0, 2), (1, 2), (2, 2), (3, 3), (9_000_000_000, 9_000_000_000)]
)
def test_granted_ttl(asked: int, granted: int) -> None:
    assert primary().grant(1, asked, 0.0) == granted


def test_grant_errors_in_etcds_order() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    with pytest.raises(LeaseNotFound):
        lessor.grant(0, 9_000_000_001, 0.0)
    with pytest.raises(LeaseTtlTooLarge):
        lessor.grant(1, 9_000_000_001, 0.0)
    with pytest.raises(LeaseExists):
        lessor.grant(1, 10, 0.0)
    assert (len(lessor), lessor.granted_total) == (1, 1)


def test_revoke_gives_keys_in_order_and_forgets_everything() -> None:
    backend = MemoryBackend()
    lessor = Lessor(backend, minimum_ttl=2)
    lessor.grant(7, 10, 0.0)
    assert lease_pb2.Lease.FromString(backend.items()[b"l" + bytes(7) + b"\x07"]) == lease_pb2.Lease(ID=7, TTL=10)
    for key in (b"c", b"a", b"b"):
        lessor.attach(7, key)
    assert lessor.revoke(7) == [b"a", b"b", b"c"]
    assert lessor.lease_of(b"a") == 0
    assert backend.items() == {}
    assert not lessor.exists(7)
    lessor.detach(7, b"a")
    with pytest.raises(LeaseNotFound):
        lessor.revoke(7)
    assert (lessor.revoked_total, lessor.expired_total) == (1, 0)


def test_attach_and_detach() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 10, 0.0)
    with pytest.raises(LeaseNotFound):
        lessor.attach(3, b"k")
    lessor.attach(1, b"k")
    lessor.attach(1, b"k")
    lessor.attach(2, b"k")
    lessor.detach(1, b"k")
    assert lessor.lease_of(b"k") == 2
    assert lessor.keys_of(1) == []
    assert lessor.keys_of(2) == [b"k"]
    lessor.detach(2, b"k")
    assert lessor.lease_of(b"k") == 0
    assert lessor.keys_of(2) == lessor.keys_of(99) == []


def test_expiry_and_renewal() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 5, 0.0)
    assert lessor.leases() == [2, 1]
    # 4.99 + 5 is 9.99: a lease ends at its expiry, not after it.
    assert lessor.expired(4.99, 10) == []
    assert lessor.renew(2, 4.99) == 5
    assert lessor.expired(5.0, 10) == []
    with pytest.raises(LeaseExpiring):
        lessor.renew(2, 9.99)
    assert lessor.expired(9.99, 10) == [2]
    assert lessor.expired(10.0, 10) == [1]
    assert lessor.renewed_total == 1


def test_an_expired_lease_cannot_be_renewed_and_is_reported_until_revoked() -> None:
    lessor = primary(retry_seconds=7.0)
    lessor.grant(1, 5, 0.0)
    assert lessor.expired(6.0, 10) == [1]
    told: list[str] = []
    with pytest.raises(LeaseExpiring):
        lessor.renew(1, 6.5)
    lessor.when_gone(1, lambda: told.append("gone"))
    assert lessor.expired(12.9, 10) == []
    assert lessor.expired(13.0, 10) == [1]
    assert told == []
    lessor.revoke(1)
    assert told == ["gone"]
    assert lessor.expired_total == 1
    with pytest.raises(LeaseNotFound):
        lessor.renew(1, 14.0)
    assert lessor.expired(100.0, 10) == []


def test_waiting_for_a_lease_that_is_gone_already() -> None:
    told: list[int] = []
    primary().when_gone(1, lambda: told.append(1))
    assert told == [1]


def test_expiry_is_limited_and_in_order() -> None:
    lessor = primary()
    for lease_id in range(1, 8):
        lessor.grant(lease_id, 20 - lease_id, 0.0)
    assert lessor.expired(30.0, 3) == [7, 6, 5]
    assert lessor.expired(30.0, 3) == [4, 3, 2]
    assert lessor.expired(30.0, 3) == [1]
    assert lessor.expired(30.0, 3) == []


def test_a_lease_granted_anew_under_an_old_id_expires_once() -> None:
    lessor = primary()
    lessor.grant(1, 5, 0.0)
    lessor.revoke(1)
    lessor.grant(1, 10, 0.0)
    assert lessor.expired(6.0, 10) == []
    assert lessor.expired(10.0, 10) == [1]
    assert lessor.expired(10.0, 10) == []


def test_a_clock_that_goes_back_neither_expires_nor_hangs() -> None:
    lessor = primary()
    lessor.grant(1, 10, 100.0)
    assert lessor.renew(1, 50.0) == 10
    assert lessor.time_to_live(1, -1000.0).ttl == 10
    assert lessor.expired(-1000.0, 10) == []
    assert lessor.expired(109.9, 10) == []
    assert lessor.expired(110.0, 10) == [1]


def test_time_to_live() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    lessor.attach(1, b"b")
    lessor.attach(1, b"a")
    assert lessor.time_to_live(1, 0.0) == TimeToLive(10, 10)
    assert lessor.time_to_live(1, 3.5) == TimeToLive(6, 10)
    assert lessor.time_to_live(1, 10.9).ttl == 0
    assert lessor.time_to_live(1, 12.0).ttl == -2
    assert lessor.time_to_live(9, 0.0) is NO_SUCH_LEASE
    assert (NO_SUCH_LEASE.ttl, NO_SUCH_LEASE.granted_ttl) == (-1, 0)


def test_a_follower_keeps_leases_and_no_time() -> None:
    lessor = Lessor(MemoryBackend(), minimum_ttl=2)
    lessor.grant(2, 5, 0.0)
    lessor.grant(1, 50, 0.0)
    assert lessor.expired(math.inf, 10) == []
    assert lessor.leases() == [1, 2]
    with pytest.raises(NotPrimary):
        lessor.renew(1, 1.0)
    with pytest.raises(NotPrimary):
        lessor.time_to_live(1, 1.0)


def test_a_new_leader_extends_and_an_old_one_forgets() -> None:
    lessor = Lessor(MemoryBackend(), minimum_ttl=2)
    lessor.grant(1, 5, 0.0)
    lessor.promote(100.0, 1.0)
    assert lessor.is_primary
    assert lessor.expired(105.9, 10) == []
    told: list[int] = []
    lessor.when_gone(1, lambda: told.append(1))
    lessor.demote()
    assert told == [1]
    lessor.grant(-3, 50, 0.0)
    lessor.grant(2, 5, 0.0)
    assert lessor.leases() == [-3, 1, 2], "no expiry on a follower, so ids decide"
    assert lessor.expired(1000.0, 10) == []
    lessor.revoke(2)
    lessor.revoke(-3)
    lessor.promote(2000.0, 1.0)
    assert lessor.expired(2006.0, 10) == [1]


def test_a_pile_of_leases_is_spread_at_promotion() -> None:
    """4,000 leases of one TTL, at 1,000 revocations a second: never more than three quarters of that in a second."""
    lessor = Lessor(MemoryBackend(), minimum_ttl=2)
    for lease_id in range(1, 4001):
        lessor.grant(lease_id, 30, 0.0)
    lessor.promote(0.0, 1.0)
    assert lessor.expired(30.99, 10_000) == []
    found: list[int] = []
    for second in range(31, 40):
        ids = lessor.expired(float(second), 10_000)
        assert len(ids) <= 751
        found += ids
        for lease_id in ids:
            lessor.revoke(lease_id)
    assert sorted(found) == list(range(1, 4001))


def test_few_leases_are_not_spread() -> None:
    lessor = Lessor(MemoryBackend(), minimum_ttl=2)
    for lease_id in range(1, 1000):
        lessor.grant(lease_id, 30, 0.0)
    lessor.promote(0.0, 1.0)
    assert len(lessor.expired(31.0, 10_000)) == 999


def test_checkpoints() -> None:
    lessor = primary(checkpointing=True)
    lessor.grant(1, 1000, 0.0)
    lessor.grant(2, 300, 0.0)
    assert lessor.checkpoints_due(299.0) == []
    assert lessor.checkpoints_due(300.5) == [(1, 700)]
    assert lessor.checkpoints_due(300.5) == []
    lessor.apply_checkpoint(1, 700, 301.0)
    assert lessor.checkpoints_due(600.0) == []
    assert lessor.checkpoints_due(601.0) == [(1, 399)]
    lessor.apply_checkpoint(1, 399, 601.0)
    assert lessor.must_reset_checkpoint(1)
    assert not lessor.must_reset_checkpoint(2)
    lessor.demote()
    lessor.promote(1000.0, 1.0)
    assert lessor.time_to_live(1, 1000.0) == TimeToLive(400, 1000)
    lessor.apply_checkpoint(1, 0, 1001.0)
    assert lessor.renew(1, 1001.0) == 1000
    assert lessor.time_to_live(1, 1001.0).ttl == 1000
    assert lessor.checkpoints_due(1301.0) == [(1, 700)]
    lessor.apply_checkpoint(77, 5, 1001.0)


def test_a_lease_has_one_checkpoint_entry_however_often_it_is_reset() -> None:
    lessor = primary(checkpointing=True)
    lessor.grant(1, 1000, 0.0)
    now = 0.0
    for _ in range(5):
        now += 301.0
        assert len(lessor.checkpoints_due(now)) == 1
        lessor.apply_checkpoint(1, 500, now)
        lessor.apply_checkpoint(1, 0, now)
        lessor.renew(1, now)


def test_a_lease_renewed_just_before_its_checkpoint_gets_another_turn() -> None:
    lessor = primary(checkpointing=True)
    lessor.grant(1, 1000, 0.0)
    lessor.renew(1, 300.0)
    assert lessor.checkpoints_due(300.0) == []
    assert lessor.checkpoints_due(600.0) == [(1, 700)]


def test_checkpoints_come_in_batches() -> None:
    lessor = primary(checkpointing=True)
    for lease_id in range(1, 2502):
        lessor.grant(lease_id, 1000, 0.0)
    sizes = [len(lessor.checkpoints_due(400.0)) for _ in range(4)]
    assert sizes == [limits.LEASE_CHECKPOINT_BATCH_MAX, limits.LEASE_CHECKPOINT_BATCH_MAX, 501, 0]


def test_checkpoints_are_off_by_default() -> None:
    lessor = primary()
    lessor.grant(1, 1000, 0.0)
    assert lessor.checkpoints_due(900.0) == []


@pytest.mark.parametrize(("persist", "left"), [(True, 250), (False, 1000)])
def test_checkpoints_over_a_restart(persist: bool, left: int) -> None:
    backend = MemoryBackend()
    lessor = Lessor(backend, minimum_ttl=2, checkpoint_persist=persist)
    lessor.grant(1, 1000, 0.0)
    lessor.apply_checkpoint(1, 250, 0.0)
    again = Lessor(backend, minimum_ttl=2, checkpointing=True)
    again.restore()
    again.promote(0.0, 0.0)
    assert again.time_to_live(1, 0.0).ttl == left


def test_restore() -> None:
    backend = MemoryBackend()
    lessor = Lessor(backend, minimum_ttl=2)
    ids = [1, -1, (1 << 63) - 1, -(1 << 63)]
    for lease_id in ids:
        lessor.grant(lease_id, 3, 0.0)
    lessor.attach(1, b"k")
    again = Lessor(backend, minimum_ttl=5)
    again.restore()
    assert sorted(again.leases()) == sorted(ids)
    assert again.lease_of(b"k") == 0, "the store attaches keys as it restores itself"
    again.promote(0.0, 0.0)
    assert again.time_to_live(1, 0.0) == TimeToLive(5, 5)
    gone: list[str] = []
    again.when_gone(1, lambda: gone.append("told"))
    other = Lessor(MemoryBackend(), minimum_ttl=5)
    other.grant(9, 20, 0.0)
    other.attach(9, b"k")
    again.take_over(other)
    assert (again.leases(), again.keys_of(9), again.lease_of(b"k")) == ([9], [b"k"], 9)
    assert not again.is_primary
    assert gone == ["told"]


def test_restore_reads_its_own_bucket_only() -> None:
    backend = MemoryBackend()
    backend.put(b"k" + bytes(8), b"not a lease")
    backend.put(b"m" + bytes(8), b"not a lease")
    lessor = Lessor(backend, minimum_ttl=5)
    lessor.restore()
    assert len(lessor) == 0


def test_short_lived_leases_of_long_ttl_do_not_fill_the_schedule() -> None:
    lessor = primary(checkpointing=True)
    for lease_id in range(1, 20_001):
        lessor.grant(lease_id, 86_400, 0.0)
        lessor.revoke(lease_id)
    assert len(lessor._expiries) < 3000
    assert len(lessor._checkpoints) < 3000


def test_ttl_histogram() -> None:
    lessor = primary()
    for lease_id, ttl in enumerate((0, 2, 3, 4, 5, 8_388_608, 8_388_609), start=1):
        lessor.grant(lease_id, ttl, 0.0)
    counts = dict(zip((*TTL_BUCKETS_SECONDS, math.inf), lessor.ttl_counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {2: 2, 4: 2, 8: 1, 8_388_608: 1, math.inf: 1}
    assert lessor.ttl_sum == 2 + 2 + 3 + 4 + 5 + 8_388_608 + 8_388_609
