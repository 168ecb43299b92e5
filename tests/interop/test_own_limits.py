"""Limits that etcd does not have, on a running member: all are off unless their flags are given."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.certificates import TestAuthority
from tests.support.client import Client, Refusal, outcome, refusal, wait_until
from tests.support.cluster import Cluster, ClusterMember
from tests.support.members import Member, TlsFiles

VALUE = bytes(512 * 1024)
ALL = (b"\0", b"\0")
TOO_MANY = Refusal("ResourceExhausted", "etcdpy: too many requests a second from this user or client")


def fill(client: Client) -> None:
    for number in range(100):
        answer = outcome(client.kv.Put, rpc_pb2.PutRequest(key=b"%d" % number, value=VALUE))
        if isinstance(answer, Refusal):
            return
    raise AssertionError("there is no quota")


def can_put(client: Client) -> bool:
    return not isinstance(outcome(client.kv.Put, rpc_pb2.PutRequest(key=b"k")), Refusal)


def test_three_members_come_out_of_no_space_by_themselves(tmp_path: Path) -> None:
    """What is left to the operator is to delete and to compact."""
    flags = [f"--quota-backend-bytes={12 * 1024 * 1024}", "--auto-space-reclaim", "--auto-alarm-disarm"]
    with Cluster(["etcdpy", "etcdpy", "etcdpy"], tmp_path, flags=flags) as cluster:
        client = cluster.client(cluster.members[0])
        fill(client)
        time.sleep(1.5)
        assert not can_put(client)  # nothing can be given back yet
        client.delete(*ALL)
        client.compact(client.revision())

        def is_well(member: ClusterMember) -> bool:
            status = cluster.status(member)
            return isinstance(status, rpc_pb2.StatusResponse) and not status.errors and status.dbSize < 9 * 1024 * 1024

        # Each in its own time, and as far as space is scarce there: while one is still full, its alarm may come again.
        wait_until(lambda: all(map(is_well, cluster.members)), 15)
        for member in cluster.members:
            cluster.client(member).put(b"k", VALUE)
        cluster.assert_equal()


def test_without_the_flags_nobody_disarms(tmp_path: Path) -> None:
    flags = [f"--quota-backend-bytes={12 * 1024 * 1024}"]
    with Member("etcdpy", tmp_path, flags=flags) as running, Client.of(running) as client:
        fill(client)
        client.delete(*ALL)
        client.compact(client.revision())
        time.sleep(2.5)
        assert not can_put(client)
        assert client.maintenance.Status(rpc_pb2.StatusRequest()).dbSize > 10 * 1024 * 1024


@pytest.fixture
def two_clients(tmp_path: Path) -> tuple[TlsFiles, TlsFiles]:
    """Certificates of two clients, `ann` and `bob`, of one authority."""
    authority = TestAuthority(tmp_path)
    server = authority.issue("server", "server")
    ann, bob = (authority.issue("client", name) for name in ("ann", "bob"))

    def files(client: Any) -> TlsFiles:
        return TlsFiles(*(Path(each) for each in (authority.path, server.cert, server.key, client.cert, client.key)))

    return files(ann), files(bob)


def test_one_client_s_flood_leaves_the_other_alone(tmp_path: Path, two_clients: tuple[TlsFiles, TlsFiles]) -> None:
    ann_files, bob_files = two_clients
    flags = ["--client-requests-per-second=20", "--client-watches-per-second=3"]
    with (
        Member("etcdpy", tmp_path, tls=ann_files, flags=flags) as running,
        Client(running.endpoint, ann_files) as ann,
        Client(running.endpoint, bob_files) as bob,
    ):
        answers = [outcome(ann.kv.Put, rpc_pb2.PutRequest(key=b"k")) for _ in range(100)]
        refused = [each for each in answers if isinstance(each, Refusal)]
        assert set(refused) == {TOO_MANY}
        assert len(refused) >= 50
        assert not isinstance(outcome(bob.kv.Put, rpc_pb2.PutRequest(key=b"k")), Refusal)
        # Health probes are not counted, and the flood is over when it is over.
        assert running.http("GET", "/health").json()["health"] == "true"
        wait_until(lambda: not isinstance(outcome(ann.kv.Put, rpc_pb2.PutRequest(key=b"k")), Refusal), 5, 0.2)
        with bob.watching() as stream:
            for _ in range(4):
                stream.create(b"k")
            created = [stream.next() for _ in range(4)]
            assert sorted(each.canceled for each in created) == [False, False, False, True]
            (late,) = [each for each in created if each.canceled]
            assert "too many watches a second" in late.cancel_reason
            assert late.header.cluster_id == created[0].header.cluster_id
            bob.put(b"k")
            assert len(stream.events(3)) == 3
        assert running.metric('etcdpy_client_requests_refused_total{kind="requests"}') >= 50
        assert running.metric('etcdpy_client_requests_refused_total{kind="watches"}') == 1


def test_the_audit_log_of_a_member(tmp_path: Path, two_clients: tuple[TlsFiles, TlsFiles]) -> None:
    ann_files, bob_files = two_clients
    path = tmp_path / "audit.log"
    with Member("etcdpy", tmp_path, tls=ann_files, flags=[f"--audit-log-file={path}"]) as running:
        with Client(running.endpoint, ann_files) as ann, Client(running.endpoint, bob_files) as bob:
            ann.put(b"a", b"s3cret value")
            ann.range(b"a")
            bob.delete(b"a")
            assert refusal(bob.kv.Put, rpc_pb2.PutRequest(key=b"b", lease=99)).code == "NotFound"
            outcome(ann.auth.Authenticate, rpc_pb2.AuthenticateRequest(name="root", password="s3cret password"))
            assert len(list(ann.maintenance.Snapshot(rpc_pb2.SnapshotRequest()))) > 1
        assert running.stop() == 0
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    shown = [(line["user"], line["method"].rpartition("/")[2], line.get("keys"), line["outcome"]) for line in lines]
    assert shown[:3] == [
        ("ann", "Put", [{"op": "put", "key": "a"}], "OK"),
        ("bob", "DeleteRange", [{"op": "delete", "key": "a"}], "OK"),
        ("bob", "Put", [{"op": "put", "key": "b"}], "NotFound"),
    ]
    assert shown[3][:3] == ("ann", "Authenticate", None)
    assert shown[3][3] != "OK"
    assert lines[3]["request"] == {"name": "root"}
    assert shown[4] == ("ann", "Snapshot", None, "OK")
    assert all(line["from"].startswith("127.0.0.1:") for line in lines)
    assert "s3cret" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_audit_log_names_the_user_of_a_token_and_what_was_denied(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    flags = [f"--audit-log-file={path}", "--audit-log-keys=hash"]
    with Member("etcdpy", tmp_path, flags=flags) as running, Client.of(running) as client:
        for name in ("root", "ann"):
            client.auth.UserAdd(rpc_pb2.AuthUserAddRequest(name=name, password="s3cret password"))
        client.auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
        client.auth.AuthEnable(rpc_pb2.AuthEnableRequest())

        def token(name: str) -> tuple[tuple[str, str], ...]:
            request = rpc_pb2.AuthenticateRequest(name=name, password="s3cret password")
            return (("token", client.auth.Authenticate(request).token),)

        tokens = {name: token(name) for name in ("root", "ann")}
        put = rpc_pb2.PutRequest(key=b"hidden key", value=b"s3cret value")
        client.kv.Put(put, metadata=tokens["root"])
        assert refusal(client.kv.Put, put, metadata=tokens["ann"]).code == "PermissionDenied"
        assert refusal(client.kv.Put, put, metadata=(("token", "made up"),)).code == "Unauthenticated"
        assert running.stop() == 0
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    shown = [(line["user"], line["method"].rpartition("/")[2], line["outcome"]) for line in lines]
    assert shown[:4] == [("", name, "OK") for name in ("UserAdd", "UserAdd", "UserGrantRole", "AuthEnable")]
    assert shown[-3:] == [("root", "Put", "OK"), ("ann", "Put", "PermissionDenied"), ("", "Put", "Unauthenticated")]
    assert [line["request"]["name"] for line in lines if line["method"].endswith("Authenticate")] == ["root", "ann"]
    for secret in ("s3cret", "hidden", "made up", *(value for pairs in tokens.values() for _, value in pairs)):
        assert secret not in text


def test_an_audit_log_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    running = Member("etcdpy", tmp_path, flags=[f"--audit-log-file={tmp_path}/no/audit.log"])
    running.launch()
    assert running.wait_ended() == 1
    assert "--audit-log-file: open" in running.log_text()
