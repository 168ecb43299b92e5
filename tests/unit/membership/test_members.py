"""Identities and attributes of members."""

from __future__ import annotations

import pytest

from etcdpy.membership.members import Member, Membership, cluster_id, member_id
from tests.support.memory_backend import MemoryBackend


def test_ids_are_those_that_etcd_computes() -> None:
    """Recorded from real etcd started with its default flags."""
    member = member_id(["http://localhost:2380"], "etcd-cluster")
    assert f"{member:x}" == "8e9e05c52164694d"
    assert f"{cluster_id([member]):x}" == "cdf818194e3a8c32"


def test_what_is_stored_comes_back() -> None:
    backend = MemoryBackend()
    membership = Membership(backend)
    membership.found(7, 1)
    membership.add(Member(2, ("http://b:2380",), "b"))
    membership.add(Member(1, ("http://a:2380",), "a", is_learner=True))
    membership.set_attributes(2, "bee", ["http://b:2379"])
    membership.set_attributes(9, "nobody", [])
    membership.set_version("3.7.0")

    restored = Membership(backend)
    restored.restore()
    assert restored.cluster_id == 7
    assert restored.own_id == 1
    assert restored.version == "3.7.0"
    assert restored.members == [
        Member(1, ("http://a:2380",), "a", is_learner=True),
        Member(2, ("http://b:2380",), "bee", ("http://b:2379",)),
    ]
    assert restored.get(9) is None


def test_a_cluster_keeps_its_id() -> None:
    membership = Membership(MemoryBackend())
    membership.found(7, 1)
    with pytest.raises(AssertionError):
        membership.found(8, 1)


def test_the_context_of_a_change_is_json_that_etcd_reads() -> None:
    member = Member(10, ("http://a:2380",), "a")
    assert member.to_context() == b'{"id":10,"peerURLs":["http://a:2380"],"name":"a"}'
    assert Member.from_context(member.to_context()) == member
