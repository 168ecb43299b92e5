"""Real etcd and etcdpy in one cluster: elections, catching up by the log, leases and watches.

The first composition is real etcd alone, which shows that the tests ask for what etcd does.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

import grpc
import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import prefix_end, wait_until
from tests.support.cluster import Cluster, ClusterMember, SharedCluster, cluster_versions
from tests.support.traffic import event_of, every_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind

pytestmark = [pytest.mark.reference, pytest.mark.timeout(120)]

COMPOSITIONS: Final[list[list[Kind]]] = [
    ["etcd", "etcd", "etcd"],
    ["etcd", "etcd", "etcdpy"],
    ["etcdpy", "etcdpy", "etcd"],
    ["etcdpy", "etcd-3.6", "etcdpy"],
]
_prefixes = itertools.count(1)


@pytest.fixture(scope="module", params=COMPOSITIONS, ids="-".join)
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    shared = SharedCluster(request.param, lambda: tmp_path_factory.mktemp("mixed"))
    yield shared
    shared.close()


@pytest.fixture
def prefix() -> bytes:
    return b"/mixed%03d/" % next(_prefixes)


def write_through_all(cluster: Cluster, prefix: bytes) -> None:
    """A put, a transaction and a read of both through each member that runs."""
    for member in cluster.answering:
        key = prefix + member.name.encode()
        client = cluster.client(member)
        client.put(key, b"put")
        absent = rpc_pb2.Compare(key=key, target=rpc_pb2.Compare.VALUE, result=rpc_pb2.Compare.EQUAL, value=b"put")
        then = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=b"transaction"))
        assert client.txn([absent], [then]).succeeded
        for other in cluster.answering:
            assert cluster.client(other).range(key).kvs[0].value == b"transaction"


def elect_by_kill(cluster: Cluster, target: ClusterMember, prefix: bytes) -> ClusterMember:
    """Kill the leader such that only `target` can win: the third member misses the last entries. Returns the dead."""
    while (leader := cluster.leader()) is target:
        cluster.move_leader(cluster.others(target)[0])
    (third,) = cluster.others(leader, target)
    for other in (leader, target):
        cluster.faults.cut(third.name, other.name)
    for _ in range(3):
        cluster.client(leader).put(prefix + b"missed", leader.name.encode())
    leader.kill()
    cluster.faults.heal()
    assert cluster.leader() is target
    return leader


def test_the_cluster_runs_at_its_oldest_release(mixture: SharedCluster) -> None:
    with mixture.borrow() as cluster:
        oldest = "3.6.0" if "etcd-3.6" in mixture.kinds else "3.7.0"
        wait_until(lambda: cluster_versions(cluster) == {oldest}, 10)


def test_every_member_wins_an_election_after_a_kill(mixture: SharedCluster, prefix: bytes) -> None:
    with mixture.borrow() as cluster:
        for number, target in enumerate(cluster.members):
            dead = elect_by_kill(cluster, target, prefix)
            write_through_all(cluster, prefix + b"%d/" % number)
            cluster.restart(dead)  # and catches up by the log
            assert cluster.leader() is target
            cluster.assert_equal()
        write_through_all(cluster, prefix)
        cluster.assert_equal()


def test_leases_and_watches_live_through_changes_of_the_leader(mixture: SharedCluster, prefix: bytes) -> None:
    with mixture.borrow() as cluster:
        ttl = 3
        first = cluster.client(cluster.members[0])
        start = first.revision() + 1
        lease = first.grant(ttl).ID
        first.put(prefix + b"leased", b"alive", lease=lease)
        streams = [cluster.client(member).watching() for member in cluster.members]
        for stream in streams:
            stream.create(prefix, prefix_end(prefix), start_revision=start)
        stopping = threading.Event()
        keeping = threading.Thread(target=keep_alive, args=(cluster, lease, stopping), daemon=True)
        keeping.start()
        begun = time.monotonic()
        for target in [*cluster.members[1:], cluster.members[0]]:
            cluster.move_leader(target)
            for member in cluster.members:
                cluster.client(member).put(prefix + member.name.encode(), target.name.encode())
        time.sleep(max(0.0, begun + 1.5 * ttl - time.monotonic()))
        assert cluster.client(cluster.members[2]).range(prefix + b"leased").count == 1
        stopping.set()
        keeping.join()
        wait_until(lambda: first.range(prefix + b"leased").count == 0, 3 * ttl)
        told = [[event_of(event) for event in stream.events(11)] for stream in streams]
        for stream in streams:
            stream.close()
        assert told[0][-1].value is None
        assert told[0] == told[1] == told[2] == every_event(first, prefix, start, 11)
        cluster.assert_equal()


def keep_alive(cluster: Cluster, lease: int, stopping: threading.Event) -> None:
    """Renew a lease through one member after the other."""
    for member in itertools.cycle(cluster.members):
        try:
            cluster.client(member).keep_alive(lease)
        except grpc.RpcError:
            pass  # no leader at this moment
        if stopping.wait(0.3):
            return
