"""Arithmetic of membership: a configuration and a change in, the next configuration out.

Changes that move at most one voter are made in one step, as old and new majorities overlap (Raft thesis 4.1). Others go
through a joint configuration (4.3), in which the old voters ("outgoing") and the new ones ("incoming") must both agree:

    (1 2 3)                            3 becomes a learner, 4 joins
    (1 2 4) and (1 2 3), then a learner: 3      a voter of the outgoing half cannot learn yet
    (1 2 4), learner: 3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import EntryType
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.quorum import JointConfig, MajorityConfig
from etcdpy.raft.tracker import Configuration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.raft.entry import Entry

ConfChange = raft_pb2.ConfChange | raft_pb2.ConfChangeV2


def as_v2(change: ConfChange) -> raft_pb2.ConfChangeV2:
    """The newer form, which can say all that the older one can."""
    if isinstance(change, raft_pb2.ConfChangeV2):
        return change
    single = raft_pb2.ConfChangeSingle(type=change.type, node_id=change.node_id)
    return raft_pb2.ConfChangeV2(changes=[single], context=change.context)


def parse(entry: Entry) -> ConfChange:
    """The change in a log entry that is not a normal one. Raises InvalidConfChange when it cannot be read."""
    kind = raft_pb2.ConfChange if entry.type == EntryType.CONF_CHANGE else raft_pb2.ConfChangeV2
    try:
        return kind.FromString(entry.data)
    except DecodeError as error:
        raise InvalidConfChange(f"entry {entry.index} holds no change of members") from error


def needs_joint(change: raft_pb2.ConfChangeV2) -> bool:
    """Whether the change asks for a joint configuration: explicitly, or by holding more than one step.

    Some changes of several steps could do without; etcd does not look for them, and members must agree on the way.
    """
    return change.transition != raft_pb2.ConfChangeTransitionAuto or len(change.changes) > 1


def leaves_joint(change: raft_pb2.ConfChangeV2) -> bool:
    """Whether the change ends a joint configuration: an empty one does, whatever its context."""
    return change.transition == raft_pb2.ConfChangeTransitionAuto and not change.changes


def find_fault(configuration: Configuration) -> str:
    """What is wrong with a configuration, of those things that must hold before and after each change; or nothing."""
    incoming, outgoing = configuration.voters
    for member in configuration.learners:
        if member in incoming or member in outgoing:
            return f"member {member:x} learns and votes"
    for member in configuration.learners_next:
        if member not in outgoing:
            return f"member {member:x} is to learn later without being an outgoing voter"
        if member in incoming:
            return f"member {member:x} is to learn later and to vote"
    if not configuration.is_joint and (configuration.learners_next or configuration.auto_leave):
        return "members wait for the end of a joint configuration that there is not"
    if configuration.is_joint and not len(incoming):
        return "a joint configuration leads to no voter"
    return ""


def check_invariants(configuration: Configuration) -> None:
    """A fault in a configuration that was made here is a bug."""
    fault = find_fault(configuration)
    assert not fault, (fault, configuration.conf_state())


def next_configuration(configuration: Configuration, change: raft_pb2.ConfChangeV2) -> Configuration:
    """The configuration after a committed change; raises InvalidConfChange."""
    if leaves_joint(change):
        return leave_joint(configuration)
    if needs_joint(change):
        auto_leave = change.transition != raft_pb2.ConfChangeTransitionJointExplicit
        return enter_joint(configuration, change.changes, auto_leave=auto_leave)
    return simple(configuration, change.changes)


def simple(configuration: Configuration, changes: Iterable[raft_pb2.ConfChangeSingle]) -> Configuration:
    """Apply changes that together move at most one voter; raises InvalidConfChange, with nothing changed."""
    check_invariants(configuration)
    if configuration.is_joint:
        raise InvalidConfChange("a simple change cannot be applied while two configurations are joined")
    draft = _Draft(configuration)
    draft.apply(changes)
    if len(draft.incoming.symmetric_difference(configuration.voters.incoming.ids)) > 1:
        raise InvalidConfChange("the change moves more than one voter, which needs a joint configuration")
    return draft.finish(auto_leave=False)


def enter_joint(
    configuration: Configuration, changes: Iterable[raft_pb2.ConfChangeSingle], *, auto_leave: bool
) -> Configuration:
    """From now on the voters of before and those after `changes` decide together; raises InvalidConfChange."""
    check_invariants(configuration)
    if configuration.is_joint:
        raise InvalidConfChange("two configurations are joined already")
    if not len(configuration.voters.incoming):
        raise InvalidConfChange("a group without voters cannot be joined with another one")
    draft = _Draft(configuration)
    draft.outgoing = set(draft.incoming)
    draft.apply(changes)
    return draft.finish(auto_leave=auto_leave)


def leave_joint(configuration: Configuration) -> Configuration:
    """The outgoing voters are done; raises InvalidConfChange."""
    check_invariants(configuration)
    if not configuration.is_joint:
        raise InvalidConfChange("no joint configuration to leave")
    draft = _Draft(configuration)
    draft.learners |= draft.learners_next
    draft.learners_next = set()
    draft.outgoing = set()
    return draft.finish(auto_leave=False)


class _Draft:
    """A configuration in sets, while it is being changed."""

    def __init__(self, configuration: Configuration) -> None:
        self.incoming = set(configuration.voters.incoming.ids)
        self.outgoing = set(configuration.voters.outgoing.ids)
        self.learners = set(configuration.learners)
        self.learners_next = set(configuration.learners_next)

    def apply(self, changes: Iterable[raft_pb2.ConfChangeSingle]) -> None:
        """Each change in turn. One for member 0 is skipped: etcd writes one where it decided not to apply it after
        all."""
        for change in changes:
            member = change.node_id
            if member == 0 or change.type == raft_pb2.ConfChangeUpdateNode:
                continue
            if change.type == raft_pb2.ConfChangeAddLearnerNode and member in self.learners:
                continue
            self.incoming.discard(member)
            self.learners.discard(member)
            self.learners_next.discard(member)
            if change.type == raft_pb2.ConfChangeAddNode:
                self.incoming.add(member)
            elif change.type == raft_pb2.ConfChangeAddLearnerNode:
                (self.learners_next if member in self.outgoing else self.learners).add(member)
        if not self.incoming:
            raise InvalidConfChange("the change removes the last voter")

    def finish(self, *, auto_leave: bool) -> Configuration:
        voters = JointConfig(MajorityConfig(self.incoming), MajorityConfig(self.outgoing))
        learners, learners_next = tuple(sorted(self.learners)), tuple(sorted(self.learners_next))
        result = Configuration(voters, learners, learners_next, auto_leave=auto_leave)
        check_invariants(result)
        return result
