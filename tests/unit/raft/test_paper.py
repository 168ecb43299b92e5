"""Sentences of the Raft paper (extended version), each with the section that it stands in, and a check of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import InvalidMessage, LogLost, ProposalDropped, UnknownPeer
from etcdpy.raft.types import ConfState, HardState, Role
from tests.support.raft_network import Member, MemoryLog, Network, message

if TYPE_CHECKING:
    from etcdpy.raft.message import Message

THREE = ConfState((1, 2, 3))


def follower(
    term: int = 1, stored: list[tuple[int, int]] | None = None, commit: int = 0, **options: Any
) -> tuple[Network, Member]:
    """Member 1 of three, with a log of (term, index), alone on the network."""
    network = Network((), **options)
    log = MemoryLog(THREE, HardState(term, 0, commit))
    log.append(None, [Entry(b"x", None, *pair) for pair in stored or []])
    return network, network.add(1, THREE, log)


def leader() -> tuple[Network, Member]:
    network, member = follower(0)
    member.node.campaign()
    network.work(1)
    member.node.step(message(raft_pb2.MsgVoteResp, source=2, term=1))
    network.work(1)
    network.wire.clear()
    assert member.node.is_leader
    return network, member


def answers(network: Network) -> list[Message]:
    network.work(1)
    sent, network.wire = network.wire, []
    return sent


# --- 5.1 ---


@pytest.mark.parametrize("start", ["follower", "candidate", "leader"])
def test_a_newer_term_makes_anyone_a_follower(start: str) -> None:
    """5.1: if a candidate or leader discovers that its term is out of date, it immediately reverts to follower."""
    network, member = leader() if start == "leader" else follower(1)
    if start == "candidate":
        member.node.campaign()
        network.work(1)
    member.node.step(message(raft_pb2.MsgApp, source=3, term=7))
    status = member.node.status()
    assert (status.role, status.term, status.leader, status.vote) == (Role.FOLLOWER, 7, 3, 0)


def test_a_stale_term_is_refused() -> None:
    """5.1: if a server receives a request with a stale term number, it rejects the request. As on etcd a late vote is
    refused by silence, and a late leader is only told where nothing else could bring it the newer term."""
    network, member = follower(5, pre_vote=True)
    member.node.step(message(raft_pb2.MsgApp, source=2, term=4, entries=[Entry(b"", None, 4, 1)]))
    member.node.step(message(raft_pb2.MsgVote, source=3, term=4, index=9, log_term=4))
    member.node.step(message(raft_pb2.MsgPreVote, source=3, term=4, index=9, log_term=4))
    app, vote = answers(network)
    assert (app.type, app.term, app.index) == (raft_pb2.MsgAppResp, 5, 0)
    assert (vote.type, vote.term, vote.reject) == (raft_pb2.MsgPreVoteResp, 5, True)
    assert member.log.last_index() == 0
    network, member = follower(5)
    member.node.step(message(raft_pb2.MsgHeartbeat, source=2, term=4))
    assert not answers(network)


# --- 5.2 ---


def test_election_timeout_is_random_within_one_to_two_timeouts() -> None:
    """5.2: election timeouts are chosen randomly from a fixed interval."""
    seen = set()
    for seed in range(60):
        network = Network([1, 2, 3], seed=seed)
        node = network.members[1].node
        ticks = 0
        while node.status().role is Role.FOLLOWER:
            node.tick()
            ticks += 1
        seen.add(ticks)
    assert seen == set(range(10, 20))


def test_where_the_leader_is_lost_members_ask_in_turn() -> None:
    """Not the paper's: whose leader cannot be reached need not wait at random; and turns do not split the votes."""
    for seed in range(20):
        network = Network([1, 2, 3], seed=seed)
        network.members[2].node.campaign()
        network.settle()
        waited = {}
        for own in (1, 3):
            node = network.members[own].node
            node.leader_is_lost()
            waited[own] = 0
            while node.status().role is Role.FOLLOWER:
                node.tick()
                waited[own] += 1
        assert waited == {1: 11, 3: 13}


def test_the_same_seed_gives_the_same_timeouts() -> None:
    def trace(seed: int) -> list[int]:
        network = Network([1, 2, 3], seed=seed)
        terms = []
        for _ in range(100):
            for member in network.members.values():
                member.node.tick()
            network.settle()
            terms.append(network.members[1].node.term)
        return terms

    assert trace(4) == trace(4)


def test_heartbeats_keep_followers_quiet() -> None:
    """5.2: as long as it receives valid messages from a leader, a server remains a follower."""
    network = Network([1, 2, 3])
    network.members[1].node.campaign()
    network.settle()
    for _ in range(100):
        for member in network.members.values():
            member.node.tick()
        network.settle()
    assert [member.node.term for member in network.members.values()] == [1, 1, 1]


def test_start_up_advance_never_starts_an_election() -> None:
    """--initial-election-tick-advance: time may pass at start, short of the timeout."""
    _, member = follower()
    member.node.advance_ticks(1000)
    assert member.node.status().role is Role.FOLLOWER
    ticks = 0
    while member.node.status().role is Role.FOLLOWER:
        member.node.tick()
        ticks += 1
    assert 1 <= ticks <= 10


def test_one_vote_a_term_first_come_first_served() -> None:
    """5.2: each server will vote for at most one candidate in a given term."""
    network, member = follower(1)
    for source in (2, 3, 2):
        member.node.step(message(raft_pb2.MsgVote, source=source, term=2))
    assert [(answer.to, answer.reject) for answer in answers(network)] == [(2, False), (3, True), (2, False)]
    assert member.log.hard_state == HardState(2, 2, 0)


def test_a_vote_leaves_after_it_is_stored() -> None:
    network, member = follower(1)
    member.node.step(message(raft_pb2.MsgVote, source=2, term=2))
    ready = network.take_ready(1)
    assert ready.must_sync
    assert ready.hard_state == HardState(2, 2, 0)
    assert not ready.messages
    assert [answer.type for answer in ready.messages_after_persist] == [raft_pb2.MsgVoteResp]


def test_a_vote_survives_a_crash() -> None:
    network, member = follower(1)
    member.node.step(message(raft_pb2.MsgVote, source=2, term=2))
    network.work(1)
    network.wire.clear()
    network.crash(1)
    network.members[1].node.step(message(raft_pb2.MsgVote, source=3, term=2))
    assert [(answer.to, answer.reject) for answer in answers(network)] == [(3, True)]


def test_a_candidate_yields_to_the_terms_leader() -> None:
    """5.2: if the leader's term is at least as large as the candidate's, the candidate returns to follower state."""
    network, member = follower(1)
    member.node.campaign()
    network.work(1)
    member.node.step(message(raft_pb2.MsgHeartbeat, source=2, term=2))
    assert member.node.status()[1:3] == (Role.FOLLOWER, 2)


def test_no_second_leader_in_a_term() -> None:
    """5.2, election safety: at most one leader can be elected in a given term; a second claim is a lie."""
    _, member = leader()
    with pytest.raises(InvalidMessage, match="claims to lead term 1"):
        member.node.step(message(raft_pb2.MsgApp, source=2, term=1))
    _, member = follower(3)
    member.node.step(message(raft_pb2.MsgHeartbeat, source=2, term=3))
    with pytest.raises(InvalidMessage, match="claims to lead term 3"):
        member.node.step(message(raft_pb2.MsgHeartbeat, source=3, term=3))


def test_a_learner_never_campaigns() -> None:
    network = Network(())
    member = network.add(4, ConfState((1, 2), (4,)))
    for _ in range(100):
        member.node.tick()
    assert member.node.status().role is Role.FOLLOWER
    assert not member.node.campaign()


# --- 5.3 ---


def test_an_append_that_fits_is_stored_then_acknowledged() -> None:
    network, member = follower(2, [(1, 1), (2, 2)])
    append = message(raft_pb2.MsgApp, source=2, term=2, index=2, log_term=2, commit=3)
    append.entries.extend([Entry(b"a", None, 2, 3), Entry(b"b", None, 2, 4)])
    member.node.step(append)
    ready = network.take_ready(1)
    assert [entry.index for entry in ready.entries] == [3, 4]
    assert [(answer.type, answer.index) for answer in ready.messages_after_persist] == [(raft_pb2.MsgAppResp, 4)]
    assert member.node.committed == 3
    assert not any(entry.index == 3 for entry in ready.committed), "committed, but not durable here"


@pytest.mark.parametrize(
    ("index", "term", "hint", "hint_term"),
    [(9, 3, 5, 3), (5, 2, 2, 1), (4, 1, 2, 1)],
    ids=["beyond the end", "other term", "older term"],
)
def test_an_append_that_does_not_fit_is_refused_with_a_hint(index: int, term: int, hint: int, hint_term: int) -> None:
    """5.3: the consistency check; the follower names where the logs may agree, skipping whole terms."""
    network, member = follower(4, [(1, 1), (1, 2), (3, 3), (3, 4), (3, 5)])
    member.node.step(message(raft_pb2.MsgApp, source=2, term=4, index=index, log_term=term))
    (answer,) = answers(network)
    assert (answer.reject, answer.index, answer.reject_hint, answer.log_term) == (True, index, hint, hint_term)


def test_known_entries_are_kept_and_conflicting_ones_replaced() -> None:
    network, member = follower(3, [(1, 1), (1, 2), (1, 3)])
    append = message(raft_pb2.MsgApp, source=2, term=3, index=1, log_term=1)
    append.entries.extend([Entry(b"", None, 1, 2), Entry(b"", None, 3, 3)])
    member.node.step(append)
    network.work(1)
    assert [(entry.term, entry.index) for entry in member.log.stored] == [(1, 1), (1, 2), (3, 3)]
    # A delayed copy of an older message must not shorten the log.
    late = message(raft_pb2.MsgApp, source=2, term=3, index=1, log_term=1)
    late.entries.extend([Entry(b"", None, 1, 2)])
    member.node.step(late)
    network.work(1)
    assert member.log.last_index() == 3


def test_an_append_below_the_commit_index_is_answered_with_it() -> None:
    network, member = follower(1, [(1, 1), (1, 2)], commit=2)
    member.node.step(message(raft_pb2.MsgApp, source=2, term=1, index=1, log_term=1))
    (answer,) = answers(network)
    assert (answer.index, answer.reject) == (2, False)


def test_a_follower_applies_what_the_leader_committed_and_it_has() -> None:
    """5.3: once a follower learns that a log entry is committed, it applies the entry to its local state machine."""
    network, member = follower(1, [(1, 1), (1, 2), (1, 3)])
    member.node.step(message(raft_pb2.MsgApp, source=2, term=1, index=2, log_term=1, commit=3))
    network.work(1)
    assert [entry.index for entry in member.applied] == [1, 2], "entry 3 was not vouched for by this message"


def test_a_leader_that_counts_on_lost_entries_is_told_so() -> None:
    """A heartbeat's commit never exceeds what the leader knows this member to have; if it does, our log was lost."""
    _, member = follower(1, [(1, 1)])
    with pytest.raises(LogLost, match=r"entry 5.*ends at 1"):
        member.node.step(message(raft_pb2.MsgHeartbeat, source=2, term=1, commit=5))


def test_malformed_appends_change_nothing() -> None:
    network, member = follower(1, [(1, 1)])
    for entries in (
        [Entry(b"", None, 1, 3)],
        [Entry(b"", None, 2, 2)],
        [Entry(b"", None, 1, 2), Entry(b"", None, 1, 4)],
    ):
        bad = message(raft_pb2.MsgApp, source=2, term=1, index=1, log_term=1)
        bad.entries.extend(entries)
        with pytest.raises(InvalidMessage):
            member.node.step(bad)
    network.work(1)
    assert member.log.last_index() == 1


def test_acknowledging_what_was_never_sent_is_refused() -> None:
    _, member = leader()
    with pytest.raises(InvalidMessage, match="never sent"):
        member.node.step(message(raft_pb2.MsgAppResp, source=2, term=1, index=99))
    with pytest.raises(UnknownPeer):
        member.node.step(message(raft_pb2.MsgAppResp, source=9, term=1, index=1))
    assert member.node.committed == 0


def test_log_inconsistencies_of_figure_7_are_repaired() -> None:
    """5.3: the leader brings a follower's log into consistency with its own. The six followers of figure 7."""
    ours = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    followers = [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],
        [1, 1, 1, 4],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        [1, 1, 1, 4, 4, 4, 4],
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]
    for theirs in followers:
        network = Network(())
        for member, terms in ((1, ours), (2, theirs), (3, [])):
            log = MemoryLog(THREE, HardState(7, 0, 0))
            log.append(None, [Entry(b"x", None, term, index) for index, term in enumerate(terms, 1)])
            network.add(member, THREE, log)
        # The third one votes for whoever has the better log; figure 7's leader got its votes from such members.
        network.members[1].node.campaign()
        network.work(1)
        network.cut = lambda carried: carried.to == 2 and carried.type == raft_pb2.MsgVote
        network.settle()
        network.cut = lambda _carried: False
        network.members[1].node.tick()
        network.settle()
        stored = [[entry.term for entry in network.members[member].log.stored] for member in (1, 2, 3)]
        assert stored[0] == stored[1] == stored[2] == [*ours, 8], theirs


# --- 5.4 ---


def test_only_current_terms_entries_commit_by_counting() -> None:
    """5.4.2: only log entries from the leader's current term are committed by counting replicas."""
    network = Network(())
    log = MemoryLog(THREE, HardState(1, 1, 0))
    log.append(None, [Entry(b"x", None, 1, 1)])
    member = network.add(1, THREE, log)
    member.node.campaign()
    network.work(1)
    member.node.step(message(raft_pb2.MsgVoteResp, source=2, term=2))
    network.work(1)
    member.node.step(message(raft_pb2.MsgAppResp, source=2, term=2, index=1))
    assert member.node.committed == 0
    member.node.step(message(raft_pb2.MsgAppResp, source=2, term=2, index=2))
    assert member.node.committed == 2


@pytest.mark.parametrize(
    ("term", "index", "granted"), [(3, 1, True), (2, 2, True), (2, 3, True), (2, 1, False), (1, 9, False)]
)
def test_votes_go_to_logs_that_are_up_to_date(term: int, index: int, granted: bool) -> None:
    """5.4.1: the log with the later term is more up-to-date; with equal terms, the longer one is."""
    network, member = follower(3, [(1, 1), (2, 2)])
    member.node.step(message(raft_pb2.MsgVote, source=2, term=4, log_term=term, index=index))
    assert answers(network)[0].reject is not granted


# --- the client's side ---


def test_without_a_leader_proposals_are_dropped() -> None:
    _, member = follower()
    with pytest.raises(ProposalDropped):
        member.node.propose([Entry(b"a")])


def test_a_follower_passes_proposals_on() -> None:
    network = Network([1, 2, 3])
    network.members[1].node.campaign()
    network.settle()
    network.members[3].node.propose([Entry(b"from three", "context")])
    network.settle()
    for member in network.members.values():
        assert [entry.data for entry in member.applied] == [b"", b"from three"]
        assert member.applied[1].proposal is None


def test_messages_carry_sender_and_term() -> None:
    network, member = leader()
    member.node.propose([Entry(b"a")])
    for sent in answers(network):
        assert (sent.from_, sent.term) == (1, 1)
