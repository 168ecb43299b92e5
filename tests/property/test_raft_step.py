"""Whatever comes in: every role takes every message type, or names what is wrong, and never harms its own log.

And whatever the network does: members never disagree about what is committed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import ProposalDropped, RaftError
from etcdpy.raft.types import ConfState, HardState, Role
from tests.support.raft_network import MemoryLog, Network, carried, message

if TYPE_CHECKING:
    from etcdpy.raft.message import Message

THREE = ConfState((1, 2, 3))
SMALL = st.integers(0, 6)


def member_in(role: Role) -> Network:
    """Member 1 of three in `role` at term 3, log 1/1 2/2 2/3 with 2 committed."""
    network = Network(())
    log = MemoryLog(THREE, HardState(2, 1, 2))
    log.append(None, [Entry(b"x", None, *pair) for pair in ((1, 1), (2, 2), (2, 3))])
    node = network.add(1, THREE, log).node
    network.work(1)
    if role is Role.FOLLOWER:
        node.step(message(raft_pb2.MsgHeartbeat, source=2, term=3))
    else:
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
        context=draw(st.sampled_from([b"", b"x", b"\1" + bytes(7), b"\xff" * 8])),
    )
    first = draw(SMALL)
    for offset in range(draw(st.integers(0, 3))):
        made.entries.append(Entry(b"", None, draw(SMALL), first + offset, draw(st.integers(0, 2))))
    return made


def committed_prefix(network: Network) -> list[tuple[int, int]]:
    member = network.members[1]
    return [(entry.term, entry.index) for entry in member.log.stored[: member.node.committed]]


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
        network.work(1)
        assert committed_prefix(network)[: len(prefix)] == prefix, "what was committed stays"
        if before.role is after.role is Role.LEADER and before.term == after.term:
            assert network.members[1].log.stored[: len(stored)] == stored, "a leader only appends (paper 5.3)"


@given(st.integers(0, 1 << 32), st.integers(1, 5))
def test_members_never_disagree(seed: int, size: int) -> None:
    """Random ticks, proposals, losses, duplicates, reorderings and crashes; then a calm time in which all agree."""
    draw = random.Random(seed)
    network = Network(range(1, size + 1), seed=seed)
    leaders: dict[int, int] = {}
    history: dict[int, tuple[int, bytes]] = {}
    for step in range(400):
        act(network, draw, step)
        check(network, leaders, history)
    for number, member in network.members.items():
        if member.ready is not None:
            network.persist(number)
            network.finish(number)
    for _ in range(80):
        for member in network.members.values():
            member.node.tick()
        network.settle()
        check(network, leaders, history)
    network.members[network.leader()].node.propose([Entry(b"last")])
    network.settle()
    for member in network.members.values():
        member.node.tick()
    network.settle()
    check(network, leaders, history)
    assert len({member.node.committed for member in network.members.values()}) == 1
    assert history[max(history)][1] == b"last"
    assert [error for error in network.errors if "ProposalDropped" not in error] == []


def act(network: Network, draw: random.Random, step: int) -> None:
    number = draw.choice(sorted(network.members))
    member = network.members[number]
    action = draw.random()
    if action < 0.35:
        member.node.tick()
    elif action < 0.45:
        try:
            member.node.propose([Entry(b"%d" % step) for _ in range(draw.randrange(1, 3))])
        except RaftError:
            return
    elif action < 0.70:
        if member.ready is not None:
            network.persist(number)
            network.finish(number)
        elif member.node.has_ready():
            network.take_ready(number)
    elif action < 0.73:
        network.crash(number)
    elif network.wire:
        picked = draw.randrange(len(network.wire))
        sent = network.wire[picked]
        if draw.random() < 0.8:
            del network.wire[picked]
        if draw.random() < 0.9:
            try:
                network.members[sent.to].node.step(carried(sent))
            except ProposalDropped:
                return  # a proposal that was passed on found no leader
            except RaftError as error:
                raise AssertionError(f"honest members were refused: {error}") from error


def check(network: Network, leaders: dict[int, int], history: dict[int, tuple[int, bytes]]) -> None:
    for number, member in network.members.items():
        status = member.node.status()
        if status.role is Role.LEADER:
            assert leaders.setdefault(status.term, number) == number, "one leader a term (paper 5.2)"
        for entry in member.applied:
            told = (entry.term, entry.data)
            assert history.setdefault(entry.index, told) == told, "one entry an index (paper 5.4.3)"
        assert [entry.index for entry in member.applied] == list(range(1, len(member.applied) + 1))
