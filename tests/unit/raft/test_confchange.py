from __future__ import annotations

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.confchange import as_v2, next_configuration, simple
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.tracker import Configuration
from etcdpy.raft.types import ConfState

ADD, LEARN, REMOVE, UPDATE = (
    raft_pb2.ConfChangeAddNode,
    raft_pb2.ConfChangeAddLearnerNode,
    raft_pb2.ConfChangeRemoveNode,
    raft_pb2.ConfChangeUpdateNode,
)


def change(state: ConfState, *steps: tuple[raft_pb2.ConfChangeType.ValueType, int]) -> ConfState:
    singles = [raft_pb2.ConfChangeSingle(type=kind, node_id=member) for kind, member in steps]
    return simple(Configuration.from_conf_state(state), singles).conf_state()


def test_steps() -> None:
    three = ConfState((1, 2, 3))
    assert change(three, (ADD, 4)) == ConfState((1, 2, 3, 4))
    assert change(three, (ADD, 2)) == three
    assert change(three, (REMOVE, 2)) == ConfState((1, 3))
    assert change(three, (REMOVE, 9)) == three
    assert change(three, (LEARN, 4)) == ConfState((1, 2, 3), (4,))
    assert change(three, (LEARN, 3)) == ConfState((1, 2), (3,)), "a voter is demoted"
    assert change(ConfState((1, 2), (3,)), (ADD, 3)) == three, "a learner is promoted"
    assert change(three, (UPDATE, 2)) == three
    assert change(three, (REMOVE, 0)) == three, "etcd's way to say: not applied after all"
    assert change(three, (LEARN, 5), (LEARN, 4)) == ConfState((1, 2, 3), (4, 5)), "learners do not count"


def test_the_first_voter_joins_nobody() -> None:
    assert change(ConfState(), (ADD, 7)) == ConfState((7,))


@pytest.mark.parametrize("steps", [[(REMOVE, 1)], [(LEARN, 1)]])
def test_the_last_voter_stays(steps: list[tuple[raft_pb2.ConfChangeType.ValueType, int]]) -> None:
    with pytest.raises(InvalidConfChange, match="last voter"):
        change(ConfState((1,)), *steps)


def test_two_voters_at_once_need_a_joint_configuration() -> None:
    with pytest.raises(InvalidConfChange, match="joint"):
        change(ConfState((1, 2, 3)), (ADD, 4), (REMOVE, 1))


def test_joint_changes_are_refused_by_name() -> None:
    group = Configuration.from_conf_state(ConfState((1,)))
    two = [raft_pb2.ConfChangeSingle(type=ADD, node_id=member) for member in (2, 3)]
    with pytest.raises(InvalidConfChange, match="joint configurations are not supported"):
        next_configuration(group, raft_pb2.ConfChangeV2(changes=two))
    explicit = raft_pb2.ConfChangeV2(transition=raft_pb2.ConfChangeTransitionJointExplicit, changes=two[:1])
    with pytest.raises(InvalidConfChange, match="joint configurations are not supported"):
        next_configuration(group, explicit)
    assert next_configuration(group, raft_pb2.ConfChangeV2(changes=two[:1])).conf_state() == ConfState((1, 2))


def test_v1_becomes_v2() -> None:
    old = raft_pb2.ConfChange(type=LEARN, node_id=3, context=b"c", id=9)
    new = as_v2(old)
    assert new.context == b"c"
    assert [(single.type, single.node_id) for single in new.changes] == [(LEARN, 3)]
    assert as_v2(new) is new


def test_conf_state_on_the_wire() -> None:
    state = ConfState((1, 2), (3,), (1, 4), (4,), auto_leave=True)
    assert ConfState.from_proto(raft_pb2.ConfState.FromString(state.to_proto().SerializeToString())) == state
