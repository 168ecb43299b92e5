"""A member that missed more than the log holds gets the whole state, from and to either kind of member."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import prefix_end
from tests.support.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import ClusterMember
    from tests.support.members import Kind

pytestmark = [pytest.mark.reference, pytest.mark.timeout(120)]

FLAGS = ("--snapshot-count=100", "--snapshot-catchup-entries=20")


def alarms_and_members(cluster: Cluster, member: ClusterMember) -> list[list[bytes]]:
    """What a member knows by itself."""
    client = cluster.client(member)
    alarms = client.maintenance.Alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)).alarms
    members = client.cluster.MemberList(rpc_pb2.MemberListRequest(linearizable=False)).members
    assert [len(alarms), len(members)] == [1, len(cluster.members)]
    return [sorted(each.SerializeToString() for each in found) for found in (alarms, members)]


WAYS: list[tuple[Kind, Kind]] = [
    ("etcdpy", "etcdpy"),
    ("etcdpy", "etcd"),
    ("etcd", "etcdpy"),
    ("etcd", "etcd"),
    # What goes beside the file is for it alone, which reads that and panics where it is not etcd's old JSON.
    ("etcdpy", "etcd-3.6"),
    ("etcd-3.6", "etcdpy"),
]


@pytest.mark.parametrize(("leader_kind", "follower_kind"), WAYS)
def test_a_member_that_was_away_for_long(tmp_path: Path, leader_kind: Kind, follower_kind: Kind) -> None:
    with Cluster([leader_kind, leader_kind, follower_kind], tmp_path, flags=FLAGS) as cluster:
        follower = cluster.members[2]
        if cluster.leader() is follower:
            cluster.move_leader(cluster.members[0])
        follower.kill()
        client = cluster.client(cluster.members[0])
        lease = client.grant(600).ID
        for number in range(300):
            client.put(b"k%03d" % (number % 120), b"%d" % number, lease=lease if number % 10 == 0 else 0)
        client.delete(b"k007")
        client.compact(client.revision() - 50)
        alarm = rpc_pb2.AlarmRequest(memberID=follower.id, alarm=rpc_pb2.NOSPACE)
        alarm.action = rpc_pb2.AlarmRequest.ACTIVATE
        client.maintenance.Alarm(alarm)
        follower.launch()  # /health would wait for the alarm's end
        cluster.leader()
        cluster.assert_equal()
        assert alarms_and_members(cluster, follower) == alarms_and_members(cluster, cluster.members[0])
        alarm.action = rpc_pb2.AlarmRequest.DEACTIVATE
        client.maintenance.Alarm(alarm)
        assert "applied snapshot" in follower.log_text()
        own = cluster.client(follower)
        kept = own.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True))
        assert len(kept.keys) == 12
        assert not own.range(b"k007").kvs
        # It goes on from there by the log, and so it does after it was killed, and as leader.
        for number in range(30):
            own.put(b"later%d" % number, b"")
        follower.kill()
        cluster.restart(follower)
        cluster.assert_equal()
        cluster.move_leader(follower)
        own.put(b"last", b"")
        cluster.assert_equal()


@pytest.mark.parametrize("kind", ["etcd", "etcdpy"])
@pytest.mark.parametrize("compacted", [False, True])
def test_watchers_go_on_over_a_snapshot(tmp_path: Path, kind: Kind, compacted: bool) -> None:
    """They get each event once, or are told that some are gone for good."""
    with Cluster(["etcdpy", "etcdpy", kind], tmp_path, flags=FLAGS, proxied=True) as cluster:
        first, second, follower = cluster.members
        if cluster.leader() is follower:
            cluster.move_leader(first)
        client = cluster.client(first)
        with cluster.client(follower).watching() as stream:
            stream.create(b"w", prefix_end(b"w"))
            assert stream.next().created
            client.put(b"w", b"before")
            assert [event.kv.value for event in stream.events(1)] == [b"before"]
            for other in (first, second):
                cluster.faults.cut(follower.name, other.name)
            for number in range(300):
                client.put(b"w%d" % (number % 7), b"%d" % number)
            if compacted:
                client.compact(client.revision() - 10)
            cluster.faults.heal()
            if compacted:
                answer = stream.next(20)
                assert answer.canceled
                assert answer.compact_revision == client.revision() - 10
            else:
                assert [event.kv.value for event in stream.events(300, 20)] == [b"%d" % each for each in range(300)]
                client.put(b"w", b"after")
                assert [event.kv.value for event in stream.events(1)] == [b"after"]
        assert "applied snapshot" in follower.log_text()
        cluster.assert_equal()
