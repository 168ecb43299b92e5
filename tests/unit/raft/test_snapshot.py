"""Raft paper section 7: snapshots at the follower, and what a leader makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import InvalidMessage
from etcdpy.raft.types import ConfState, HardState
from tests.support.raft_network import Member, MemoryLog, Network, message, snapshot_of

if TYPE_CHECKING:
    from etcdpy.raft.message import Message

THREE = ConfState((1, 2, 3))


def follower(stored: list[int], commit: int = 0) -> tuple[Network, Member]:
    """Member 1 of three at term 5, with entries of these terms."""
    network = Network(())
    log = MemoryLog(THREE, HardState(5, 0, commit))
    log.append(None, [Entry(b"x", None, term, index) for index, term in enumerate(stored, 1)])
    network.states = {index: [Entry(b"s", None, 1, each) for each in range(1, index + 1)] for index in range(20)}
    return network, network.add(1, THREE, log)


def snap(index: int, term: int, state: ConfState = THREE) -> Message:
    return message(raft_pb2.MsgSnap, source=2, term=5, snapshot=snapshot_of(index, term, state))


def append(previous: tuple[int, int], *entries: tuple[int, int], commit: int = 0) -> Message:
    return message(
        raft_pb2.MsgApp,
        source=2,
        term=5,
        log_term=previous[0],
        index=previous[1],
        entries=[Entry(b"new", None, *each) for each in entries],
        commit=commit,
    )


def answer(network: Network) -> tuple[int, int, bool]:
    network.work(1)
    (sent,) = network.wire
    network.wire.clear()
    return sent.type, sent.index, sent.reject


def test_a_snapshot_replaces_the_log_and_the_members() -> None:
    network, member = follower([1, 1, 2], commit=1)
    member.node.step(snap(9, 4, ConfState((1, 2), (4,))))
    assert member.node.waiting_snapshot == 9
    assert not member.node.campaign(), "who lacks its state cannot lead"
    ready = network.take_ready(1)
    assert ready.must_sync
    assert ready.snapshot is not None
    assert ready.hard_state == HardState(5, 0, 9)
    assert not ready.committed
    assert not network.wire, "the answer waits until it is installed"
    network.persist(1)
    network.finish(1)
    assert [(sent.type, sent.index) for sent in network.wire] == [(raft_pb2.MsgAppResp, 9)]
    assert member.node.waiting_snapshot == 0
    status = member.node.status()
    assert (status.last_index, status.stable, status.committed, status.applied) == (9, 9, 9, 9)
    assert member.node.conf_state() == ConfState((1, 2), (4,))


@pytest.mark.parametrize(
    ("sent", "committed"),
    [
        (snap(1, 1), 2),
        (snap(2, 1), 2),
        (snap(9, 4, ConfState((2, 3, 4))), 2),
        (snap(3, 2), 3),
    ],
    ids=["older", "committed", "of a group without this member", "in the log already"],
)
def test_a_snapshot_that_is_not_needed_is_answered_with_the_commit_index(sent: Message, committed: int) -> None:
    network, member = follower([1, 1, 2], commit=2)
    member.node.step(sent)
    assert member.node.waiting_snapshot == 0
    assert answer(network) == (raft_pb2.MsgAppResp, committed, False)
    assert member.log.last_index() == 3


@pytest.mark.parametrize(
    "bad",
    [
        message(raft_pb2.MsgSnap, source=2, term=5),
        snap(0, 1),
        snap(9, 0),
        snap(9, 6),
        snap(9, 4, ConfState((1, 2), (2,))),
    ],
    ids=["none", "no index", "no term", "of the future", "impossible members"],
)
def test_snapshots_that_cannot_be(bad: Message) -> None:
    _, member = follower([1])
    with pytest.raises(InvalidMessage):
        member.node.step(bad)
    assert member.node.waiting_snapshot == 0


def test_entries_that_follow_come_with_the_snapshot() -> None:
    network, member = follower([1, 1, 2])
    member.node.step(snap(9, 4))
    member.node.step(append((4, 9), (5, 10), (5, 11), commit=10))
    ready = network.take_ready(1)
    assert ready.snapshot is not None
    assert [entry.index for entry in ready.entries] == [10, 11]
    assert not ready.committed, "the state they apply to is not there yet"
    network.persist(1)
    network.finish(1)
    network.work(1)
    assert [entry.index for entry in member.applied[9:]] == [10]
    assert [entry.index for entry in member.log.stored] == [10, 11]


def test_what_was_being_written_does_not_survive_a_snapshot() -> None:
    """Installing empties the log on disk, so entries of a write that was under way are not durable after it."""
    network, member = follower([1])
    member.node.step(append((1, 1), (5, 2), (5, 3), (5, 4)))
    network.take_ready(1)
    member.node.step(snap(3, 5))
    assert member.node.waiting_snapshot == 0, "entry 3 is in the log: it is only committed"
    network, member = follower([1])
    member.node.step(append((1, 1), (4, 2), (4, 3), (4, 4)))
    network.take_ready(1)
    member.node.step(snap(3, 5))
    member.node.step(append((5, 3), (5, 4)))
    network.persist(1)
    network.finish(1)
    assert member.node.status().stable == 3
    network.work(1)
    assert [(entry.term, entry.index) for entry in member.log.stored] == [(5, 4)]
    assert member.node.status().stable == 4


def test_a_newer_snapshot_overtakes_one_that_is_being_installed() -> None:
    network, member = follower([1])
    member.node.step(snap(5, 4))
    network.take_ready(1)
    member.node.step(snap(9, 4))
    network.persist(1)
    network.finish(1)
    assert member.node.waiting_snapshot == 9
    assert member.node.status().applied == 5
    network.work(1)
    assert member.node.status().applied == 9
    assert member.log.start == (9, 4)


def test_an_old_append_after_a_snapshot_is_answered_with_the_commit_index() -> None:
    network, member = follower([1])
    member.node.step(snap(9, 4))
    network.work(1)
    network.wire.clear()
    member.node.step(append((1, 1), (4, 2)))
    assert answer(network) == (raft_pb2.MsgAppResp, 9, False)


def test_a_probe_beyond_a_waiting_snapshot_is_refused_with_a_hint() -> None:
    network, member = follower([1])
    member.node.step(snap(9, 4))
    member.node.step(append((5, 12), (5, 13)))
    network.take_ready(1)
    network.persist(1)
    refused = [sent for sent in network.wire if sent.reject]
    assert [(sent.reject_hint, sent.log_term) for sent in refused] == [(9, 4)]


def test_a_member_that_installs_a_snapshot_still_shows_that_it_lives() -> None:
    network, member = follower([1, 1, 2], commit=1)
    member.node.step(snap(9, 4))
    network.take_ready(1)
    member.node.step(message(raft_pb2.MsgHeartbeat, source=2, term=5, context=b"read"))
    member.node.step(append((4, 9), (5, 10)))
    sent = member.node.take_messages()
    assert [(each.type, each.context) for each in sent] == [(raft_pb2.MsgHeartbeatResp, b"read")]
