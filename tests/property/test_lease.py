"""Leases against a model that keeps plain dicts and looks at every lease each time; a second member follows the log."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.errors import LeaseExists, LeaseNotFound
from etcdpy.lease.lessor import LeaseExpiring, Lessor, NotPrimary
from tests.support.memory_backend import MemoryBackend

MINIMUM_TTL = 2
RETRY_SECONDS = 4.0
EXTEND_SECONDS = 1.0

_ids = st.integers(1, 5)
_keys = st.sampled_from([b"a", b"b", b"c", b"d"])
_step = st.one_of(
    st.tuples(st.just("grant"), _ids, st.integers(-1, 12)),
    st.tuples(st.just("revoke"), _ids),
    st.tuples(st.just("put"), _keys, st.integers(0, 5)),
    st.tuples(st.just("renew"), _ids),
    st.tuples(st.just("pass_time"), st.floats(-3, 9)),
    st.tuples(st.just("expire"), st.integers(1, 3)),
    st.tuples(st.just("checkpoint"), st.just(0)),
    st.tuples(st.just("change_leader"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


class Model:
    """Two members that apply the same log, one of them leader; and what they must hold."""

    def __init__(self) -> None:
        self.backends = [MemoryBackend(), MemoryBackend()]
        self.lessors = [self.make(backend) for backend in self.backends]
        self.leader = 0
        self.clock = 0.0
        self.latest = 0.0
        self.ttl: dict[int, int] = {}
        self.remaining: dict[int, int] = {}
        self.expiry: dict[int, float] = {}
        self.lease_of: dict[bytes, int] = {}
        self.lessors[0].promote(0.0, EXTEND_SECONDS)

    def make(self, backend: MemoryBackend) -> Lessor:
        return Lessor(
            backend,
            minimum_ttl=MINIMUM_TTL,
            checkpointing=True,
            checkpoint_persist=True,
            checkpoint_interval_seconds=3.0,
            retry_seconds=RETRY_SECONDS,
        )

    @property
    def primary(self) -> Lessor:
        return self.lessors[self.leader]

    def keys_of(self, lease_id: int) -> list[bytes]:
        return sorted(key for key, owner in self.lease_of.items() if owner == lease_id)

    def do_grant(self, lease_id: int, ttl: int) -> None:
        for lessor in self.lessors:
            try:
                granted = lessor.grant(lease_id, ttl, self.clock)
            except LeaseExists:
                assert lease_id in self.ttl
            else:
                assert granted == max(ttl, MINIMUM_TTL)
        if lease_id not in self.ttl:
            self.ttl[lease_id] = max(ttl, MINIMUM_TTL)
            self.remaining[lease_id] = 0
            self.expiry[lease_id] = self.latest + self.ttl[lease_id]

    def do_revoke(self, lease_id: int) -> None:
        for lessor in self.lessors:
            try:
                keys = lessor.revoke(lease_id)
            except LeaseNotFound:
                assert lease_id not in self.ttl
            else:
                assert keys == self.keys_of(lease_id)
                for key in keys:
                    lessor.detach(lease_id, key)  # as a store does that knows the lease from the record
        self.ttl.pop(lease_id, None)
        self.expiry.pop(lease_id, None)
        self.lease_of = {key: owner for key, owner in self.lease_of.items() if owner != lease_id}

    def do_put(self, key: bytes, lease_id: int) -> None:
        if lease_id and lease_id not in self.ttl:
            assert not self.primary.exists(lease_id)
            return
        for lessor in self.lessors:
            before = lessor.lease_of(key)
            if before:
                lessor.detach(before, key)
            if lease_id:
                lessor.attach(lease_id, key)
        self.lease_of.pop(key, None)
        if lease_id:
            self.lease_of[key] = lease_id

    def do_renew(self, lease_id: int) -> None:
        if lease_id in self.ttl:
            assert self.primary.must_reset_checkpoint(lease_id) == bool(self.remaining[lease_id])
            if self.remaining[lease_id]:
                self.apply_checkpoint(lease_id, 0)
        try:
            ttl = self.primary.renew(lease_id, self.clock)
        except LeaseNotFound:
            assert lease_id not in self.ttl
        except LeaseExpiring:
            assert self.expiry[lease_id] <= self.latest
        else:
            assert ttl == self.ttl[lease_id]
            self.expiry[lease_id] = self.latest + ttl
        try:
            self.lessors[1 - self.leader].renew(lease_id, self.clock)
        except NotPrimary:
            pass
        else:
            raise AssertionError("a follower renewed")

    def do_pass_time(self, seconds: float) -> None:
        """The clock may go back; what was seen of it does not."""
        self.clock += seconds
        self.latest = max(self.latest, self.clock)
        self.primary.expired(self.clock, 0)

    def do_expire(self, limit: int) -> None:
        found = self.primary.expired(self.clock, limit)
        due = {lease_id for lease_id, expiry in self.expiry.items() if expiry <= self.latest}
        assert len(found) <= limit
        assert len(set(found)) == len(found)
        assert set(found) <= due
        for lease_id in found[::2]:  # every other revocation gets lost, and must be asked for again
            self.do_revoke(lease_id)

    def apply_checkpoint(self, lease_id: int, remaining: int) -> None:
        self.remaining[lease_id] = remaining
        for lessor in self.lessors:
            lessor.apply_checkpoint(lease_id, remaining, self.clock)

    def do_checkpoint(self, _: int) -> None:
        for lease_id, remaining in self.primary.checkpoints_due(self.clock):
            assert 0 < remaining < self.ttl[lease_id]
            assert remaining - 1 < self.expiry[lease_id] - self.latest <= remaining
            self.apply_checkpoint(lease_id, remaining)

    def do_change_leader(self, _: int) -> None:
        self.primary.demote()
        assert self.primary.expired(1e9, 100) == []
        self.leader = 1 - self.leader
        # The new leader's clock may be behind; time as it sees it starts there.
        self.latest = max(self.clock, self.primary._now)
        self.primary.promote(self.clock, EXTEND_SECONDS)
        for lease_id, ttl in self.ttl.items():
            self.expiry[lease_id] = self.latest + EXTEND_SECONDS + (self.remaining[lease_id] or ttl)

    def do_restart(self, _: int) -> None:
        """The follower starts again from its backend; its store attaches the keys."""
        follower = 1 - self.leader
        lessor = self.make(self.backends[follower])
        lessor.restore()
        for key, lease_id in self.lease_of.items():
            lessor.attach(lease_id, key)
        self.lessors[follower] = lessor

    def check(self) -> None:
        for lessor in self.lessors:
            assert sorted(lessor.leases()) == sorted(self.ttl)
            assert {key: lessor.lease_of(key) for key in self.lease_of} == self.lease_of
            for lease_id in self.ttl:
                assert sorted(lessor.keys_of(lease_id)) == self.keys_of(lease_id)
        assert self.backends[0].items() == self.backends[1].items()
        assert self.primary.leases() == sorted(self.ttl, key=lambda lease_id: (self.expiry[lease_id], lease_id))
        for lease_id, ttl in self.ttl.items():
            status = self.primary.time_to_live(lease_id, self.clock)
            assert status.granted_ttl == ttl
            assert status.ttl == int(self.expiry[lease_id] - self.latest)

    def finish(self) -> None:
        """Everything expires in the end, lost revocations included."""
        for _ in range(20):
            self.do_pass_time(RETRY_SECONDS + 4.0)
            for lease_id in self.primary.expired(self.clock, 100):
                self.do_revoke(lease_id)
        assert not self.ttl
        assert self.backends[0].items() == {}


@given(st.lists(_step, max_size=50))
def test_leases_follow_the_model(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for name, *arguments in steps:
        getattr(model, f"do_{name}")(*arguments)
        model.check()
    model.finish()
