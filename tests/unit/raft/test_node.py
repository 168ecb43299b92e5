"""The door's contract: what a Ready holds, and when."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft import node as node_module
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import ConfChangeRefused, InvalidMessage, LocalMessage, MessageNotSupported, ProposalDropped
from etcdpy.raft.tracker import ProgressState
from etcdpy.raft.types import ConfState, HardState, ReadOnly, Role
from tests.support.raft_network import MemoryLog, Network, message


def single() -> Network:
    network = Network([1])
    network.members[1].node.campaign()
    network.work(1)
    assert network.members[1].node.is_leader
    return network


def test_a_single_voter_leads_at_once_when_its_timeout_fires() -> None:
    network = Network([1])
    node = network.members[1].node
    for _ in range(20):
        node.tick()
        network.work(1)
    assert node.status().role is Role.LEADER
    assert node.status().term == 1


def test_committed_entries_are_the_proposed_objects() -> None:
    network = single()
    proposals = [Entry(b"x", number) for number in range(200)]
    network.members[1].node.propose(proposals)
    network.work(1)
    applied = network.members[1].applied[1:]
    assert len(applied) == 200
    assert all(entry is proposal for entry, proposal in zip(applied, proposals, strict=True))


def test_nothing_to_do_is_no_ready() -> None:
    network = single()
    node = network.members[1].node
    assert not node.has_ready()
    node.tick()
    assert not node.has_ready()
    node.propose([])
    assert not node.has_ready()


def test_one_ready_at_a_time() -> None:
    network = single()
    node = network.members[1].node
    node.propose([Entry(b"a")])
    ready = node.ready()
    node.propose([Entry(b"b")])
    assert not node.has_ready()
    with pytest.raises(AssertionError):
        node.ready()
    with pytest.raises(AssertionError):
        node.advance(ready._replace(entries=[]))


def test_committed_bytes_per_ready_are_bounded() -> None:
    log = MemoryLog(ConfState((1,)))
    network = Network(())
    member = network.add(1, ConfState((1,)), log)
    member.node = node_module.RawNode(
        node_module.Config(id=1, storage=log, random=__import__("random").Random(1), max_committed_bytes=250)
    )
    member.node.campaign()
    network.work(1)
    member.node.propose([Entry(b"x" * 100) for _ in range(5)])
    counts = []
    while member.node.has_ready():
        counts.append(len(network.take_ready(1).committed))
        network.persist(1)
        network.finish(1)
    assert counts == [0, 2, 2, 1]


def test_uncommitted_bytes_are_bounded_by_dropping() -> None:
    network = Network([1, 2])
    member = network.members[1]
    log = member.log
    member.node = node_module.RawNode(
        node_module.Config(id=1, storage=log, random=__import__("random").Random(1), max_uncommitted_bytes=250)
    )
    member.node.campaign()
    network.settle()
    network.cut = lambda _message: True
    member.node.propose([Entry(b"x" * 200)])
    with pytest.raises(ProposalDropped):
        member.node.propose([Entry(b"x" * 51)])
    member.node.propose([Entry(b"x" * 50)])


def test_a_restart_hands_out_what_was_not_applied() -> None:
    network = single()
    network.members[1].node.propose([Entry(b"a"), Entry(b"b"), Entry(b"c")])
    network.work(1)
    log = network.members[1].log
    log.hard_state = HardState(1, 1, 3)
    again = node_module.RawNode(node_module.Config(id=1, storage=log, random=__import__("random").Random(1), applied=2))
    assert [entry.data for entry in again.ready().committed] == [b"b"], "3 is the stored commit index"


def test_applied_may_be_ahead_of_the_stored_commit_index() -> None:
    """The commit index is not synced; the applied state's index proves what was committed."""
    network = single()
    network.members[1].node.propose([Entry(b"a"), Entry(b"b")])
    network.work(1)
    log = network.members[1].log
    log.hard_state = HardState(1, 1, 0)
    again = node_module.RawNode(node_module.Config(id=1, storage=log, random=__import__("random").Random(1), applied=3))
    assert again.status().committed == 3
    assert not again.ready().committed


def test_reading_at_once_needs_a_commit_in_the_term() -> None:
    network = Network([1])
    node = network.members[1].node
    assert node.read_index_now() is None
    node.campaign()
    network.take_ready(1)
    network.persist(1)
    network.finish(1)
    assert node.is_leader
    assert node.read_index_now() is None, "the first entry of the term is not committed yet"
    network.work(1)
    assert node.read_index_now() == 1
    assert Network([1, 2]).members[1].node.read_index_now() is None


def test_a_follower_passes_membership_changes_on() -> None:
    network = Network([1, 2])
    change = raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddLearnerNode, node_id=3)
    with pytest.raises(ProposalDropped, match="no leader"):
        network.members[2].node.propose_conf_change(change)
    network.members[1].node.campaign()
    network.settle()
    network.members[2].node.propose_conf_change(change)
    network.settle()
    assert network.members[2].node.conf_state() == ConfState((1, 2), (3,))


def test_a_change_passed_on_that_cannot_be_taken_becomes_an_empty_entry() -> None:
    """As etcd's leader has it: the log shows that something was asked for, and nothing happens."""
    network = Network([1, 2])
    network.members[1].node.campaign()
    network.settle()
    leave = raft_pb2.ConfChangeV2()
    network.members[2].node.propose_conf_change(leave)
    network.settle()
    assert [(entry.type, entry.data) for entry in network.members[2].applied] == [(0, b""), (0, b"")]
    twice = raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddLearnerNode, node_id=3)
    network.members[2].node.propose_conf_change(twice)
    network.members[2].node.propose_conf_change(twice)
    network.settle()
    assert [entry.type for entry in network.members[2].applied] == [0, 0, 1, 0]


def test_an_impossible_change_is_refused_before_it_is_logged() -> None:
    network = single()
    change = raft_pb2.ConfChangeV2(changes=[raft_pb2.ConfChangeSingle(type=raft_pb2.ConfChangeRemoveNode, node_id=1)])
    with pytest.raises(ConfChangeRefused, match="last voter"):
        network.members[1].node.propose_conf_change(change)
    assert not network.members[1].node.has_ready()


def test_v2_changes_are_applied() -> None:
    network = single()
    change = raft_pb2.ConfChangeV2(
        changes=[raft_pb2.ConfChangeSingle(type=raft_pb2.ConfChangeAddLearnerNode, node_id=5)]
    )
    entry = network.members[1].node.propose_conf_change(change, proposal="who asked")
    assert entry.proposal == "who asked"
    network.work(1)
    assert network.members[1].node.conf_state() == ConfState((1,), (5,))


@pytest.mark.parametrize("kind", [raft_pb2.MsgHup, raft_pb2.MsgBeat, raft_pb2.MsgCheckQuorum, raft_pb2.MsgStorageApply])
def test_local_messages_do_not_come_from_the_network(kind: int) -> None:
    with pytest.raises(LocalMessage):
        single().members[1].node.step(message(kind, source=2, term=1))


@pytest.mark.parametrize("kind", [raft_pb2.MsgForgetLeader, 24, 1 << 40])
def test_what_no_member_says_is_refused(kind: int) -> None:
    with pytest.raises(MessageNotSupported):
        single().members[1].node.step(message(kind, source=2, term=1))


def test_messages_from_nobody_or_oneself_are_refused() -> None:
    node = single().members[1].node
    for source in (0, 1):
        with pytest.raises(InvalidMessage):
            node.step(message(raft_pb2.MsgHeartbeat, source=source, term=9))
    with pytest.raises(InvalidMessage, match="without a term"):
        node.step(message(raft_pb2.MsgHeartbeat, source=2))
    assert node.term == 1


def test_an_unreachable_follower_is_probed_again() -> None:
    network = Network([1, 2, 3])
    leader = network.members[1].node
    leader.campaign()
    network.settle()
    network.cut = lambda carried: carried.to == 2
    for data in (b"a", b"b", b"c"):
        leader.propose([Entry(data)])
        network.settle()
    network.cut = lambda _carried: False
    leader.report_unreachable(2)
    leader.tick()
    network.settle()
    assert [entry.data for entry in network.members[2].applied] == [b"", b"a", b"b", b"c"]


def test_a_snapshot_is_reported_to_raft_by_who_carried_it() -> None:
    network = Network([1, 2, 3])
    leader = network.members[1].node
    leader.campaign()
    network.settle()
    for member in (2, 9):
        leader.report_snapshot(member, ok=True)
        leader.report_unreachable(member)
    assert leader.status().progress[2].state is ProgressState.PROBE
    network.members[2].node.report_snapshot(1, ok=True)
    network.members[2].node.report_unreachable(1)


def three_with_leader(**options: Any) -> Network:
    network = Network([1, 2, 3], **options)
    network.members[1].node.campaign()
    network.settle()
    return network


def test_the_commit_index_leaves_together_with_the_next_batch() -> None:
    """While a write is under way what came before commits; one message tells that and what came since."""
    network = three_with_leader()
    leader = network.members[1].node
    leader.propose([Entry(b"a")])
    network.take_ready(1)
    network.deliver()
    for member in (2, 3):
        network.work(member)
    network.deliver()
    assert leader.committed == 2, "two of three have it, the leader itself not yet"
    leader.propose([Entry(b"b")])
    network.persist(1)
    network.finish(1)
    ready = network.take_ready(1)
    assert [(sent.to, sent.index, sent.commit, len(sent.entries)) for sent in ready.messages] == [
        (2, 2, 2, 1),
        (3, 2, 2, 1),
    ]
    leader.propose([Entry(b"c")])
    assert [sent.index for sent in leader.take_messages()] == [3, 3], "what has left is left alone"


def test_one_answer_for_all_appends_of_one_write() -> None:
    network = three_with_leader()
    for data in (b"a", b"b"):
        network.members[1].node.propose([Entry(data)])
    network.work(1)
    network.deliver(lambda sent: sent.to == 2)
    ready = network.take_ready(2)
    assert [(sent.type, sent.index) for sent in ready.messages_after_persist] == [(raft_pb2.MsgAppResp, 3)]


def test_an_answer_that_promises_nothing_new_leaves_at_once() -> None:
    network = three_with_leader()
    leader = network.members[1].node
    leader.propose([Entry(b"a")])
    network.settle()
    network.members[2].node.step(message(raft_pb2.MsgApp, source=1, to=2, term=1, index=2, log_term=1, commit=2))
    ready = network.take_ready(2)
    assert [(sent.type, sent.index) for sent in ready.messages] == [(raft_pb2.MsgAppResp, 2)]
    assert not ready.messages_after_persist


def test_messages_and_reads_need_not_wait_for_the_disk() -> None:
    network = three_with_leader()
    leader = network.members[1].node
    leader.propose([Entry(b"a")])
    network.take_ready(1)
    network.wire.clear()
    assert leader.read_index(b"r")
    sent = leader.take_messages()
    assert [(each.type, each.to) for each in sent] == [(raft_pb2.MsgHeartbeat, 2), (raft_pb2.MsgHeartbeat, 3)]
    assert not leader.take_messages()
    leader.step(message(raft_pb2.MsgHeartbeatResp, source=2, term=1, context=sent[0].context))
    assert [(read.context, read.index) for read in leader.take_read_states()] == [(b"r", 1)]
    assert not leader.take_read_states()


def test_a_leader_that_is_removed_steps_down_when_it_is_told_to() -> None:
    change = raft_pb2.ConfChange(type=raft_pb2.ConfChangeRemoveNode, node_id=1)
    for steps_down in (False, True):
        network = three_with_leader(step_down_on_removal=steps_down)
        leader = network.members[1].node
        leader.propose_conf_change(change)
        network.settle()
        assert leader.conf_state() == ConfState((2, 3))
        assert leader.is_leader is not steps_down
        if not steps_down:
            with pytest.raises(ProposalDropped, match="removed"):
                leader.propose([Entry(b"a")])


def test_a_lease_needs_a_checked_quorum() -> None:
    with pytest.raises(AssertionError, match="lease"):
        Network([1], check_quorum=False, read_only=ReadOnly.LEASE_BASED)


def test_a_leader_with_a_lease_reads_at_once() -> None:
    network = three_with_leader(check_quorum=True, read_only=ReadOnly.LEASE_BASED)
    assert network.members[1].node.read_index_now() == 1
    assert network.members[2].node.read_index_now() is None


def test_a_question_never_goes_round() -> None:
    """Two followers that take each other for the leader hand nothing to and fro."""
    network = three_with_leader()
    follower = network.members[2].node
    with pytest.raises(ProposalDropped):
        follower.step(message(raft_pb2.MsgProp, source=1, to=2, entries=[Entry(b"a")]))
    follower.step(message(raft_pb2.MsgReadIndex, source=1, to=2, entries=[Entry(b"r")]))
    assert not follower.has_ready()
