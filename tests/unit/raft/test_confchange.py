from __future__ import annotations

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.confchange import as_v2, find_fault, leaves_joint, next_configuration, parse, simple
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.members import make_entry
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


def v2(
    *steps: tuple[raft_pb2.ConfChangeType.ValueType, int],
    transition: raft_pb2.ConfChangeTransition.ValueType = raft_pb2.ConfChangeTransitionAuto,
) -> raft_pb2.ConfChangeV2:
    singles = [raft_pb2.ConfChangeSingle(type=kind, node_id=member) for kind, member in steps]
    return raft_pb2.ConfChangeV2(changes=singles, transition=transition)


def after(state: ConfState, *changes: raft_pb2.ConfChangeV2) -> ConfState:
    configuration = Configuration.from_conf_state(state)
    for change in changes:
        configuration = next_configuration(configuration, change)
    return configuration.conf_state()


def test_one_step_needs_no_joint_configuration() -> None:
    assert after(ConfState((1,)), v2((ADD, 2))) == ConfState((1, 2))
    assert after(ConfState((1,)), v2((LEARN, 2))) == ConfState((1,), (2,))


def test_several_steps_join_old_and_new_voters_until_left() -> None:
    three = ConfState((1, 2, 3))
    joint = after(three, v2((ADD, 4), (REMOVE, 1)))
    assert joint == ConfState((2, 3, 4), (), (1, 2, 3), (), auto_leave=True)
    assert after(joint, v2()) == ConfState((2, 3, 4))


def test_a_voter_that_is_to_learn_waits_for_the_end_of_the_joint_configuration() -> None:
    joint = after(ConfState((1, 2, 3)), v2((LEARN, 3), (ADD, 4)))
    assert joint == ConfState((1, 2, 4), (), (1, 2, 3), (3,), auto_leave=True)
    assert after(joint, v2()) == ConfState((1, 2, 4), (3,))


def test_who_asks_for_a_joint_configuration_gets_one() -> None:
    explicit = v2((LEARN, 4), transition=raft_pb2.ConfChangeTransitionJointExplicit)
    assert after(ConfState((1, 2)), explicit) == ConfState((1, 2), (4,), (1, 2))
    implicit = v2((LEARN, 4), transition=raft_pb2.ConfChangeTransitionJointImplicit)
    assert after(ConfState((1, 2)), implicit) == ConfState((1, 2), (4,), (1, 2), auto_leave=True)


def test_later_steps_of_a_change_win() -> None:
    assert after(ConfState((1,)), v2((ADD, 2), (REMOVE, 2), (LEARN, 2)), v2()) == ConfState((1,), (2,))


@pytest.mark.parametrize(
    ("state", "wanted", "text"),
    [
        (ConfState((1, 2)), v2(), "no joint"),
        (ConfState((1,), (), (1, 2)), v2((ADD, 3)), "while two configurations"),
        (ConfState((1,), (), (1, 2)), v2((ADD, 3), (ADD, 4)), "joined already"),
        (ConfState(), v2((ADD, 3), (ADD, 4)), "without voters"),
        (ConfState((1, 2)), v2((REMOVE, 1), (LEARN, 2)), "last voter"),
    ],
)
def test_what_cannot_be_applied(state: ConfState, wanted: raft_pb2.ConfChangeV2, text: str) -> None:
    with pytest.raises(InvalidConfChange, match=text):
        after(state, wanted)


@pytest.mark.parametrize(
    "state",
    [
        ConfState((1, 2), (2,)),
        ConfState((1,), (2,), (1, 2)),
        ConfState((1,), (), (1,), (2,)),
        ConfState((1, 2), (), (1, 2), (2,)),
        ConfState((1,), (), (), (1,)),
        ConfState((1,), auto_leave=True),
        ConfState((), (), (1,)),
    ],
)
def test_impossible_configurations_are_seen(state: ConfState) -> None:
    assert find_fault(Configuration.from_conf_state(state))


def test_an_entry_gives_its_change_back() -> None:
    assert as_v2(parse(make_entry(v2((ADD, 2))))) == v2((ADD, 2))
    old = raft_pb2.ConfChange(type=LEARN, node_id=3)
    assert parse(make_entry(old)) == old
    assert leaves_joint(as_v2(parse(Entry(type=EntryType.CONF_CHANGE_V2)))), "etcd writes no data at all"
    with pytest.raises(InvalidConfChange, match="entry 7"):
        parse(Entry(b"\xff", None, 1, 7, EntryType.CONF_CHANGE))


def test_v1_becomes_v2() -> None:
    old = raft_pb2.ConfChange(type=LEARN, node_id=3, context=b"c", id=9)
    new = as_v2(old)
    assert new.context == b"c"
    assert [(single.type, single.node_id) for single in new.changes] == [(LEARN, 3)]
    assert as_v2(new) is new


def test_conf_state_on_the_wire() -> None:
    state = ConfState((1, 2), (3,), (1, 4), (4,), auto_leave=True)
    assert ConfState.from_proto(raft_pb2.ConfState.FromString(state.to_proto().SerializeToString())) == state
