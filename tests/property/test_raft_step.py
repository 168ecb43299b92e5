"""Whatever comes in: every role takes every message type, or names what is wrong, and never harms its own log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.proto import raft_pb2
from etcdpy.raft.election import TRANSFER
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import RaftError
from etcdpy.raft.types import ConfState, HardState, Role
from tests.support.raft_network import MemoryLog, Network, message, snapshot_of

if TYPE_CHECKING:
    from etcdpy.raft.message import Message

THREE = ConfState((1, 2, 3))
SMALL = st.integers(0, 6)


def member_in(role: Role) -> Network:
    """Member 1 of three in `role` at term 3, log 1/1 2/2 2/3 with 2 committed."""
    network = Network((), pre_vote=role is Role.PRE_CANDIDATE, check_quorum=True)
    log = MemoryLog(THREE, HardState(2, 1, 2))
    log.append(None, [Entry(b"x", None, *pair) for pair in ((1, 1), (2, 2), (2, 3))])
    node = network.add(1, THREE, log).node
    network.work(1)
    if role is Role.FOLLOWER:
        node.step(message(raft_pb2.MsgHeartbeat, source=2, term=3))
    else:
        if role is Role.PRE_CANDIDATE:
            node.step(message(raft_pb2.MsgVoteResp, source=2, term=3))
        node.campaign()
        network.work(1)
        if role is Role.LEADER:
            node.step(message(raft_pb2.MsgVoteResp, source=2, term=3))
    network.work(1)
    assert (node.status().role, node.term) == (role, 3)
    return network


@st.composite
def messages(draw: st.DrawFn) -> Message:
    made = message(
        draw(st.sampled_from(sorted(raft_pb2.MessageType.values()))),
        source=draw(st.integers(0, 4)),
        term=draw(SMALL),
        log_term=draw(SMALL),
        index=draw(SMALL),
        commit=draw(SMALL),
        reject=draw(st.booleans()),
        reject_hint=draw(SMALL),
        context=draw(st.sampled_from([b"", b"x", b"\1" + bytes(7), b"\xff" * 8, TRANSFER])),
    )
    if draw(st.booleans()):
        voters = tuple(sorted(draw(st.sets(st.integers(1, 4)))))
        made.snapshot = snapshot_of(draw(SMALL), draw(SMALL), ConfState(voters))
    first = draw(SMALL)
    for offset in range(draw(st.integers(0, 3))):
        made.entries.append(Entry(b"", None, draw(SMALL), first + offset, draw(st.integers(0, 2))))
    return made


def committed_prefix(network: Network) -> list[tuple[int, int]]:
    member = network.members[1]
    first = member.log.first_index()
    return [(entry.term, entry.index) for entry in member.log.stored[: max(member.node.committed + 1 - first, 0)]]


@pytest.mark.parametrize("role", list(Role))
@given(st.lists(messages(), min_size=1, max_size=6))
def test_any_message_in_any_role(role: Role, incoming: list[Message]) -> None:
    network = member_in(role)
    node = network.members[1].node
    for made in incoming:
        before, prefix, stored = node.status(), committed_prefix(network), list(network.members[1].log.stored)
        try:
            node.step(made)
        except RaftError:
            assert not node.ready().entries if node.has_ready() else True
            return
        after = node.status()
        assert after.term >= before.term
        assert after.committed >= before.committed
        assert after.applied <= after.committed <= after.last_index
        assert after.stable <= after.last_index
        network.states = {index: [] for index in range(10)}  # what a snapshot holds is no matter here
        try:
            network.work(1)
        except RaftError:
            return  # a committed change of members that cannot be applied: the message's sender is to blame
        if not network.members[1].log.start[0]:
            assert committed_prefix(network)[: len(prefix)] == prefix, "what was committed stays"
        if before.role is after.role is Role.LEADER and before.term == after.term:
            assert network.members[1].log.stored[: len(stored)] == stored, "a leader only appends (paper 5.3)"
