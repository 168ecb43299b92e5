"""Any sequence of changes of members keeps what must hold, and neighbouring configurations always share a quorum."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.proto import raft_pb2
from etcdpy.raft.confchange import find_fault, next_configuration
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.quorum import VoteResult
from etcdpy.raft.tracker import Configuration
from etcdpy.raft.types import ConfState

STEPS = st.builds(
    lambda kind, member: raft_pb2.ConfChangeSingle(type=kind, node_id=member),
    st.sampled_from(raft_pb2.ConfChangeType.values()),
    st.integers(0, 5),
)
CHANGES = st.builds(
    lambda transition, steps: raft_pb2.ConfChangeV2(transition=transition, changes=steps),
    st.sampled_from(raft_pb2.ConfChangeTransition.values()),
    st.lists(STEPS, max_size=4),
)


def agreements(configuration: Configuration) -> list[set[int]]:
    """Every set of members that can decide something."""
    ids = configuration.voters.ids
    groups = [set(group) for size in range(1, len(ids) + 1) for group in combinations(ids, size)]
    voters = configuration.voters
    return [group for group in groups if voters.vote_result(dict.fromkeys(group, True)) is VoteResult.WON]


@given(st.lists(CHANGES, max_size=12))
def test_any_sequence_of_changes(changes: list[raft_pb2.ConfChangeV2]) -> None:
    configuration = Configuration.from_conf_state(ConfState((1, 2, 3)))
    for change in changes:
        before = configuration.conf_state()
        try:
            after = next_configuration(configuration, change)
        except InvalidConfChange:
            assert configuration.conf_state() == before
            continue
        assert find_fault(after) == ""
        assert Configuration.from_conf_state(after.conf_state()).conf_state() == after.conf_state()
        for ours in agreements(configuration):
            assert all(ours & theirs for theirs in agreements(after)), "two majorities without a common member"
        configuration = after


@given(st.lists(STEPS, min_size=1, max_size=4), st.booleans())
def test_a_joint_configuration_ends_where_its_steps_say(steps: list[raft_pb2.ConfChangeSingle], explicit: bool) -> None:
    transition = raft_pb2.ConfChangeTransitionJointExplicit if explicit else raft_pb2.ConfChangeTransitionJointImplicit
    start = Configuration.from_conf_state(ConfState((1, 2, 3), (4,)))
    voters, learners = {1, 2, 3}, {4}
    for step in steps:
        if step.node_id == 0 or step.type == raft_pb2.ConfChangeUpdateNode:
            continue
        voters.discard(step.node_id)
        learners.discard(step.node_id)
        if step.type == raft_pb2.ConfChangeAddNode:
            voters.add(step.node_id)
        elif step.type == raft_pb2.ConfChangeAddLearnerNode:
            learners.add(step.node_id)
    try:
        joint = next_configuration(start, raft_pb2.ConfChangeV2(transition=transition, changes=steps))
    except InvalidConfChange:
        assert not voters
        return
    assert joint.auto_leave is not explicit
    left = next_configuration(joint, raft_pb2.ConfChangeV2()).conf_state()
    assert left == ConfState(tuple(sorted(voters)), tuple(sorted(learners)))
