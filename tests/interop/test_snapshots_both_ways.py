"""What etcdpy saves real etcd restores, and the other way: by each one's own tools, equal in every revision."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import auth_pb2, kv_pb2, rpc_pb2
from etcdpy.storage import key_file
from tests.support.backend_file import check_with_bbolt
from tests.support.client import Client, Refusal, outcome, wait_until
from tests.support.members import Kind, Member
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.reference

KINDS: Sequence[Kind] = ("etcd", "etcdpy")
WAYS = [(source, target) for source in KINDS for target in KINDS if (source, target) != ("etcd", "etcd")]
EVERYTHING = {"key": b"\0", "range_end": b"\0"}


def fill(client: Client) -> None:
    """Keys, deletions, a lease, a compaction."""
    for number in range(300):
        client.put(b"key %03d" % (number % 120), b"value %d" % number * 20)
    client.delete(b"key 000", b"key 010")
    client.grant(7000, lease_id=77)
    client.put(b"leased", b"v", lease=77)
    client.compact(100)
    client.put(b"after", b"1")


def save(member: Member, path: Path) -> None:
    """Real etcdctl saves."""
    command = [str(reference_binary("etcdctl")), f"--endpoints={member.endpoint}", "snapshot", "save", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Snapshot saved at" in done.stdout
    assert "Server version 3.7.0" in done.stdout


def restored(kind: Kind, path: Path, directory: Path, *flags: str) -> Member:
    """A member, not started, over what its own tool makes of a file."""
    member = Member(kind, directory, name="new")
    own = [flag for flag in member.peer_flags() if not flag.startswith("--listen")]
    tool = [str(reference_binary("etcdutl"))] if kind == "etcd" else [sys.executable, "-m", "etcdpy.utl"]
    command = [*tool, "snapshot", "restore", str(path), f"--data-dir={member.data_dir}", f"--name={member.name}"]
    done = subprocess.run([*command, *own, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return member


def all_keys(client: Client, revision: int = 0) -> list[kv_pb2.KeyValue]:
    return list(client.range(**EVERYTHING, revision=revision).kvs)


def hash_kv(client: Client, revision: int = 0) -> tuple[int, int, int]:
    answer = client.maintenance.HashKV(rpc_pb2.HashKVRequest(revision=revision))
    return answer.hash, answer.compact_revision, answer.hash_revision


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_saved_file_is_restored(source: Kind, target: Kind, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with Member(source, tmp_path) as member, Client.of(member) as client:
        fill(client)
        save(member, path)
        before = all_keys(client)
        hashes = [hash_kv(client, revision) for revision in (0, 150, 250)]
        (old,) = client.cluster.MemberList(rpc_pb2.MemberListRequest()).members
    check_with_bbolt(path)
    with restored(target, path, tmp_path) as member, Client.of(member) as client:
        assert all_keys(client) == before
        assert [hash_kv(client, revision) for revision in (0, 150, 250)] == hashes
        (lease,) = client.lease.LeaseLeases(rpc_pb2.LeaseLeasesRequest()).leases
        told = client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=77, keys=True))
        assert (lease.ID, list(told.keys), told.grantedTTL) == (77, [b"leased"], 7000)
        (new,) = client.cluster.MemberList(rpc_pb2.MemberListRequest()).members
        assert (new.name, new.ID != old.ID) == ("new", True)
        revision = client.revision()
        assert client.delete(b"key 011").header.revision == revision + 1, "it works on"


def test_ids_are_those_that_etcdutl_gives(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with Member("etcdpy", tmp_path) as member, Client.of(member) as client:
        client.put(b"a", b"1")
        save(member, path)
    found = []
    ports: tuple[int, int] | None = None
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        member = Member(kind, tmp_path / kind, name="new")
        if ports:
            member.client_port, member.peer_port = ports
        ports = member.client_port, member.peer_port
        own = [flag for flag in member.peer_flags() if not flag.startswith("--listen")]
        tool = [str(reference_binary("etcdutl"))] if kind == "etcd" else [sys.executable, "-m", "etcdpy.utl"]
        arguments = ["snapshot", "restore", str(path), f"--data-dir={member.data_dir}", "--name=new", *own]
        subprocess.run([*tool, *arguments, "--initial-cluster-token=t"], check=True, capture_output=True, timeout=60)
        with member, Client.of(member) as client:
            header = client.maintenance.Status(rpc_pb2.StatusRequest()).header
            found.append((header.cluster_id, header.member_id, header.revision))
    assert found[0] == found[1]


@pytest.mark.parametrize("target", KINDS)
def test_a_bumped_revision_tells_watchers_to_start_anew(target: Kind, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with Member("etcdpy", tmp_path) as member, Client.of(member) as client:
        for number in range(20):
            client.put(b"k", b"%d" % number)
        save(member, path)
        revision = client.revision()
    bumped = revision + 1000
    new = restored(target, path, tmp_path, "--bump-revision=1000", "--mark-compacted")
    with new as member, Client.of(member) as client, client.watching() as stream:
        assert client.revision() == bumped
        assert client.range(b"k").kvs[0].value == b"19"
        stream.create(b"k", start_revision=revision + 1)
        assert stream.next().created
        answer = stream.next()
        assert (answer.canceled, answer.compact_revision) == (True, bumped)
        assert client.put(b"k", b"new").header.revision == bumped + 1


def test_the_file_is_of_one_revision_while_writes_go_on(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    done = threading.Event()
    with Member("etcdpy", tmp_path) as member, Client.of(member) as client:
        for number in range(400):
            client.put(b"large %d" % number, bytes(20_000))

        def write() -> None:
            """Two keys that are always equal."""
            number = 0
            while not done.is_set():
                number += 1
                ops = [
                    rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=b"%d" % number))
                    for key in (b"a", b"b")
                ]
                client.txn(success=ops)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_until(lambda: bool(client.range(b"a").kvs))
            first = client.revision()
            save(member, path)
            last = client.revision()
        finally:
            done.set()
            writer.join()
        assert last > first
    status = check_with_bbolt(path)
    assert first <= status["revision"] <= last
    with restored("etcd", path, tmp_path) as member, Client.of(member) as client:
        assert client.revision() == status["revision"]
        assert client.range(b"a").kvs[0].value == client.range(b"b").kvs[0].value


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_alarms_go_along(source: Kind, target: Kind, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with Member(source, tmp_path) as member, Client.of(member) as client:
        raised = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=5, alarm=rpc_pb2.NOSPACE)
        client.maintenance.Alarm(raised)
        save(member, path)
    member = restored(target, path, tmp_path).launch()  # it is not healthy with an alarm
    try:
        with Client.of(member) as client:
            wait_until(lambda: not isinstance(outcome(client.maintenance.Alarm, rpc_pb2.AlarmRequest()), Refusal))
            alarms = client.maintenance.Alarm(rpc_pb2.AlarmRequest()).alarms
    finally:
        member.kill()
    assert [(alarm.memberID, alarm.alarm) for alarm in alarms] == [(5, rpc_pb2.NOSPACE)]


def test_an_encrypted_member_saves_what_anybody_restores(tmp_path: Path) -> None:
    keys, path = tmp_path / "keys", tmp_path / "backup.db"
    keys.touch(mode=0o600)
    keys.write_text(key_file.new_line("k"))
    with Member("etcdpy", tmp_path, flags=[f"--encryption-key-file={keys}"]) as member, Client.of(member) as client:
        fill(client)
        save(member, path)
        before, hashed = all_keys(client), hash_kv(client)
    with restored("etcd", path, tmp_path) as member, Client.of(member) as client:
        assert all_keys(client) == before
        assert hash_kv(client) == hashed


def test_users_and_roles_go_along(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        client.auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="u", password="p"))
        client.auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="r"))
        permission = auth_pb2.Permission(permType=auth_pb2.Permission.READ, key=b"k")
        client.auth.RoleGrantPermission(rpc_pb2.AuthRoleGrantPermissionRequest(name="r", perm=permission))
        client.auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="u", role="r"))
        save(member, path)
    through, again = tmp_path / "through", tmp_path / "again"
    through.mkdir()
    again.mkdir()
    with restored("etcdpy", path, through) as member:
        save(member, through / "backup.db")
    with restored("etcd", through / "backup.db", again) as member, Client.of(member) as client:
        assert list(client.auth.UserGet(rpc_pb2.AuthUserGetRequest(name="u")).roles) == ["r"]
        (granted,) = client.auth.RoleGet(rpc_pb2.AuthRoleGetRequest(role="r")).perm
        assert granted == permission
