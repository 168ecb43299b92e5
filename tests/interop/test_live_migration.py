"""A cluster moves from etcd to etcdpy and back, one member at a time, while it is used; and from etcd 3.6, which is
its upgrade as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.client import prefix_end, wait_until
from tests.support.cluster import Cluster, ClusterTls, cluster_versions
from tests.support.traffic import Watcher, Writer, every_event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.members import Kind

pytestmark = [pytest.mark.reference, pytest.mark.timeout(120)]


def replace_each(cluster: Cluster, kind: Kind, writer: Writer, count: int | None = None) -> None:
    """Replace one member after the other by one of that kind, or only so many."""
    for old in list(cluster.members)[:count]:
        new = cluster.add(kind, learner=True)
        cluster.promote(new)
        writer.wait(10)
        cluster.remove(old)
        writer.wait(10)
    cluster.assert_equal()


@pytest.mark.parametrize("way", [["etcd", "etcdpy", "etcd"], ["etcd-3.6", "etcdpy"]], ids=" to ".join)
def test_a_cluster_moves_while_it_is_used(way: list[Kind], tmp_path: Path) -> None:
    """Over mutual TLS, with a writer and a watcher: nothing acknowledged is lost, and the watcher misses nothing."""
    here, *further = way
    tls = ClusterTls.issue(tmp_path / "pki")
    prefix = b"/moving/"
    # Not strict: otherwise every addition has to wait until all members have been connected for 5 s.
    flags = ("--snapshot-count=50", "--snapshot-catchup-entries=10", "--strict-reconfig-check=false")
    with Cluster([here] * 3, tmp_path, tls=tls, flags=flags) as cluster:
        start = cluster.revision() + 1
        lease = cluster.client(cluster.leader()).grant(3600).ID
        cluster.client(cluster.leader()).put(b"leased", b"at first", lease=lease)
        with Watcher(cluster, prefix, start) as watcher, Writer(cluster, prefix) as writer:
            writer.wait(50)
            for kind in further:
                replace_each(cluster, kind, writer)
                assert {member.kind for member in cluster.members} == {kind}
            writer.wait(50)
            wait_until(lambda: cluster_versions(cluster) == {"3.7.0"}, 10)
            watcher.wait_revision(max(writer.acknowledged.values()))
        client = cluster.client(cluster.leader())
        assert client.range(b"leased").kvs[0].lease == lease
        found = {kv.key: kv.value for kv in client.range(prefix, prefix_end(prefix)).kvs}
        assert [key for key in writer.acknowledged if found.get(key) != key] == []
        count = len(watcher.events)
        assert watcher.events == every_event(client, prefix, start, count)[:count]
        told = {(event.key, event.revision) for event in watcher.events}
        assert writer.acknowledged.items() <= told
        print(f"{len(writer.acknowledged)} writes, {len(writer.failures)} failed tries, {watcher.streams} streams")


def test_an_upgrade_is_taken_back_while_one_member_is_of_the_older_release(tmp_path: Path) -> None:
    """Until the last one has gone the cluster runs as 3.6 does, so that members of 3.6 can come back into it."""
    prefix = b"/back/"
    flags = ("--snapshot-count=50", "--snapshot-catchup-entries=10", "--strict-reconfig-check=false")
    with Cluster(["etcd-3.6"] * 3, tmp_path, flags=flags) as cluster:
        with Writer(cluster, prefix) as writer:
            replace_each(cluster, "etcdpy", writer, 2)
            cluster.move_leader(next(member for member in cluster.members if member.kind == "etcdpy"))
            newcomer = cluster.add("etcd-3.6", learner=True)
            cluster.promote(newcomer)
            for old in [member for member in cluster.members if member.kind == "etcdpy"]:
                writer.wait(10)
                cluster.remove(old)
            writer.wait(10)
        assert {member.kind for member in cluster.members} == {"etcd-3.6"}
        assert cluster_versions(cluster) == {"3.6.0"}
        client = cluster.client(cluster.leader())
        found = {kv.key: kv.value for kv in client.range(prefix, prefix_end(prefix)).kvs}
        assert [key for key in writer.acknowledged if found.get(key) != key] == []
