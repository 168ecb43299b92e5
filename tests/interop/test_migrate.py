"""A stopped member of etcd goes on as one of etcdpy, and the other way, wherever it was stopped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, wait_until
from tests.support.cluster import Cluster
from tests.support.members import Kind, Member

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.proto import kv_pb2

pytestmark = pytest.mark.reference

WAYS: list[tuple[Kind, Kind]] = [("etcd", "etcdpy"), ("etcdpy", "etcd")]
EVERYTHING = {"key": b"\0", "range_end": b"\0"}


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "etcdpy.utl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def migrate(member: Member, kind: Kind) -> str:
    """Turn a stopped member into one of `kind`; what was its data directory is kept beside. Returns what was said."""
    assert not member.running
    old = member.data_dir.with_suffix(f".{member.kind}-old")
    shutil.rmtree(old, ignore_errors=True)
    member.data_dir.rename(old)
    code, told = run("migrate", f"--data-dir={old}", f"--output-dir={member.data_dir}")
    assert code == 0, told
    member.kind = kind
    if kind == "etcd":
        member.environment["ETCD_VERIFY"] = "all"
    return told


def facts(client: Client) -> tuple[list[kv_pb2.KeyValue], tuple[int, int], tuple[int, int], list[int]]:
    """Keys, HashKV, ids, leases."""
    answer = client.range(**EVERYTHING)
    hashed = client.maintenance.HashKV(rpc_pb2.HashKVRequest())
    leases = client.lease.LeaseLeases(rpc_pb2.LeaseLeasesRequest()).leases
    ids = answer.header.cluster_id, answer.header.member_id
    return list(answer.kvs), (hashed.hash, hashed.hash_revision), ids, sorted(lease.ID for lease in leases)


def fill(client: Client, count: int) -> None:
    for number in range(count):
        client.put(b"key %d" % (number % 50), b"%d" % number)
    client.delete(b"key 1")
    client.grant(5000, lease_id=70 + count)


@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_member_goes_on_as_the_other_kind(source: Kind, target: Kind, end: str, tmp_path: Path) -> None:
    # As long as nothing has it commit, etcd keeps in its log alone what was put last.
    member = Member(source, tmp_path, flags=["--snapshot-count=40", "--backend-batch-interval=1m"])
    with member, Client.of(member) as client:
        fill(client, 130)
        client.compact(60)
        fill(client, 5)
        before = facts(client)
        if end == "killed":
            member.kill()
        else:
            member.stop()
    told = migrate(member, target)
    if end == "killed" and source == "etcd":
        assert " 0 log entries" not in told
    with member, Client.of(member) as client:
        assert facts(client) == before
        fill(client, 60)
        between = facts(client)
        member.kill()
    migrate(member, source)
    with member, Client.of(member) as client:
        assert facts(client) == between
        fill(client, 7)


def test_a_downgraded_member_goes_on_as_one_of_the_older_release(tmp_path: Path) -> None:
    """As a real member does after a downgrade, whose binary is replaced; with it the downgrade is over."""

    def version() -> object:
        return member.http("GET", "/version").json()["etcdcluster"]

    member = Member("etcdpy", tmp_path, flags=["--snapshot-count=40"])
    with member, Client.of(member) as client:
        fill(client, 60)
        wait_until(lambda: version() == "3.7.0")
        enable = rpc_pb2.DowngradeRequest(action=rpc_pb2.DowngradeRequest.ENABLE, version="3.6.0")
        client.maintenance.Downgrade(enable, timeout=10)
        wait_until(lambda: version() == "3.6.0", 20)
        before = facts(client)
        member.stop()
    migrate(member, "etcd-3.6")
    with member, Client.of(member) as client:
        assert facts(client) == before
        assert version() == "3.6.0"
        wait_until(lambda: not client.maintenance.Status(rpc_pb2.StatusRequest()).downgradeInfo.enabled, 20)
        fill(client, 7)
        between = facts(client)
        member.kill()
    migrate(member, "etcdpy")
    with member, Client.of(member) as client:
        assert facts(client) == between
        wait_until(lambda: version() == "3.7.0", 20)


def test_a_member_that_had_just_begun(tmp_path: Path) -> None:
    member = Member("etcd", tmp_path)
    with member, Client.of(member) as client:
        ids = facts(client)[2]
        member.kill()
    migrate(member, "etcdpy")
    with member, Client.of(member) as client:
        assert facts(client)[2] == ids


def test_a_cluster_is_migrated_member_by_member(tmp_path: Path) -> None:
    with Cluster(["etcd", "etcd", "etcd"], tmp_path) as cluster:
        client = cluster.client(cluster.leader())
        for number in range(50):
            client.put(b"%d" % number, b"v")
        for member in cluster.members:
            member.stop()
            migrate(member, "etcdpy")
            cluster.restart(member)
            cluster.client(cluster.leader()).put(b"after", member.name.encode())
            cluster.assert_equal()


def test_a_member_that_runs_is_not_touched(tmp_path: Path) -> None:
    for kind in ("etcd", "etcdpy"):
        directory = tmp_path / kind
        directory.mkdir()
        with Member("etcd" if kind == "etcd" else "etcdpy", directory) as member:
            target = directory / "new"
            code, told = run("--timeout=100ms", "migrate", f"--data-dir={member.data_dir}", f"--output-dir={target}")
            assert code == 1
            assert "another process holds" in told
            assert not target.exists()


def test_damage_in_the_log_is_named(tmp_path: Path) -> None:
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        fill(client, 50)
        member.kill()
    (wal,) = (member.data_dir / "member" / "wal").glob("*-*.wal")
    content = bytearray(wal.read_bytes())
    content[800] ^= 1
    wal.write_bytes(content)
    code, told = run("migrate", f"--data-dir={member.data_dir}", f"--output-dir={tmp_path / 'new'}")
    assert code == 1
    assert f"{wal}: byte " in told
    assert "the checksum does not match" in told or "not a record" in told
    assert not (tmp_path / "new").exists()


def test_a_torn_end_of_the_log_is_passed_over(tmp_path: Path) -> None:
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        fill(client, 50)
        before = facts(client)
        member.kill()
    (wal,) = (member.data_dir / "member" / "wal").glob("*-*.wal")
    content = bytearray(wal.read_bytes())
    end = len(bytes(content).rstrip(b"\0"))
    end += -end % 8
    content[end : end + 8] = (4000).to_bytes(8, "little")
    content[end + 8 : end + 100] = b"\x08\x02" + b"x" * 90
    wal.write_bytes(content)
    migrate(member, "etcdpy")
    with member, Client.of(member) as client:
        assert facts(client) == before


def test_check_reads_a_member_that_was_killed(tmp_path: Path) -> None:
    with Member("etcdpy", tmp_path) as member, Client.of(member) as client:
        fill(client, 100)
        member.kill()
    assert run("check", f"--data-dir={member.data_dir}")[0] == 0
    (segment,) = (member.data_dir / "member" / "log").iterdir()
    content = bytearray(segment.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    segment.write_bytes(content)
    code, told = run("check", f"--data-dir={member.data_dir}")
    assert (code, told.startswith("Error: ")) == (1, True)
    assert f"{segment}: batch " in told
    assert "is damaged" in told
