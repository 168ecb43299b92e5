"""Cluster.MemberList of a cluster of one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.members import Member


@pytest.mark.parametrize("linearizable", [False, True])
def test_member_list(member: Member, client: Client, linearizable: bool) -> None:
    answer = client.cluster.MemberList(rpc_pb2.MemberListRequest(linearizable=linearizable))
    (only,) = answer.members
    assert only.name == "m1"
    assert list(only.peerURLs) == [f"http://127.0.0.1:{member.peer_port}"]
    assert list(only.clientURLs) == [member.client_url]
    assert only.isLearner is False
    # The header of a cluster call has no revision.
    assert answer.header.revision == 0
    assert answer.header.member_id == only.ID


def test_ids_follow_from_urls_and_token(member: Member, client: Client) -> None:
    answer = client.cluster.MemberList(rpc_pb2.MemberListRequest())
    text = f"http://127.0.0.1:{member.peer_port}" + "etcd-cluster"
    member_id = int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")
    cluster_id = int.from_bytes(hashlib.sha1(member_id.to_bytes(8, "big")).digest()[:8], "big")
    assert answer.members[0].ID == member_id
    assert answer.header.cluster_id == cluster_id


def test_ids_survive_a_restart(member: Member, client: Client) -> None:
    before = client.cluster.MemberList(rpc_pb2.MemberListRequest())
    member.kill()
    member.start()
    after = client.cluster.MemberList(rpc_pb2.MemberListRequest(), wait_for_ready=True, timeout=10)
    assert after.members == before.members
    assert after.header.cluster_id == before.header.cluster_id
    assert after.header.raft_term >= before.header.raft_term
