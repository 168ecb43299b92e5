"""A member that is killed again and again while it receives the whole state, one that is read from meanwhile, and how
long the loops of both ends are held."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bench import catch_up
from etcdpy.proto import rpc_pb2
from tests.support.client import prefix_end, wait_until
from tests.support.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import ClusterMember

pytestmark = pytest.mark.timeout(180)

VALUE_BYTES = 2000
KEYS = 6000
RECEIVING = "receiving database snapshot"
APPLYING = "applying snapshot"


def three(directory: Path, *, proxied: bool) -> Cluster:
    flags = ("--snapshot-count=100", "--snapshot-catchup-entries=20")
    return Cluster(["etcdpy", "etcdpy", "etcdpy"], directory, flags=flags, proxied=proxied)


def write_much(cluster: Cluster) -> None:
    """12 MB, in more entries than the log keeps."""
    client = cluster.client(cluster.leader())
    draw = random.Random(1)
    for start in range(0, KEYS, 20):
        puts = [
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k%05d" % each, value=draw.randbytes(VALUE_BYTES)))
            for each in range(start, start + 20)
        ]
        client.txn([], puts)


def leftovers(member: ClusterMember) -> set[str]:
    names = {path.name for path in (member.data_dir / "member").iterdir()}
    return {name for name in names if not name.startswith("state.")} - {"FORMAT", "LOCK", "log", "state"}


def is_receiving(member: ClusterMember, seen: int) -> bool:
    return member.log_text().count(RECEIVING) > seen


def test_killed_while_it_receives(tmp_path: Path) -> None:
    """A little later each time, until one has gone through: then its leader keeps the log, and that is enough."""
    with three(tmp_path, proxied=False) as cluster:
        follower = cluster.others(cluster.leader())[0]
        follower.kill()
        write_much(cluster)
        killed = 0
        while APPLYING not in follower.log_text() and killed < 6:
            seen = follower.log_text().count(RECEIVING)
            follower.launch()
            wait_until(partial(is_receiving, follower, seen), 30, 0.002)
            time.sleep(0.05 * killed)
            follower.kill()
            killed += 1
        assert killed > 1
        cluster.client(cluster.leader()).put(b"more", b"")
        cluster.restart(follower)
        cluster.assert_equal()
        wait_until(lambda: not any(map(leftovers, cluster.members)), 5)


def test_it_is_read_from_while_it_receives(tmp_path: Path) -> None:
    """First the old state, then the new one; nothing in between, and no error."""
    with three(tmp_path, proxied=True) as cluster:
        client = cluster.client(cluster.leader())
        for each in range(10):
            client.put(b"k%05d" % each, b"old")
        cluster.assert_equal()
        follower = cluster.others(cluster.leader())[0]
        for other in cluster.others(follower):
            cluster.faults.cut(follower.name, other.name)
        write_much(cluster)
        cluster.faults.heal()
        found: list[tuple[int, int]] = []
        while not found or found[-1][0] < KEYS:
            answer = cluster.client(follower).range(b"k", prefix_end(b"k"), serializable=True, limit=20)
            found.append((answer.count, sum(len(kv.value) for kv in answer.kvs)))
        assert set(found) == {(10, 30), (KEYS, 20 * VALUE_BYTES)}
        assert APPLYING in follower.log_text()
        cluster.assert_equal()


def test_neither_end_is_held_while_clients_write(tmp_path: Path) -> None:
    """python -m bench.catch_up does the same with a gigabyte. By the loop's own work alone: see LoopLag."""
    found = catch_up.run(100, tmp_path)
    assert found.failed_writes == 0
    assert found.writes > 50
    for end in (found.leader, found.follower):
        assert end.wakes > 100
        assert end.late_10ms <= end.wakes * 0.02, end
        assert end.worst_seconds <= 0.032, end


def test_a_newcomer_serves_as_soon_as_it_has_the_state(tmp_path: Path) -> None:
    """What it tells of itself may come back to it within that state: it does not wait for another answer."""
    with three(tmp_path, proxied=False) as cluster:
        client = cluster.client(cluster.leader())
        for each in range(200):
            client.put(b"k%05d" % each, b"")
        newcomer = cluster.add("etcdpy", learner=True)
        assert APPLYING in newcomer.log_text()
        assert "failed to publish" not in newcomer.log_text()
