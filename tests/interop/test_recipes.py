"""The lock and election services, on real etcd and on etcdpy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from tests.support.client import Client, Refusal, prefix_end, refusal, refusal_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Member

SECONDS_MAX = 10
EXPIRED = Refusal("Unknown", "mutex: session is expired")
NOT_LEADER = Refusal("Unknown", "election: not leader")
NO_LEADER = Refusal("Unknown", "election: no leader")
NO_FIELD = Refusal("Unknown", '"leader" field must be provided')
NO_LEASE = Refusal("Unknown", "etcdserver: requested lease not found")


@pytest.fixture(scope="module")
def second(member: Member) -> Iterator[Client]:
    """Another client."""
    with Client.of(member) as connected:
        yield connected


@pytest.fixture
def lease(client: Client) -> int:
    return int(client.grant(60).ID)


@pytest.fixture
def other_lease(client: Client) -> int:
    return int(client.grant(60).ID)


def lock(client: Client, name: bytes, lease: int = 0) -> lock_pb2.LockResponse:
    return client.lock.Lock(lock_pb2.LockRequest(name=name, lease=lease), timeout=SECONDS_MAX)


def lock_later(client: Client, name: bytes, lease: int = 0, **options: Any) -> Any:
    options = {"timeout": SECONDS_MAX, **options}
    return client.lock.Lock.future(lock_pb2.LockRequest(name=name, lease=lease), **options)


def unlock(client: Client, key: bytes) -> lock_pb2.UnlockResponse:
    return client.lock.Unlock(lock_pb2.UnlockRequest(key=key), timeout=SECONDS_MAX)


def campaign(client: Client, name: bytes, lease: int = 0, value: bytes = b"") -> election_pb2.CampaignResponse:
    request = election_pb2.CampaignRequest(name=name, lease=lease, value=value)
    return client.election.Campaign(request, timeout=SECONDS_MAX)


def campaign_later(client: Client, name: bytes, lease: int = 0, value: bytes = b"") -> Any:
    request = election_pb2.CampaignRequest(name=name, lease=lease, value=value)
    return client.election.Campaign.future(request, timeout=SECONDS_MAX)


def keys_under(client: Client, prefix: bytes) -> list[bytes]:
    return [kv.key for kv in client.range(prefix, prefix_end(prefix)).kvs]


def waiting(client: Client, name: bytes, count: int) -> None:
    """Wait until that many keys are queued under a name."""
    wait_until(lambda: len(keys_under(client, name + b"/")) == count)


def failure(future: Any) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        future.result(SECONDS_MAX)
    return refusal_of(caught.value)


class TestLock:
    def test_a_free_lock_is_had_at_once(self, client: Client, prefix: bytes, lease: int) -> None:
        before = client.revision()
        answer = lock(client, prefix, lease)
        assert answer.key == prefix + b"/" + b"%x" % lease
        assert answer.header.revision == before + 1
        (kv,) = client.range(answer.key).kvs
        assert (kv.lease, kv.value) == (lease, b"")
        unlocked = unlock(client, answer.key)
        assert unlocked.header.revision == before + 2
        assert not keys_under(client, prefix)

    def test_the_session_that_has_it_gets_it_again(self, client: Client, prefix: bytes, lease: int) -> None:
        first = lock(client, prefix, lease)
        again = lock(client, prefix, lease)
        assert (again.key, again.header.revision) == (first.key, first.header.revision)

    def test_without_a_lease_one_of_a_minute_is_granted(self, client: Client, prefix: bytes) -> None:
        key = lock(client, prefix).key
        (kv,) = client.range(key).kvs
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=kv.lease)
        assert client.lease.LeaseTimeToLive(request, timeout=SECONDS_MAX).grantedTTL == 60
        assert key == prefix + b"/" + b"%x" % kv.lease

    @pytest.mark.parametrize("lease", [7, -7])
    def test_an_unknown_lease(self, client: Client, prefix: bytes, lease: int) -> None:
        assert refusal(client.lock.Lock, lock_pb2.LockRequest(name=prefix, lease=lease)) == NO_LEASE
        assert not keys_under(client, prefix)

    def test_a_lock_without_a_name(self, client: Client, lease: int) -> None:
        client.delete(b"/", b"0")  # what other tests have left would be older
        key = lock(client, b"", lease).key
        assert key == b"/%x" % lease
        unlock(client, key)

    def test_unlocking_what_nobody_has(self, client: Client, prefix: bytes) -> None:
        before = client.revision()
        assert unlock(client, prefix).header.revision == before
        text = "etcdserver: key is not provided"
        assert refusal(client.lock.Unlock, lock_pb2.UnlockRequest()) == Refusal("Unknown", text)

    def test_waiters_get_it_in_turn(self, client: Client, second: Client, prefix: bytes) -> None:
        leases = [client.grant(60).ID for _ in range(4)]
        held = lock(client, prefix, leases[0]).key
        waiters = []
        for count, lease in enumerate(leases[1:], start=2):
            waiters.append(lock_later(second, prefix, lease))
            waiting(client, prefix, count)
        for waiter in waiters:
            time.sleep(0.05)
            assert not any(each.done() for each in waiters[waiters.index(waiter) :])
            released = unlock(client, held)
            answer = waiter.result(SECONDS_MAX)
            held = answer.key
            assert answer.header.revision == released.header.revision
        unlock(client, held)

    def test_the_end_of_the_holders_lease_frees_it(
        self, client: Client, second: Client, prefix: bytes, lease: int, other_lease: int
    ) -> None:
        lock(client, prefix, lease)
        waiter = lock_later(second, prefix, other_lease)
        waiting(client, prefix, 2)
        client.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease), timeout=SECONDS_MAX)
        assert waiter.result(SECONDS_MAX).key == prefix + b"/" + b"%x" % other_lease

    def test_a_session_that_ends_while_it_waits(
        self, client: Client, second: Client, prefix: bytes, lease: int, other_lease: int
    ) -> None:
        held = lock(client, prefix, lease).key
        waiter = lock_later(second, prefix, other_lease)
        waiting(client, prefix, 2)
        client.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=other_lease), timeout=SECONDS_MAX)
        waiting(client, prefix, 1)
        assert not waiter.done()
        unlock(client, held)
        assert failure(waiter) == EXPIRED

    def test_who_goes_gives_up_the_place(
        self, client: Client, second: Client, prefix: bytes, lease: int, other_lease: int
    ) -> None:
        held = lock(client, prefix, lease).key
        waiter = lock_later(second, prefix, other_lease)
        waiting(client, prefix, 2)
        waiter.cancel()
        wait_until(lambda: keys_under(client, prefix) == [held])

    def test_who_waits_too_long_gives_up_the_place(
        self, client: Client, second: Client, prefix: bytes, lease: int, other_lease: int
    ) -> None:
        held = lock(client, prefix, lease).key
        waiter = lock_later(second, prefix, other_lease, timeout=0.3)
        assert failure(waiter).code == "DeadlineExceeded"
        wait_until(lambda: keys_under(client, prefix) == [held])

    def test_the_waiter_behind_one_who_goes(self, client: Client, second: Client, prefix: bytes, lease: int) -> None:
        held = lock(client, prefix, lease).key
        goes = lock_later(second, prefix, client.grant(60).ID)
        waiting(client, prefix, 2)
        stays = lock_later(second, prefix, client.grant(60).ID)
        waiting(client, prefix, 3)
        goes.cancel()
        waiting(client, prefix, 2)
        time.sleep(0.1)
        assert not stays.done()
        unlock(client, held)
        stays.result(SECONDS_MAX)


class TestElection:
    def test_a_free_seat_is_had_at_once(self, client: Client, prefix: bytes, lease: int) -> None:
        before = client.revision()
        answer = campaign(client, prefix, lease, b"me")
        leader = answer.leader
        assert (leader.name, leader.key) == (prefix, prefix + b"/" + b"%x" % lease)
        assert (leader.lease, leader.rev, answer.header.revision) == (lease, before + 1, before + 1)
        found = client.election.Leader(election_pb2.LeaderRequest(name=prefix), timeout=SECONDS_MAX)
        assert (found.kv.key, found.kv.value, found.kv.lease) == (leader.key, b"me", lease)
        assert found.header.revision == before + 1

    @pytest.mark.parametrize("value", [b"me", b"other"])
    def test_who_leads_campaigns_again(self, client: Client, prefix: bytes, lease: int, value: bytes) -> None:
        first = campaign(client, prefix, lease, b"me")
        again = campaign(client, prefix, lease, value)
        assert again.leader == first.leader
        found = client.election.Leader(election_pb2.LeaderRequest(name=prefix), timeout=SECONDS_MAX)
        assert found.kv.value == value
        assert again.header.revision == first.header.revision
        assert found.header.revision - first.header.revision == (value != b"me")

    def test_refusals(self, client: Client, prefix: bytes) -> None:
        stub, leader = client.election, election_pb2.LeaderKey(name=prefix, key=prefix + b"/77", rev=1, lease=-1)
        assert refusal(stub.Leader, election_pb2.LeaderRequest(name=prefix)) == NO_LEADER
        assert refusal(stub.Campaign, election_pb2.CampaignRequest(name=prefix, lease=77)) == NO_LEASE
        assert refusal(stub.Proclaim, election_pb2.ProclaimRequest(value=b"x")) == NO_FIELD
        assert refusal(stub.Resign, election_pb2.ResignRequest()) == NO_FIELD
        assert refusal(stub.Proclaim, election_pb2.ProclaimRequest(leader=leader)) == NOT_LEADER
        nobody = election_pb2.LeaderKey()
        text = Refusal("Unknown", "etcdserver: key is not provided")
        assert refusal(stub.Proclaim, election_pb2.ProclaimRequest(leader=nobody)) == text
        assert refusal(stub.Resign, election_pb2.ResignRequest(leader=nobody)) == text

    def test_proclaim_and_resign(self, client: Client, prefix: bytes, lease: int) -> None:
        leader = campaign(client, prefix, lease, b"one").leader
        stub, key = client.election, leader.key
        proclaimed = stub.Proclaim(election_pb2.ProclaimRequest(leader=leader, value=b"two"), timeout=SECONDS_MAX)
        assert proclaimed.header.revision == leader.rev + 1
        assert client.range(key).kvs[0].value == b"two"
        resigned = stub.Resign(election_pb2.ResignRequest(leader=leader), timeout=SECONDS_MAX)
        assert resigned.header.revision == leader.rev + 2
        assert not keys_under(client, prefix)
        again = stub.Resign(election_pb2.ResignRequest(leader=leader), timeout=SECONDS_MAX)
        assert again.header.revision == leader.rev + 2
        assert refusal(stub.Proclaim, election_pb2.ProclaimRequest(leader=leader)) == NOT_LEADER

    def test_a_proclamation_without_a_lease_gets_a_new_one(self, client: Client, prefix: bytes, lease: int) -> None:
        leader = campaign(client, prefix, lease, b"one").leader
        leader.lease = 0
        client.election.Proclaim(election_pb2.ProclaimRequest(leader=leader, value=b"two"), timeout=SECONDS_MAX)
        (kv,) = client.range(leader.key).kvs
        assert kv.lease not in (0, lease)

    def test_candidates_follow_each_other(self, client: Client, second: Client, prefix: bytes) -> None:
        leases = [client.grant(60).ID for _ in range(3)]
        leader = campaign(client, prefix, leases[0], b"0").leader
        candidates = []
        for count, lease in enumerate(leases[1:], start=2):
            candidates.append(campaign_later(second, prefix, lease, b"%d" % count))
            waiting(client, prefix, count)
        for candidate in candidates:
            time.sleep(0.05)
            assert not candidate.done()
            client.election.Resign(election_pb2.ResignRequest(leader=leader), timeout=SECONDS_MAX)
            answer = candidate.result(SECONDS_MAX)
            leader = answer.leader
            assert answer.header.revision == leader.rev

    def test_who_goes_gives_up_the_place(
        self, client: Client, second: Client, prefix: bytes, lease: int, other_lease: int
    ) -> None:
        leader = campaign(client, prefix, lease).leader
        candidate = campaign_later(second, prefix, other_lease)
        waiting(client, prefix, 2)
        candidate.cancel()
        wait_until(lambda: keys_under(client, prefix) == [leader.key])

    def test_observers_see_leaders_and_what_they_proclaim(self, client: Client, second: Client, prefix: bytes) -> None:
        leases = [client.grant(60).ID for _ in range(2)]
        request = election_pb2.LeaderRequest(name=prefix)
        early: Any = second.election.Observe(request, timeout=SECONDS_MAX)
        leader = campaign(client, prefix, leases[0], b"one").leader
        seen = next(early)
        assert (seen.kv.value, seen.header.revision) == (b"one", leader.rev)
        late: Any = second.election.Observe(request, timeout=SECONDS_MAX)
        assert next(late).kv.value == b"one"
        client.election.Proclaim(election_pb2.ProclaimRequest(leader=leader, value=b"two"), timeout=SECONDS_MAX)
        for observer in (early, late):
            seen = next(observer)
            assert (seen.kv.value, seen.kv.mod_revision, seen.header.revision) == (
                b"two",
                leader.rev + 1,
                leader.rev + 1,
            )
        candidate = campaign_later(second, prefix, leases[1], b"three")
        waiting(client, prefix, 2)
        client.election.Resign(election_pb2.ResignRequest(leader=leader), timeout=SECONDS_MAX)
        candidate.result(SECONDS_MAX)
        for observer in (early, late):
            assert next(observer).kv.value == b"three"
            observer.cancel()


def test_metadata_is_needed_for_nothing(client: Client, prefix: bytes, lease: int) -> None:
    """A call that demands a leader is answered by a member that has one."""
    request = lock_pb2.LockRequest(name=prefix, lease=lease)
    assert client.lock.Lock(request, timeout=SECONDS_MAX, metadata=(("hasleader", "true"),)).key
