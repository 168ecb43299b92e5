"""Three members under faults: clients see one store that does one thing at a time, and it goes on by itself.

Each scenario runs on real etcd as well, which shows that it asks for what etcd does. Clients read and write all the
while; at the end their histories are checked, and all members must hold the same.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, outcome, refusal_of, wait_until
from tests.support.cluster import Cluster, ClusterMember, SharedCluster
from tests.support.histories import Histories, changes, perform, replaced
from tests.support.linear_kv import Get, Item, Put, Txn, check
from tests.support.linearizability import Call
from tests.support.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

FAULT_SECONDS = 2.0
"""How long a fault lasts at least: two election timeouts."""
_prefixes = itertools.count(1)


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=pytest.mark.reference), "etcdpy"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    three = SharedCluster([request.param] * 3, lambda: tmp_path_factory.mktemp(request.param))
    yield three
    three.close()


@contextmanager
def under_load(cluster: Cluster) -> Iterator[Histories]:
    """Clients at work; after the fault all members are up, answer, and agree, and the histories are linearizable."""
    with Histories(cluster, b"/history%03d/" % next(_prefixes)) as histories:
        histories.wait_writes()
        yield histories
        histories.wait_writes()
        cluster.leader()
    cluster.assert_equal()
    histories.assert_linearizable()


def names(*members: ClusterMember) -> list[str]:
    return [member.name for member in members]


def term(cluster: Cluster, member: ClusterMember) -> int:
    status = cluster.status(member)
    assert isinstance(status, rpc_pb2.StatusResponse), status
    return status.raftTerm


def ended(call: Any) -> Refusal:
    """What a call under way ends with."""
    error = call.exception(10)
    assert isinstance(error, grpc.RpcError), error
    return refusal_of(error)


def test_the_leader_is_killed(shared: SharedCluster) -> None:
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        leader.kill()
        assert cluster.leader() is not leader
        histories.wait_writes()
        cluster.restart(leader)


def test_a_follower_is_killed(shared: SharedCluster) -> None:
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        before = term(cluster, leader)
        follower, *_ = cluster.others(leader)
        follower.kill()
        histories.wait_writes()
        cluster.restart(follower)
        assert cluster.leader() is leader
        assert term(cluster, leader) == before


def test_the_leader_is_paused(shared: SharedCluster) -> None:
    """It comes back believing that it leads: no read that it answers may be old."""
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        leader.pause()
        assert cluster.leader() is not leader
        histories.wait_writes(50)
        leader.resume()
        histories.wait_writes(50)


def test_the_leader_is_in_the_minority(shared: SharedCluster) -> None:
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        others = cluster.others(leader)
        cluster.faults.isolate(names(leader), names(*others))
        assert cluster.leader(others) is not leader
        histories.wait_writes()
        cluster.wait_leaderless(leader)  # check-quorum
        cluster.faults.heal()


def test_a_follower_is_in_the_minority(shared: SharedCluster) -> None:
    """It must not disturb the others when it comes back: pre-vote."""
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        before = term(cluster, leader)
        follower, other = cluster.others(leader)
        cluster.faults.isolate(names(follower), names(leader, other))
        time.sleep(FAULT_SECONDS)
        histories.wait_writes()
        cluster.faults.heal()
        assert cluster.leader() is leader
        histories.wait_writes(50)
        assert term(cluster, leader) == before


@pytest.mark.parametrize("way", ["from the leader", "to the leader"])
def test_one_way_is_blocked(shared: SharedCluster, way: str) -> None:
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        others = cluster.others(leader)
        for other in others:
            ends = names(leader, other) if way == "from the leader" else names(other, leader)
            cluster.faults.stall(*ends)
        assert cluster.leader(others) is not leader
        histories.wait_writes()
        cluster.faults.heal()


def test_a_slow_link(shared: SharedCluster) -> None:
    """Far from an election timeout: nobody takes it for a failure, and the quorum does not wait for it."""
    with shared.borrow() as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        before = term(cluster, leader)
        follower, _ = cluster.others(leader)
        for ends in (names(leader, follower), names(follower, leader)):
            cluster.faults.slow(*ends, delay_seconds=0.15, bytes_per_second=200_000)
        time.sleep(FAULT_SECONDS)
        histories.wait_writes(50)
        assert cluster.leader() is leader
        assert term(cluster, leader) == before
        cluster.faults.heal()


def test_links_are_reset_again_and_again(shared: SharedCluster) -> None:
    with shared.borrow() as cluster, under_load(cluster) as histories:
        for one, other in list(itertools.combinations(cluster.members, 2)) * 2:
            cluster.faults.cut(one.name, other.name)
            time.sleep(0.2)
            cluster.faults.heal()
        histories.wait_writes(50)


def test_the_power_fails_everywhere(shared: SharedCluster) -> None:
    with shared.borrow() as cluster, under_load(cluster):
        for _ in range(2):
            cluster.kill_all()
            cluster.restart(*cluster.members)


def test_a_data_directory_is_lost(shared: SharedCluster) -> None:
    """The member is removed, and one with an empty disk takes its place."""
    with shared.borrow() as cluster, under_load(cluster) as histories:
        lost, *_ = cluster.others(cluster.leader())
        lost.kill()
        lost.wipe()
        cluster.remove(lost)
        histories.wait_writes()
        cluster.add(lost.kind)


def test_without_a_quorum_nothing_is_promised(shared: SharedCluster) -> None:
    """Writes and linearizable reads end with etcd's errors, serializable reads go on; all is well when one is back."""
    with shared.borrow() as cluster, under_load(cluster):
        alone = cluster.leader()
        others = cluster.others(alone)
        client = cluster.client(alone)
        client.put(b"quorum", b"there")
        for other in others:
            other.kill()
        put = rpc_pb2.PutRequest(key=b"quorum", value=b"not there")
        early = client.kv.Put.future(put)  # while it still leads
        cluster.wait_leaderless(alone)
        late = client.kv.Put.future(put)
        read = client.kv.Range.future(rpc_pb2.RangeRequest(key=b"quorum"))
        no_leader = Refusal("Unavailable", "etcdserver: no leader")
        with_leader = {"metadata": [("hasleader", "true")], "timeout": 0.5}
        wait_until(lambda: outcome(client.kv.Put, put, **with_leader) == no_leader)
        assert client.range(b"quorum", serializable=True).kvs[0].value == b"there"
        assert '"health":"false"' in alone.http("GET", "/health").body.decode()
        timed_out = Refusal("Unavailable", "etcdserver: request timed out")
        assert [ended(call) for call in (early, late, read)] == [
            timed_out,
            Refusal("DeadlineExceeded", "context deadline exceeded"),
            timed_out,
        ]
        cluster.restart(*others)


def test_five_members_live_through_the_loss_of_two(tmp_path: Path) -> None:
    with Cluster(["etcdpy"] * 5, tmp_path, proxied=True) as cluster, under_load(cluster) as histories:
        leader = cluster.leader()
        other, *_ = cluster.others(leader)
        for lost in (leader, other):
            lost.kill()
        cluster.leader()
        histories.wait_writes()
        cluster.restart(leader, other)


# --- one disk is full ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    yield from SmallDisk.mounted(tmp_path / "disk", 160)


def test_the_leaders_disk_is_full(shared: SharedCluster, tmp_path: Path, small_disk: SmallDisk) -> None:
    """It may stop or stay: the others go on without it, and it is back when there is room."""
    with Cluster(shared.kinds, tmp_path, proxied=True) as cluster:
        victim, survivor, _ = cluster.members
        victim.kill()
        small_disk.take(victim.data_dir)
        cluster.restart(victim)
        with under_load(cluster) as histories:
            cluster.move_leader(victim)
            histories.wait_writes()
            small_disk.fill()
            begun = time.monotonic()
            with Client.of(survivor) as client:
                while cluster.leader_now(cluster.others(victim)) is None:
                    assert time.monotonic() < begun + 15, "nothing was noticed"
                    outcome(client.kv.Put, rpc_pb2.PutRequest(key=b"/large", value=os.urandom(200_000)), timeout=1)
            histories.wait_writes(20)
            small_disk.empty()
            victim.kill()
            cluster.restart(victim)


# --- the checker itself ---


def test_planted_violations_are_caught(shared: SharedCluster) -> None:
    with shared.borrow() as cluster:
        with Histories(cluster, b"/planted/") as histories:
            histories.wait_writes(200)
        calls = histories.calls
        histories.assert_linearizable()
        lost = replaced(calls, lambda call: isinstance(call.request, Get) and call.response is not None, None)
        assert check(lost) is not None
        refused = replaced(calls, lambda call: isinstance(call.request, Txn) and changes(call), (False, (None,)))
        assert check(refused) is not None


def test_an_old_read_is_caught(shared: SharedCluster) -> None:
    """A serializable read of a member that is cut off, passed off as a linearizable one."""
    key = b"/old/read"
    with shared.borrow() as cluster:
        leader = cluster.leader()
        follower, other = cluster.others(leader)
        calls: list[Call] = []

        def call(request: Put) -> None:
            called = time.monotonic()
            response = perform(cluster.client(leader), request)
            calls.append(Call("writer", request, called, time.monotonic(), response))

        call(Put(key, b"first", previous=True))
        cluster.assert_equal()
        cluster.faults.isolate(names(follower), names(leader, other))
        call(Put(key, b"second", previous=True))
        called = time.monotonic()
        (found,) = cluster.client(follower).range(key, serializable=True).kvs
        calls.append(Call("reader", Get(key), called, time.monotonic(), Item(found.value, found.version)))
        cluster.faults.heal()
        assert found.value == b"first"
        assert check(calls) is not None
        cluster.leader()
