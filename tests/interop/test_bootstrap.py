"""How members begin, on real etcd and on etcdpy: what is refused with which words, discovery, and the way back to one.

The cluster that is joined, and the registry of discovery, are of the other kind where that is worth something.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, outcome
from tests.support.cluster import Cluster
from tests.support.members import Kind, Member, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import ClusterMember

OTHER: dict[Kind, Kind] = {"etcd": "etcdpy", "etcdpy": "etcd"}


def refusal_of(member: Member) -> str:
    """The error that a member ends with which must not start; exit status 1, on a line of the log."""
    member.launch()
    assert member.wait_ended(40) == 1, member.log_tail()
    lines = [json.loads(line) for line in member.log_text().splitlines() if line.startswith("{")]
    (said,) = [line["error"] for line in lines if line["msg"] == "discovery failed"]
    return str(said)


def newcomer(kind: Kind, directory: Path, *flags: str, urls: str = "") -> Member:
    """A member called m2, about to start; flags come after those of a lone founder, so that the last one wins."""
    member = Member(kind, directory / "m2", name="m2")
    member.flags = [flag.replace("OWN", urls or f"http://127.0.0.1:{member.peer_port}") for flag in flags]
    return member


@pytest.fixture(scope="module")
def running(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A lone member of the other kind."""
    with Member(OTHER[kind], tmp_path_factory.mktemp("running")) as member:
        yield member


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--initial-cluster=m1=OWN"], 'couldn\'t find local name "m2" in the initial cluster configuration'),
        (
            ["--initial-cluster=m2=http://127.0.0.1:9"],
            "--initial-cluster has m2=http://127.0.0.1:9 but missing from --initial-advertise-peer-urls=OWN",
        ),
        (
            ["--initial-cluster=m2=OWN", "--initial-advertise-peer-urls=OWN,http://127.0.0.1:9"],
            "--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from --initial-cluster=m2=",
        ),
        (["--initial-cluster=m1=OWN,m2=OWN"], "initial cluster m1=OWN,m2=OWN has duplicate url"),
        (["--initial-cluster-state=existing"], "could not retrieve cluster information from the given URLs"),
        (
            ["--initial-cluster-state=existing", "--initial-cluster=m1=http://127.0.0.1:9,m2=OWN"],
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs",
        ),
        (
            ["--initial-cluster-state=existing", "--initial-cluster=m1=http://127.0.0.1:9"],
            'couldn\'t find local name "m2" in the initial cluster configuration',
        ),
        (
            ["--initial-cluster=", "--discovery-srv=nothing.invalid"],
            "error querying DNS SRV records for _etcd-server",
        ),
    ],
)
def test_flags_that_fit_no_cluster(kind: Kind, tmp_path: Path, flags: list[str], words: str) -> None:
    member = newcomer(kind, tmp_path, *flags)
    assert words.replace("OWN", f"http://127.0.0.1:{member.peer_port}") in refusal_of(member)


def test_who_was_not_added_cannot_join(kind: Kind, tmp_path: Path, running: Member) -> None:
    member = newcomer(
        kind,
        tmp_path,
        "--initial-cluster-state=existing",
        f"--initial-cluster=m1=http://127.0.0.1:{running.peer_port},m2=OWN",
    )
    said = refusal_of(member)
    assert "error validating peerURLs {ClusterID:" in said
    assert f"PeerURLs:[http://127.0.0.1:{running.peer_port}] IsLearner:false}}" in said
    assert f"Attributes:{{Name:m1 ClientURLs:[{running.client_url}]}}}}] RemovedMemberIDs:[]}}: member count" in said
    assert "member count is unequal" in said


def test_the_urls_must_be_those_that_were_added(kind: Kind, tmp_path: Path, running: Member) -> None:
    strange = f"http://127.0.0.1:{free_port()}"
    with Client.of(running) as client:
        request = rpc_pb2.MemberAddRequest(peerURLs=[strange], isLearner=True)
        added = client.cluster.MemberAdd(request).member
        try:
            member = newcomer(
                kind,
                tmp_path,
                "--initial-cluster-state=existing",
                f"--initial-cluster=m1=http://127.0.0.1:{running.peer_port},m2=OWN",
            )
            said = refusal_of(member)
        finally:
            client.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=added.ID))
    assert f"PeerURLs: no match found for existing member ({added.ID:x}, [{strange}]), last resolver error (" in said


def test_a_member_that_lost_its_data_must_not_found_again(kind: Kind, tmp_path: Path) -> None:
    with Cluster([kind, OTHER[kind]], tmp_path) as cluster:
        lost = cluster.members[0]
        lost.kill()
        lost.wipe()
        lost.log_path.unlink()
        assert f"member {lost.id:x} has already been bootstrapped" in refusal_of(lost)


def set_size(registry: Member, token: str, size: str) -> None:
    with Client.of(registry) as client:
        key = f"/_etcd/registry/{token}/_config/size"
        client.kv.Put(rpc_pb2.PutRequest(key=key.encode(), value=size.encode()))


def discovering(kind: Kind, directory: Path, name: str, registry: Member, token: str) -> Member:
    member = Member(kind, directory / name, name=name)
    member.flags = [
        "--initial-cluster=",
        f"--discovery-endpoints={registry.client_url}",
        f"--discovery-token={token}",
    ]
    return member


class TestDiscovery:
    def test_members_of_both_kinds_find_each_other(self, kind: Kind, tmp_path: Path, running: Member) -> None:
        set_size(running, "two", "2")
        first, second = (
            discovering(each, tmp_path, f"d{number}", running, "two")
            for number, each in enumerate((kind, OTHER[kind]), 1)
        )
        try:
            first.launch()
            time.sleep(0.5)
            second.launch()
            for member in (first, second):
                member.wait_ready()
            with Client.of(first) as client:
                members = client.cluster.MemberList(rpc_pb2.MemberListRequest(linearizable=True)).members
                cluster_id = client.kv.Put(rpc_pb2.PutRequest(key=b"k")).header.cluster_id
            assert {each.name for each in members} == {"d1", "d2"}
            with Client.of(running) as client:
                request = rpc_pb2.RangeRequest(key=b"/_etcd/registry/two/members", range_end=b"/_etcd/registry/two/n")
                registered = {each.key: each.value for each in client.kv.Range(request).kvs}
            assert registered == {
                f"/_etcd/registry/two/members/{each.ID:x}".encode(): f"{each.name}={each.peerURLs[0]}".encode()
                for each in members
            }
            assert cluster_id
            late = discovering(kind, tmp_path, "d3", running, "two")
            late.launch()
            assert late.wait_ended(20) == 1
            assert "failed to join discovery cluster (discovery: cluster is full)" in late.log_text()
            assert "do not reuse discovery token; generate a new one to bootstrap a cluster" in late.log_text()
        finally:
            for member in (first, second):
                member.kill()

    @pytest.mark.parametrize(("size", "words"), [("", "size key not found"), ("many", "size key is bad")])
    def test_the_registry_must_know_the_size(
        self, kind: Kind, tmp_path: Path, running: Member, size: str, words: str
    ) -> None:
        token = f"size-{size}"
        if size:
            set_size(running, token, size)
        member = discovering(kind, tmp_path, "d1", running, token)
        member.launch()
        assert member.wait_ended(20) == 1
        assert f"failed to join discovery cluster (discovery: {words})" in member.log_text()


def test_one_member_goes_on_alone(kind: Kind, tmp_path: Path) -> None:
    """Two of three are lost for good; the third keeps the data, and the cluster grows again from there."""
    with Cluster([kind, OTHER[kind], OTHER[kind]], tmp_path) as cluster:
        survivor = cluster.members[0]
        client = cluster.client(survivor)
        client.kv.Put(rpc_pb2.PutRequest(key=b"kept", value=b"v"), timeout=10)
        before = client.cluster.MemberList(rpc_pb2.MemberListRequest()).header
        time.sleep(0.5)  # what it does not know to be committed is dropped
        cluster.kill_all()
        survivor.flags.append("--force-new-cluster")
        survivor.start()
        survivor.flags.remove("--force-new-cluster")
        wait(lambda: [each.ID for each in listed(cluster, survivor)] == [survivor.id])
        answer = client.kv.Range(rpc_pb2.RangeRequest(key=b"kept"), wait_for_ready=True, timeout=10)
        assert [each.value for each in answer.kvs] == [b"v"]
        assert answer.header.cluster_id == before.cluster_id
        for lost in cluster.others(survivor):
            cluster.members.remove(lost)
            request = rpc_pb2.MemberRemoveRequest(ID=lost.id)
            refused = outcome(client.cluster.MemberRemove, request)
            assert getattr(refused, "text", "") == "etcdserver: member not found"
        second = cluster.add(OTHER[kind])
        assert {each.ID for each in listed(cluster, survivor)} == {survivor.id, second.id}
        survivor.kill()
        survivor.start()
        wait(lambda: len(listed(cluster, survivor)) == 2)


def listed(cluster: Cluster, member: ClusterMember) -> list[rpc_pb2.Member]:
    request = rpc_pb2.MemberListRequest()
    return list(cluster.client(member).cluster.MemberList(request, wait_for_ready=True, timeout=10).members)


def wait(condition: object, seconds_max: float = 15.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)
