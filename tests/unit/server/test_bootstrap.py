"""Founding a cluster: ids and first entries as etcd makes them, and what this version refuses."""

from __future__ import annotations

import pytest

from etcdpy.membership.members import Member
from etcdpy.proto import raft_pb2
from etcdpy.server import config
from etcdpy.server.bootstrap import check_founding, found
from etcdpy.server.notes import ConfigError


def test_a_founding_member_knows_the_ids_of_all() -> None:
    founding = found("b", {"a": ["http://a:2380"], "b": ["http://b:2380"]}, "token")
    assert [member.id for member in founding.members] == sorted(member.id for member in founding.members)
    assert founding.own_id == next(member.id for member in founding.members if member.name == "b")
    mirrored = found("a", {"b": ["http://b:2380"], "a": ["http://a:2380"]}, "token")
    assert mirrored.cluster_id == founding.cluster_id
    assert mirrored.members == founding.members


def test_the_log_opens_with_one_change_a_member() -> None:
    founding = found("a", {"a": ["http://a:2380"], "b": ["http://b:2380"]}, "token")
    entries = founding.entries()
    assert [(entry.term, entry.index, entry.type) for entry in entries] == [(1, 1, 1), (1, 2, 1)]
    for entry, member in zip(entries, founding.members, strict=True):
        change = raft_pb2.ConfChange.FromString(entry.data)
        assert (change.type, change.node_id) == (raft_pb2.ConfChangeAddNode, member.id)
        assert Member.from_context(change.context) == member


def test_one_member_is_founded_with_the_default_flags() -> None:
    check_founding(config.default())


def test_a_cluster_of_several_is_founded() -> None:
    urls = "default=http://localhost:2380,b=http://localhost:2381"
    check_founding(config.default(initial_cluster=urls))


def test_joining_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot join"):
        check_founding(config.default(initial_cluster_state="existing"))
