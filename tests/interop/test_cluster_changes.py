"""Changes of members asked of any member of a cluster of both kinds: who leads and who is asked makes no difference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Refusal, outcome, refusal
from tests.support.cluster import Cluster
from tests.support.members import Kind, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import ClusterMember

PAIRS: list[tuple[Kind, Kind]] = [("etcdpy", "etcdpy"), ("etcdpy", "etcd"), ("etcd", "etcdpy")]
NAMES = [f"{leader}-leads-{asked}-is-asked" for leader, asked in PAIRS]

HEALTHY_SECONDS = 5.5
"""Members must have been within reach for 5 s before the strict rules let anything change."""


@pytest.mark.reference
@pytest.mark.parametrize(("leading", "asked_kind"), PAIRS, ids=NAMES)
def test_changes_asked_of_a_follower(leading: Kind, asked_kind: Kind, tmp_path: Path) -> None:
    with Cluster([leading, asked_kind, "etcdpy"], tmp_path, flags=["--max-learners=1"]) as cluster:
        leader, asked, third = cluster.members
        cluster.move_leader(leader)
        client = cluster.client(asked)
        ready = time.monotonic() + HEALTHY_SECONDS
        move = rpc_pb2.MoveLeaderRequest(targetID=third.id)
        assert refusal(client.maintenance.MoveLeader, move) == Refusal("FailedPrecondition", "etcdserver: not leader")
        time.sleep(max(0.0, ready - time.monotonic()))

        learner = add_learner(cluster, asked)
        promote = rpc_pb2.MemberPromoteRequest(ID=learner)
        # The leader alone knows how far the learner is, so this comes back from it.
        assert refusal(client.cluster.MemberPromote, promote) == Refusal(
            "FailedPrecondition", "etcdserver: can only promote a learner member which is in sync with leader"
        )
        not_there = rpc_pb2.MemberPromoteRequest(ID=1)
        assert refusal(client.cluster.MemberPromote, not_there).text == "etcdserver: member not found"
        voter = rpc_pb2.MemberPromoteRequest(ID=third.id)
        assert refusal(client.cluster.MemberPromote, voter).text == "etcdserver: can only promote a learner member"
        client.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=learner), timeout=10)

        # One of three is down: neither may one more come, nor one that is well go; the one that is down may.
        third.kill()
        add = rpc_pb2.MemberAddRequest(peerURLs=[f"http://127.0.0.1:{free_port()}"])
        time.sleep(1)
        assert refusal(client.cluster.MemberAdd, add) == Refusal("Unavailable", "etcdserver: unhealthy cluster")
        well = rpc_pb2.MemberRemoveRequest(ID=leader.id)
        assert refusal(client.cluster.MemberRemove, well) == Refusal("Unavailable", "etcdserver: unhealthy cluster")
        left = client.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=third.id), timeout=10).members
        assert {each.ID for each in left} == {leader.id, asked.id}


def add_learner(cluster: Cluster, asked: ClusterMember) -> int:
    request = rpc_pb2.MemberAddRequest(peerURLs=[f"http://127.0.0.1:{free_port()}"], isLearner=True)
    added = outcome(cluster.client(asked).cluster.MemberAdd, request)
    assert isinstance(added, rpc_pb2.MemberAddResponse), added
    return added.member.ID


@pytest.mark.reference
@pytest.mark.parametrize("leading", ["etcd", "etcdpy"])
def test_a_cluster_of_both_kinds_is_downgraded_by_either(leading: Kind, tmp_path: Path) -> None:
    """Nobody runs the release below, so the cluster stays on its way until that is cancelled."""
    other: Kind = "etcd" if leading == "etcdpy" else "etcdpy"
    with Cluster([leading, other], tmp_path) as cluster:
        leader, follower = cluster.members
        cluster.move_leader(leader)
        actions = rpc_pb2.DowngradeRequest
        wait_for_versions(cluster, "3.7.0")
        cluster.client(follower).maintenance.Downgrade(actions(action=actions.ENABLE, version="3.6"), timeout=10)
        for member in cluster.members:
            wait_for_downgrade(cluster, member, "3.6.0")
        wait_for_versions(cluster, "3.6.0")
        cluster.client(follower).maintenance.Downgrade(actions(action=actions.CANCEL), timeout=10)
        wait_for_versions(cluster, "3.7.0")


def wait_for_downgrade(cluster: Cluster, member: ClusterMember, target: str) -> None:
    until = time.monotonic() + 10
    while True:
        status = cluster.status(member)
        if isinstance(status, rpc_pb2.StatusResponse) and status.downgradeInfo.targetVersion == target:
            assert status.downgradeInfo.enabled
            return
        assert time.monotonic() < until, f"{member.name} says {status}"
        time.sleep(0.05)


def wait_for_versions(cluster: Cluster, wanted: str) -> None:
    until = time.monotonic() + 15
    while {str(member.http("GET", "/version").json()["etcdcluster"]) for member in cluster.members} != {wanted}:
        assert time.monotonic() < until, f"no {wanted} in time"
        time.sleep(0.1)
