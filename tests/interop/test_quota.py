"""--quota-backend-bytes and the NOSPACE alarm on both servers: what is refused, what goes on, and the way out."""

from __future__ import annotations

import re
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, outcome, prefix_end, refusal, wait_until
from tests.support.cluster import Cluster
from tests.support.members import Kind, Member
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB: Final = 1024 * 1024
QUOTA_BYTES: Final = 12 * MIB
FLAGS: Final = [f"--quota-backend-bytes={QUOTA_BYTES}"]
NO_SPACE: Final = Refusal("ResourceExhausted", "etcdserver: mvcc: database space exceeded")
VALUE: Final = bytes(range(256)) * 2048
ALL: Final = (b"\0", b"\0")


def put_op(key: bytes, value: bytes = b"v") -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))


def delete_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key))


def nested(*operations: rpc_pb2.RequestOp) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=operations))


def alarms(client: Client, kind: rpc_pb2.AlarmType.ValueType = rpc_pb2.NONE) -> list[tuple[int, int]]:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET, alarm=kind)
    return sorted((each.memberID, each.alarm) for each in client.maintenance.Alarm(request).alarms)


def disarm(client: Client, member: int) -> list[rpc_pb2.AlarmMember]:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=member, alarm=rpc_pb2.NOSPACE)
    return list(client.maintenance.Alarm(request).alarms)


def fill(client: Client) -> int:
    """Put until the quota is passed. Returns how many puts were answered well."""
    for number in range(10_000):
        answer = outcome(client.kv.Put, rpc_pb2.PutRequest(key=b"fill/%05d" % number, value=VALUE))
        if isinstance(answer, Refusal):
            assert answer == NO_SPACE
            return number
    raise AssertionError("there is no quota")


def give_back_space(cluster: Cluster) -> None:
    """Defragment every member, again where its compaction had not removed everything yet."""

    def is_small(client: Client) -> bool:
        client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        return client.maintenance.Status(rpc_pb2.StatusRequest()).dbSize < MIB

    for each in cluster.members:
        wait_until(partial(is_small, cluster.client(each)), 10, 0.1)


@pytest.fixture
def member(kind: Kind, tmp_path: Path) -> Iterator[Member]:
    with Member(kind, tmp_path, flags=FLAGS) as running:
        yield running


@pytest.fixture
def client(member: Member) -> Iterator[Client]:
    with Client.of(member) as connected:
        yield connected


def test_a_full_store_and_the_way_out(member: Member, client: Client) -> None:
    lease = client.grant(600).ID
    client.put(b"leased", b"v", lease=lease)
    client.put(b"kept", b"before")
    own = client.maintenance.Status(rpc_pb2.StatusRequest()).header.member_id
    written = fill(client)
    assert written >= 8
    # The one who is refused finds the alarm raised.
    assert alarms(client) == alarms(client, rpc_pb2.NOSPACE) == [(own, rpc_pb2.NOSPACE)]
    assert alarms(client, rpc_pb2.CORRUPT) == []

    # What lets the store grow is refused, whichever way it comes.
    full = client.revision()
    assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"tiny")) == NO_SPACE
    assert refusal(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=60)) == NO_SPACE
    for operation in (put_op(b"t"), nested(put_op(b"t")), nested(nested(put_op(b"t")))):
        request = rpc_pb2.TxnRequest(success=[operation])
        assert refusal(client.kv.Txn, request) == NO_SPACE
        # The branch that would not be taken counts as well.
        assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(failure=[operation], success=[delete_op(b"no")])) == NO_SPACE
    assert client.revision() == full

    # Everything else goes on.
    assert client.range(b"kept").kvs[0].value == b"before"
    assert client.txn(success=[delete_op(b"kept")]).succeeded
    assert client.range(b"kept").count == 0
    assert client.keep_alive(lease)[0].TTL == 600
    client.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease))
    assert client.range(b"leased").count == 0
    assert client.delete(b"fill/", prefix_end(b"fill/")).deleted >= written

    # None of it is enough by itself, nor is disarming.
    assert disarm(client, own)[0].memberID == own
    assert disarm(client, own) == []
    assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"big", value=VALUE)) == NO_SPACE
    assert alarms(client) == [(own, rpc_pb2.NOSPACE)]
    client.compact(client.revision())
    assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"big", value=VALUE)) == NO_SPACE
    client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
    assert client.maintenance.Status(rpc_pb2.StatusRequest()).dbSize < 2 * MIB
    assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"big", value=VALUE)) == NO_SPACE
    disarm(client, own)
    client.put(b"big", VALUE)
    assert alarms(client) == []


def test_health_and_metrics_show_it(member: Member, client: Client) -> None:
    assert member.metric("etcd_server_quota_backend_bytes") == QUOTA_BYTES
    own = client.maintenance.Status(rpc_pb2.StatusRequest()).header.member_id
    fill(client)
    status = client.maintenance.Status(rpc_pb2.StatusRequest())
    assert status.dbSizeQuota == QUOTA_BYTES
    assert list(status.errors) in ([f"memberID:{own} alarm:NOSPACE"], [f"memberID:{own}  alarm:NOSPACE"])
    total = member.metric("etcd_mvcc_db_total_size_in_bytes")
    # On a slow machine much is put before real etcd writes its batch, and only then its file is longer.
    assert QUOTA_BYTES * 0.9 < total < QUOTA_BYTES * 3
    assert member.metric("etcd_mvcc_db_total_size_in_use_in_bytes") <= total
    labels = f'alarm_type="NOSPACE",server_id="{own:x}"'
    assert member.metric(f"etcd_debugging_server_alarms{{{labels}}}") == 1
    answer = member.http("GET", "/health")
    assert (answer.status, answer.json()) == (503, {"health": "false", "reason": "ALARM NOSPACE"})
    assert member.http("GET", "/health?exclude=NOSPACE").json()["health"] == "true"
    for path in ("/readyz", "/livez"):
        assert member.http("GET", path).status == 200


def test_the_alarm_survives_a_restart(member: Member) -> None:
    with Client.of(member) as client:
        fill(client)
        before = alarms(client)
    member.kill()
    member.launch()
    wait_until(lambda: "ready to serve client requests" in member.log_text().rpartition("starting etcd")[2], 20)
    with Client.of(member) as client:
        wait_until(lambda: not isinstance(outcome(client.maintenance.Status, rpc_pb2.StatusRequest()), Refusal), 20)
        assert alarms(client) == before
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")) == NO_SPACE
        client.delete(*ALL)
        client.compact(client.revision())
        client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        disarm(client, before[0][0])
        client.put(b"k")


def test_a_negative_quota_is_none(kind: Kind, tmp_path: Path) -> None:
    with Member(kind, tmp_path, flags=["--quota-backend-bytes=-1"]) as running, Client.of(running) as client:
        client.put(b"k", VALUE)
        assert running.metric("etcd_server_quota_backend_bytes") == -1
        assert client.maintenance.Status(rpc_pb2.StatusRequest()).dbSizeQuota == -1


def test_a_store_that_is_over_its_quota_at_the_start_refuses_the_first_put(kind: Kind, tmp_path: Path) -> None:
    running = Member(kind, tmp_path)
    with running, Client.of(running) as client:
        for number in range(24):
            client.put(b"%d" % number, VALUE)
    running.flags = FLAGS
    with running, Client.of(running) as client:
        assert alarms(client) == []
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")) == NO_SPACE
        assert len(alarms(client)) == 1


@pytest.mark.reference
def test_etcdctl_lists_and_disarms(member: Member, client: Client) -> None:
    def etcdctl(*words: str) -> tuple[int, str]:
        command = [str(reference_binary("etcdctl")), f"--endpoints={member.client_url}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, re.sub(r" +", " ", done.stdout + done.stderr)

    own = client.maintenance.Status(rpc_pb2.StatusRequest()).header.member_id
    shown = f"memberID:{own} alarm:NOSPACE\n"
    assert etcdctl("alarm", "list") == (0, "")
    fill(client)
    status, text = etcdctl("put", "k", "v")
    assert status == 1
    assert "etcdserver: mvcc: database space exceeded" in text
    assert etcdctl("alarm", "list") == (0, shown)
    assert etcdctl("endpoint", "health")[0] == 1
    assert etcdctl("del", "", "--from-key")[0] == 0
    assert etcdctl("compact", str(client.revision()), "--physical")[0] == 0
    assert etcdctl("defrag")[0] == 0
    assert etcdctl("alarm", "disarm") == (0, shown)
    assert etcdctl("alarm", "list") == (0, "")
    assert etcdctl("put", "k", "v") == (0, "OK\n")
    assert etcdctl("endpoint", "health")[0] == 0


THREE: Final[list[list[Kind]]] = [
    ["etcd", "etcd", "etcd"],
    ["etcdpy", "etcdpy", "etcdpy"],
    ["etcd", "etcd", "etcdpy"],
    ["etcdpy", "etcdpy", "etcd"],
]


@pytest.mark.reference
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kinds", THREE, ids="-".join)
def test_every_member_refuses_and_all_hold_the_same(kinds: list[Kind], tmp_path: Path) -> None:
    """Each member measures itself, so more than one may raise the alarm; whoever does stops all."""
    with Cluster(kinds, tmp_path, flags=FLAGS) as cluster:
        fill(cluster.client(cluster.members[-1]))
        for each in cluster.members:
            client = cluster.client(each)
            assert refusal(client.kv.Put, rpc_pb2.PutRequest(key=b"k")) == NO_SPACE
            assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(success=[nested(put_op(b"k"))])) == NO_SPACE
            assert refusal(client.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=60)) == NO_SPACE
            assert alarms(client)
        cluster.assert_equal()
        cluster.client(cluster.members[0]).delete(*ALL)
        for each in cluster.members:
            assert cluster.client(each).range(*ALL).count == 0
        cluster.client(cluster.members[1]).compact(cluster.revision())
        give_back_space(cluster)
        for raised, _ in alarms(cluster.client(cluster.members[1])):
            disarm(cluster.client(cluster.members[1]), raised)
        for each in cluster.members:
            cluster.client(each).put(each.name.encode(), VALUE)
        assert alarms(cluster.client(cluster.members[0])) == []
        cluster.assert_equal()


@pytest.mark.reference
@pytest.mark.timeout(120)
@pytest.mark.parametrize("small", ["etcd", "etcdpy"])
def test_a_member_with_a_smaller_quota_stops_the_cluster(small: Kind, tmp_path: Path) -> None:
    """It never takes a request itself: it finds out when it applies what others proposed."""
    cluster = Cluster([small, "etcdpy", "etcd"], tmp_path)
    cluster.members[0].flags = FLAGS
    with cluster:
        own = cluster.members[0].id
        for through in cluster.members[1:]:
            client = cluster.client(through)
            fill(client)
            wait_until(lambda client=client: alarms(client) == [(own, rpc_pb2.NOSPACE)])  # type: ignore[misc]
            client.delete(*ALL)
            client.compact(client.revision())
            give_back_space(cluster)
            disarm(client, own)
            client.put(b"again")
        cluster.assert_equal()
