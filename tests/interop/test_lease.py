"""Lease: grant, revoke, keepalive, time to live, list, expiry, and the keys that go with a lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.client import Client, Refusal, prefix_end, refusal, wait_until

if TYPE_CHECKING:
    from tests.support.members import Member

NOT_FOUND = Refusal("NotFound", "etcdserver: requested lease not found")
EXISTS = Refusal("FailedPrecondition", "etcdserver: lease already exists")
TOO_LARGE = Refusal("OutOfRange", "etcdserver: too large lease TTL")


def time_to_live(client: Client, lease_id: int, *, keys: bool = False) -> rpc_pb2.LeaseTimeToLiveResponse:
    return client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys))


def revoke(client: Client, lease_id: int) -> rpc_pb2.LeaseRevokeResponse:
    return client.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease_id))


def leases(client: Client) -> list[int]:
    return [lease.ID for lease in client.lease.LeaseLeases(rpc_pb2.LeaseLeasesRequest()).leases]


class TestGrant:
    def test_the_server_picks_a_positive_id(self, client: Client) -> None:
        before = client.revision()
        answer = client.grant(100)
        assert answer.ID > 0
        assert (answer.TTL, answer.error, answer.header.revision) == (100, "", before)
        assert client.grant(100).ID != answer.ID

    def test_the_client_may_pick(self, client: Client) -> None:
        assert client.grant(100, lease_id=4711).ID == 4711
        assert refusal(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=5, ID=4711)) == EXISTS

    @pytest.mark.parametrize(("asked", "granted"), [(0, 2), (1, 2), (2, 2), (3, 3), (-5, 2), (9_000_000_000, None)])
    def test_ttl_bounds(self, client: Client, asked: int, granted: int | None) -> None:
        assert client.grant(asked).TTL == (asked if granted is None else granted)

    def test_ttl_too_large(self, client: Client) -> None:
        assert refusal(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=9_000_000_001)) == TOO_LARGE

    def test_negative_id(self, client: Client) -> None:
        assert client.grant(60, lease_id=-3).ID == -3
        assert time_to_live(client, -3).grantedTTL == 60


class TestRevoke:
    def test_takes_its_keys_in_one_revision(self, client: Client, prefix: bytes) -> None:
        lease = client.grant(60).ID
        for letter in (b"c", b"a", b"b"):
            client.put(prefix + letter, lease=lease)
        before = client.revision()
        with client.watching() as watch:
            watch.create(prefix, prefix_end(prefix))
            watch.next()
            assert revoke(client, lease).header.revision == before + 1
            events = watch.next().events
        assert [(event.type, event.kv.key[-1:]) for event in events] == [
            (kv_pb2.Event.DELETE, b"a"),
            (kv_pb2.Event.DELETE, b"b"),
            (kv_pb2.Event.DELETE, b"c"),
        ]
        assert {event.kv.mod_revision for event in events} == {before + 1}

    def test_without_keys_makes_no_revision(self, client: Client) -> None:
        lease = client.grant(60).ID
        before = client.revision()
        assert revoke(client, lease).header.revision == before

    def test_unknown(self, client: Client) -> None:
        assert refusal(client.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=99999)) == NOT_FOUND
        assert refusal(client.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=0)) == NOT_FOUND

    def test_a_key_that_left_the_lease_stays(self, client: Client, prefix: bytes) -> None:
        first, second = client.grant(60).ID, client.grant(60).ID
        client.put(prefix + b"plain", lease=first)
        client.put(prefix + b"plain")
        client.put(prefix + b"moved", lease=first)
        client.put(prefix + b"moved", lease=second)
        revoke(client, first)
        assert client.range(prefix, prefix_end(prefix)).count == 2
        revoke(client, second)
        assert [kv.key for kv in client.range(prefix, prefix_end(prefix)).kvs] == [prefix + b"plain"]


class TestKeepAlive:
    def test_renews(self, client: Client) -> None:
        lease = client.grant(60).ID
        (answer,) = client.keep_alive(lease)
        assert (answer.ID, answer.TTL) == (lease, 60)
        assert answer.header.revision == client.revision()

    def test_unknown_is_answered_with_zero(self, client: Client) -> None:
        (answer,) = client.keep_alive(123456)
        assert (answer.ID, answer.TTL) == (123456, 0)

    def test_one_stream_serves_many(self, client: Client) -> None:
        first, second = client.grant(60).ID, client.grant(90).ID
        assert [(a.ID, a.TTL) for a in client.keep_alive(first, 5, second, first)] == [
            (first, 60),
            (5, 0),
            (second, 90),
            (first, 60),
        ]


class TestTimeToLive:
    def test_known(self, client: Client, prefix: bytes) -> None:
        lease = client.grant(60).ID
        client.put(prefix + b"b", lease=lease)
        client.put(prefix + b"a", lease=lease)
        answer = time_to_live(client, lease, keys=True)
        assert (answer.ID, answer.grantedTTL) == (lease, 60)
        assert 58 <= answer.TTL <= 60
        assert sorted(answer.keys) == [prefix + b"a", prefix + b"b"]
        assert list(time_to_live(client, lease).keys) == []

    def test_unknown(self, client: Client) -> None:
        answer = time_to_live(client, 31337, keys=True)
        assert (answer.ID, answer.TTL, answer.grantedTTL, list(answer.keys)) == (31337, -1, 0, [])

    def test_deleted_keys_are_detached(self, client: Client, prefix: bytes) -> None:
        lease = client.grant(60).ID
        client.put(prefix, lease=lease)
        client.delete(prefix)
        assert list(time_to_live(client, lease, keys=True).keys) == []


def test_list_is_sorted_by_expiry(client: Client) -> None:
    late, early = client.grant(5000).ID, client.grant(4000).ID
    listed = [lease for lease in leases(client) if lease in (late, early)]
    assert listed == [early, late]
    revoke(client, early)
    assert early not in leases(client)


def test_expiry_takes_the_keys(client: Client, prefix: bytes) -> None:
    lease = client.grant(2).ID
    client.put(prefix, lease=lease)
    begun = time.monotonic()
    with client.watching() as watch:
        watch.create(prefix)
        watch.next()
        (event,) = watch.events(1, seconds_max=6)
    assert event.type == kv_pb2.Event.DELETE
    assert 1.5 <= time.monotonic() - begun <= 4.5
    assert time_to_live(client, lease).TTL == -1
    assert client.keep_alive(lease)[0].TTL == 0
    assert lease not in leases(client)


def test_keepalive_holds_off_expiry(client: Client, prefix: bytes) -> None:
    lease = client.grant(2).ID
    client.put(prefix, lease=lease)
    for _ in range(8):
        time.sleep(0.4)
        assert client.keep_alive(lease)[0].TTL == 2
    assert client.range(prefix).count == 1
    revoke(client, lease)


def test_leases_survive_a_restart(member: Member, prefix: bytes) -> None:
    with Client.of(member) as client:
        lease = client.grant(300).ID
        client.put(prefix, lease=lease)
    member.kill()
    member.start()
    with Client.of(member) as client:
        answer = time_to_live(client, lease, keys=True)
        assert (answer.grantedTTL, list(answer.keys)) == (300, [prefix])
        revoke(client, lease)
        wait_until(lambda: client.range(prefix).count == 0)
