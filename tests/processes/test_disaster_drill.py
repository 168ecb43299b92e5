"""The disaster drill: three members under load, one snapshot, every disk lost, three new members from the file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import grpc
import pytest

from etcdpy.proto import rpc_pb2
from tests.support.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.client import Client
    from tests.support.cluster import ClusterMember

pytestmark = pytest.mark.timeout(180)

WRITERS = 4
BEFORE = 400
"""Acknowledged writes before the snapshot is taken."""


class Load:
    """Clients that write until they are stopped; what was acknowledged is kept by revision."""

    def __init__(self, cluster: Cluster) -> None:
        self.acknowledged: dict[int, tuple[bytes, bytes]] = {}
        self.enough = threading.Event()
        self._stop = threading.Event()
        client = cluster.client(cluster.leader())
        self._threads = [threading.Thread(target=self._write, args=(client, number)) for number in range(WRITERS)]

    def _write(self, client: Client, writer: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            key, value = b"w%d/%d" % (writer, count % 37), b"%d" % count
            try:
                if count % 11:
                    revision = client.put(key, value).header.revision
                    self.acknowledged[revision] = key, value
                else:
                    answer = client.delete(key)
                    if answer.deleted:
                        self.acknowledged[answer.header.revision] = key, b""
            except grpc.RpcError:
                self._stop.wait(0.05)  # an election, or the disaster has come
            if len(self.acknowledged) >= BEFORE:
                self.enough.set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        assert self.enough.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def save(client: Client, path: Path) -> None:
    with path.open("wb") as file:
        for part in client.maintenance.Snapshot(rpc_pb2.SnapshotRequest(), timeout=60):
            file.write(part.blob)
    content = path.read_bytes()
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]


def restore(path: Path, members: list[ClusterMember], *flags: str) -> None:
    together = ",".join(f"{member.name}={member.peer_url}" for member in members)
    for member in members:
        command = [sys.executable, "-m", "etcdpy.utl", "snapshot", "restore", str(path), f"--name={member.name}"]
        command += [f"--data-dir={member.data_dir}", f"--initial-cluster={together}"]
        command += [f"--initial-advertise-peer-urls={member.peer_url}", "--initial-cluster-token=after", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def disaster(cluster: Cluster, path: Path, *flags: str) -> tuple[Load, int]:
    """Load, snapshot, more load, the end of every disk, and three new members. Returns the revision of the file too."""
    with Load(cluster) as load:
        save(cluster.client(cluster.others(cluster.leader())[0]), path)
        load.enough.clear()
        cluster.kill_all()
    for member in cluster.members:
        shutil.rmtree(member.data_dir)
    command = [sys.executable, "-m", "etcdpy.utl", "snapshot", "status", str(path), "-w", "simple"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split(", ")
    restore(path, cluster.members, *flags)
    for member in cluster.members:
        member.launch()
    for member in cluster.members:
        member.wait_ready()
    cluster._learn_ids()
    return load, int(shown[1])


def test_every_revision_of_the_snapshot_is_back(tmp_path: Path) -> None:
    with Cluster(["etcdpy"] * 3, tmp_path) as cluster:
        load, revision = disaster(cluster, tmp_path / "backup.db")
        expected = {each: pair for each, pair in sorted(load.acknowledged.items()) if each <= revision}
        assert len(expected) > BEFORE - 3 * WRITERS
        for member in cluster.members:
            client = cluster.client(member)
            with client.watching() as stream:
                stream.create(b"\0", b"\0", start_revision=2)
                assert stream.next().created
                events = stream.events(revision - 1, 20)
            assert [event.kv.mod_revision for event in events] == list(range(2, revision + 1)), "each one, once"
            seen = {event.kv.mod_revision: (event.kv.key, event.kv.value) for event in events}
            assert {each: seen[each] for each in expected} == expected
        assert cluster.assert_equal() == revision
        leader = cluster.leader()
        assert cluster.client(leader).put(b"after").header.revision == revision + 1
        cluster.assert_equal()


def test_watchers_with_old_revisions_are_told_so(tmp_path: Path) -> None:
    with Cluster(["etcdpy"] * 3, tmp_path) as cluster:
        bump = 1_000_000
        flags = (f"--bump-revision={bump}", "--mark-compacted")
        load, revision = disaster(cluster, tmp_path / "backup.db", *flags)
        state: dict[bytes, bytes] = {}
        for each, (key, value) in sorted(load.acknowledged.items()):
            if each <= revision:
                state[key] = value
        client = cluster.client(cluster.leader())
        lost = max(load.acknowledged)
        assert cluster.revision() == revision + bump > lost
        for start in (2, revision, revision + 1, lost + 1):
            with client.watching() as stream:
                stream.create(b"\0", b"\0", start_revision=start)
                assert stream.next().created
                answer = stream.next()
                assert (answer.canceled, answer.compact_revision) == (True, revision + bump)
        found = {kv.key: kv.value for kv in client.range(b"\0", b"\0").kvs}
        known = {key: value for key, value in state.items() if value}
        # Writes that were in the file and whose answers nobody waited for may have come on top.
        assert known.keys() - found.keys() <= {key for key, _ in load.acknowledged.values()}
        assert sum(found.get(key) == value for key, value in known.items()) >= len(known) - 2 * WRITERS
        cluster.assert_equal()
