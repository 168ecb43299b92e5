"""Arithmetic of membership: a configuration and a list of changes in, the next configuration out.

Steps that move at most one voter keep old and new majorities overlapping (Raft thesis 4.1). Wider steps need a joint
configuration (4.3), which comes with clusters of several members; until then they are refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.quorum import JointConfig, MajorityConfig
from etcdpy.raft.tracker import Configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

ConfChange = raft_pb2.ConfChange | raft_pb2.ConfChangeV2


def as_v2(change: ConfChange) -> raft_pb2.ConfChangeV2:
    """The newer form, which can say all that the older one can."""
    if isinstance(change, raft_pb2.ConfChangeV2):
        return change
    single = raft_pb2.ConfChangeSingle(type=change.type, node_id=change.node_id)
    return raft_pb2.ConfChangeV2(changes=[single], context=change.context)


def needs_joint(change: raft_pb2.ConfChangeV2) -> bool:
    """Whether the change asks for a joint configuration: explicitly, or by holding more than one step."""
    return change.transition != raft_pb2.ConfChangeTransitionAuto or len(change.changes) > 1


def check_invariants(configuration: Configuration) -> None:
    """What must hold before and after each change."""
    incoming, outgoing = configuration.voters
    learners = configuration.learners
    assert not any(member in incoming or member in outgoing for member in learners), configuration.conf_state()
    assert all(member in outgoing for member in configuration.learners_next), configuration.conf_state()
    if not configuration.is_joint:
        assert not configuration.learners_next, configuration.conf_state()
        assert not configuration.auto_leave, configuration.conf_state()


def simple(configuration: Configuration, changes: Sequence[raft_pb2.ConfChangeSingle]) -> Configuration:
    """Apply changes that together move at most one voter; raises InvalidConfChange, with nothing changed.

    A change for member 0 is skipped: etcd writes one where it decided not to apply a change after all.
    """
    check_invariants(configuration)
    if configuration.is_joint:
        raise InvalidConfChange("a simple change cannot be applied while two configurations are joined")
    voters = set(configuration.voters.incoming.ids)
    learners = set(configuration.learners)
    for change in changes:
        member = change.node_id
        if member == 0 or change.type == raft_pb2.ConfChangeUpdateNode:
            continue
        voters.discard(member)
        learners.discard(member)
        if change.type == raft_pb2.ConfChangeAddNode:
            voters.add(member)
        elif change.type == raft_pb2.ConfChangeAddLearnerNode:
            learners.add(member)
    if not voters:
        raise InvalidConfChange("the change removes the last voter")
    before = configuration.voters.incoming.ids
    if len(voters.symmetric_difference(before)) > 1:
        raise InvalidConfChange("the change moves more than one voter, which needs a joint configuration")
    result = Configuration(JointConfig(MajorityConfig(voters), MajorityConfig()), tuple(sorted(learners)))
    check_invariants(result)
    return result


def next_configuration(configuration: Configuration, change: raft_pb2.ConfChangeV2) -> Configuration:
    """The configuration after a committed change; raises InvalidConfChange."""
    if needs_joint(change) or configuration.is_joint:
        raise InvalidConfChange("joint configurations are not supported by this version")
    return simple(configuration, change.changes)
