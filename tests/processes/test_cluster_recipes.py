"""Locks and elections through followers of three members, with the leader killed while clients hold and wait."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from tests.support.client import Client, Refusal, outcome, prefix_end, wait_until
from tests.support.cluster import Cluster
from tests.support.members import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

SECONDS_MAX = 30


@pytest.fixture(params=[pytest.param("etcd", marks=pytest.mark.reference), "etcdpy"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    kind: Kind = request.param
    assert kind in KINDS
    with Cluster([kind] * 3, tmp_path) as running:
        yield running


def insist(call: Callable[..., Any], request: object) -> Any:
    """Ask until it is answered: after a leader's death calls fail for a while."""
    deadline = time.monotonic() + SECONDS_MAX
    while isinstance(answer := outcome(call, request, timeout=5), Refusal):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer


def grant(client: Client) -> int:
    return int(insist(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=60)).ID)


def waiting(client: Client, prefix: bytes, count: int) -> None:
    """Until so many queue, as the member says through which the last one came. That one's call reads the queue right
    after it has joined; two reads behind it, that is answered as well, and a leader's end cannot fail it."""
    for _ in range(2):
        wait_until(lambda: client.range(prefix, prefix_end(prefix), count_only=True).count == count)


def test_a_lock_outlives_the_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    first, second = (cluster.client(member) for member in cluster.others(leader))
    leases = grant(first), grant(second)
    held = insist(first.lock.Lock, lock_pb2.LockRequest(name=b"l", lease=leases[0])).key
    waiter = second.lock.Lock.future(lock_pb2.LockRequest(name=b"l", lease=leases[1]), timeout=SECONDS_MAX)
    waiting(second, b"l/", 2)
    leader.kill()
    cluster.leader()
    assert not waiter.done()
    insist(first.lock.Unlock, lock_pb2.UnlockRequest(key=held))
    assert waiter.result(SECONDS_MAX).key == b"l/%x" % leases[1]


def test_an_election_outlives_the_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    first, second = (cluster.client(member) for member in cluster.others(leader))
    leases = grant(first), grant(second)
    request = election_pb2.CampaignRequest(name=b"e", lease=leases[0], value=b"one")
    elected = insist(first.election.Campaign, request).leader
    observer: Any = second.election.Observe(election_pb2.LeaderRequest(name=b"e"), timeout=SECONDS_MAX)
    assert next(observer).kv.value == b"one"
    request = election_pb2.CampaignRequest(name=b"e", lease=leases[1], value=b"two")
    candidate = second.election.Campaign.future(request, timeout=SECONDS_MAX)
    waiting(second, b"e/", 2)
    leader.kill()
    cluster.leader()
    insist(first.election.Proclaim, election_pb2.ProclaimRequest(leader=elected, value=b"again"))
    assert next(observer).kv.value == b"again"
    insist(first.election.Resign, election_pb2.ResignRequest(leader=elected))
    assert candidate.result(SECONDS_MAX).leader.lease == leases[1]
    assert next(observer).kv.value == b"two"
    observer.cancel()


class Contender(threading.Thread):
    """Takes a lock and gives it back, again and again, through one member."""

    def __init__(self, client: Client, lease: int, holders: list[int], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client, self.lease, self.holders, self.stop = client, lease, holders, stop
        self.times = 0
        self.overlaps = 0

    def run(self) -> None:
        while not self.stop.is_set():
            lock = lock_pb2.LockRequest(name=b"contended", lease=self.lease)
            answer = outcome(self.client.lock.Lock, lock, timeout=10)
            if isinstance(answer, Refusal):
                continue
            self.holders.append(self.lease)
            self.overlaps += len(self.holders) > 1
            time.sleep(0.002)
            self.holders.remove(self.lease)
            insist(self.client.lock.Unlock, lock_pb2.UnlockRequest(key=answer.key))
            self.times += 1


def test_nobody_shares_a_lock_while_leaders_die(cluster: Cluster) -> None:
    stop = threading.Event()
    holders: list[int] = []
    clients = [Client.of(member) for member in cluster.members for _ in range(2)]
    contenders = [Contender(client, grant(client), holders, stop) for client in clients]
    for contender in contenders:
        contender.start()
    for _ in range(2):
        leader = cluster.leader()
        leader.kill()
        cluster.leader()
        time.sleep(1)
        cluster.restart(leader)
    wait_until(lambda: all(contender.times > 3 for contender in contenders), SECONDS_MAX)
    stop.set()
    for contender in contenders:
        contender.join(SECONDS_MAX)
        assert not contender.is_alive()
    assert sum(contender.overlaps for contender in contenders) == 0
    for client in clients:
        client.close()
