"""What a member of a cluster answers in each standing: leading, following, learning, without a leader, removed; and how
it leaves. Both kinds are held to the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import plyvel
import pytest

from etcdpy.backend import REVISION_BUCKET
from etcdpy.proto import rpc_pb2
from etcdpy.storage import leveldb
from tests.support.client import Refusal, outcome, refusal
from tests.support.cluster import Cluster, ClusterMember, ClusterTls
from tests.support.members import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.reference, pytest.mark.timeout(180)]

NO_LEADER = Refusal("Unavailable", "etcdserver: no leader")
NOT_FOR_LEARNERS = Refusal("FailedPrecondition", "etcdserver: rpc not supported for learner")
DEMANDS_LEADER = (("hasleader", "true"),)


def alter_record(member: ClusterMember) -> None:
    """Change the last byte of the newest record on a member's disk: valid in itself, but not what the others hold."""
    states = [path for path in (member.data_dir / "member").iterdir() if path.name.startswith("state")]
    database = plyvel.DB(str(states[0]), **leveldb.STATE_OPTIONS)
    try:
        with database.iterator(prefix=REVISION_BUCKET, reverse=True) as records:
            key, record = next(records)
        database.put(key, record[:-1] + bytes([record[-1] ^ 1]))
    finally:
        database.close()


def corrupt_alarms(cluster: Cluster) -> list[int]:
    """The members that the CORRUPT alarm names."""
    client = cluster.client(cluster.leader())
    alarms = client.maintenance.Alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)).alarms
    return [alarm.memberID for alarm in alarms if alarm.alarm == rpc_pb2.CORRUPT]


def put(key: bytes) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=b"v")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def cluster(kind: Kind, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster([kind] * 3, tmp_path) as running:
        yield running


@pytest.mark.parametrize("secure", [False, True])
def test_a_normal_start_and_stop_logs_no_error(secure: bool, tmp_path: Path) -> None:
    tls = ClusterTls.issue(tmp_path / "tls") if secure else None
    with Cluster(["etcdpy"] * 3, tmp_path, tls=tls) as cluster:
        cluster.client(cluster.leader()).kv.Put(put(b"k"))
        cluster.assert_equal()
        for member in cluster.members:
            member.terminate()
        for member in cluster.members:
            assert member.wait_ended() == 0
            assert '"level":"error"' not in member.log_text()


def test_a_stopping_leader_hands_over(cluster: Cluster) -> None:
    leader = cluster.leader()
    term = cluster.status(leader)
    assert isinstance(term, rpc_pb2.StatusResponse)
    others = cluster.others(leader)
    leader.terminate()
    began = time.monotonic()
    while (found := cluster.leader_now(others)) in (None, leader):
        assert time.monotonic() - began < 10
    handed_over = time.monotonic() - began
    assert leader.wait_ended() in (0, -15)  # etcd ends itself by the same signal
    gone = time.monotonic() - began
    assert found is not None
    now = cluster.status(found)
    assert isinstance(now, rpc_pb2.StatusResponse)
    assert now.raftTerm == term.raftTerm + 1
    if leader.kind == "etcdpy":
        assert handed_over < 0.5
        assert gone < 1.5
    cluster.client(found).kv.Put(put(b"after"))


def test_members_without_a_leader(cluster: Cluster) -> None:
    """Calls that demand a leader are refused at once, streams that do so end after three election timeouts."""
    left = cluster.members[0]
    client = cluster.client(left)
    client.kv.Put(put(b"k"))
    demanding, patient = client.watching(DEMANDS_LEADER), client.watching()
    for stream in (demanding, patient):
        stream.create(b"k")
    for other in cluster.others(left):
        other.kill()
    cluster.wait_leaderless(left)
    read = rpc_pb2.RangeRequest(key=b"k", serializable=True)
    assert refusal(client.kv.Range, read, metadata=DEMANDS_LEADER) == NO_LEADER
    assert isinstance(outcome(client.kv.Range, read), rpc_pb2.RangeResponse)
    status = cluster.status(left)
    assert isinstance(status, rpc_pb2.StatusResponse)
    assert list(status.errors) == ["etcdserver: no leader"]
    late = client.watching(DEMANDS_LEADER)
    late.create(b"k")
    assert late.wait_ended() == NO_LEADER
    assert demanding.wait_ended() == NO_LEADER
    assert patient.ended is None


def test_a_learner(cluster: Cluster, kind: Kind) -> None:
    cluster.client(cluster.leader()).kv.Put(put(b"k"))
    learner = cluster.add(kind, learner=True)
    client = cluster.client(learner)
    serializable = rpc_pb2.RangeRequest(key=b"k", serializable=True)
    deadline = time.monotonic() + 10
    while not client.kv.Range(serializable).kvs:
        assert time.monotonic() < deadline
    status = cluster.status(learner)
    assert isinstance(status, rpc_pb2.StatusResponse)
    assert status.isLearner
    for call, request in (
        (client.kv.Put, put(b"k")),
        (client.kv.Range, rpc_pb2.RangeRequest(key=b"k")),
        (client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=10)),
        (client.cluster.MemberList, rpc_pb2.MemberListRequest()),
    ):
        refused: Any = refusal(call, request)
        assert refused == NOT_FOR_LEARNERS
    stream = client.watching()
    stream.create(b"k")
    assert stream.wait_ended() == NOT_FOR_LEARNERS
    cluster.promote(learner)
    deadline = time.monotonic() + 10
    while isinstance(outcome(client.kv.Put, put(b"k")), Refusal):
        assert time.monotonic() < deadline


def test_a_removed_member_stops_itself(cluster: Cluster) -> None:
    gone = cluster.others(cluster.leader())[0]
    cluster.remove(gone)
    assert gone.wait_ended() == 0
    assert "the member has been permanently removed from the cluster" in gone.log_text()
    gone.launch()
    # etcd stops while it still opens its listeners, and calls that a failure.
    assert gone.wait_ended() in ((0,) if gone.kind == "etcdpy" else (0, 1))
    cluster.client(cluster.leader()).kv.Put(put(b"k"))


def test_leases_through_any_member(cluster: Cluster) -> None:
    leader = cluster.leader()
    granted = cluster.client(leader).lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=60))
    cluster.client(leader).kv.Put(rpc_pb2.PutRequest(key=b"leased", value=b"v", lease=granted.ID))
    for member in cluster.members:
        client = cluster.client(member)
        assert [answer.TTL for answer in client.keep_alive(granted.ID, 7)] == [60, 0]
        told = client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=granted.ID, keys=True))
        assert (told.grantedTTL, list(told.keys)) == (60, [b"leased"])
        assert 50 <= told.TTL <= 60
        assert told.header.member_id == member.id
        assert client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=7)).TTL == -1


def test_a_member_with_other_data_is_found_out(tmp_path: Path) -> None:
    """By itself before it serves, where that is asked for; else by the leader, who raises the alarm."""
    with Cluster(["etcdpy"] * 3, tmp_path, flags=["--corrupt-check-time=1s"]) as cluster:
        leader = cluster.leader()
        cluster.client(leader).kv.Put(put(b"k"))
        cluster.assert_equal()
        wrong = cluster.others(leader)[0]
        wrong.stop()
        alter_record(wrong)
        wrong.flags.append("--feature-gates=InitialCorruptCheck=true")
        wrong.launch()
        assert wrong.wait_ended() == 1
        assert "found data inconsistency with peers" in wrong.log_text()
        wrong.flags.pop()
        wrong.launch()
        deadline = time.monotonic() + 15
        while not (found := corrupt_alarms(cluster)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found == [wrong.id]
        refused = refusal(cluster.client(leader).kv.Put, put(b"k"))
        assert refused == Refusal("DataLoss", "etcdserver: corrupt cluster")
