"""Elections (5.2) and who deserves a vote (5.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import EntryType
from etcdpy.raft.message import Message
from etcdpy.raft.quorum import VoteResult
from etcdpy.raft.replication import broadcast_append
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from etcdpy.raft.core import Raft


def campaign(raft: Raft) -> bool:
    """Start an election for a new term. False when this member must not: it leads, has no vote, or lags in members.

    A committed change of configuration that is not applied yet could mean that others vote now (etcd-io/raft 12359).
    """
    if raft.role is Role.LEADER or not raft.promotable or _unapplied_conf_change(raft):
        return False
    raft.become_candidate()
    log = raft.log
    last_index, last_term = log.last_index, log.last_term()
    for member in raft.tracker.configuration.voters.ids:
        if member != raft.id:
            raft.send(Message(raft_pb2.MsgVote, to=member, index=last_index, log_term=last_term))
    # The own vote counts once it is durable: see own_vote_durable.
    return True


def _unapplied_conf_change(raft: Raft) -> bool:
    log = raft.log
    index = log.applied + 1
    while index <= log.committed:
        entries = log.slice(index, log.committed + 1, raft.config.max_committed_bytes)
        if any(entry.type != EntryType.NORMAL for entry in entries):
            return True
        index += len(entries)
    return False


def own_vote_durable(raft: Raft) -> None:
    """Called after a write: a candidate's vote for itself counts when it is on disk, like everybody else's."""
    if raft.role is not Role.CANDIDATE or raft.id in raft.tracker.votes:
        return
    if raft.durable.term == raft.term and raft.durable.vote == raft.id:
        _count(raft, raft.id, granted=True)


def _count(raft: Raft, member: int, *, granted: bool) -> None:
    result = raft.tracker.record_vote(member, granted)
    if result is VoteResult.WON:
        raft.become_leader()
        broadcast_append(raft)
    elif result is VoteResult.LOST:
        # Of this term: it is over for this candidate, but nobody else need have won it.
        raft.become_follower(raft.term, NO_MEMBER)


def handle_vote(raft: Raft, message: Message) -> None:
    """Someone asks for a vote in the current term. A learner votes too: it may not know of its promotion yet."""
    candidate = message.from_
    free = raft.vote == candidate or (raft.vote == NO_MEMBER and raft.leader == NO_MEMBER)
    granted = free and raft.log.is_up_to_date(message.index, message.log_term)
    if granted:
        raft.election_elapsed = 0
        raft.vote = candidate
    raft.send(Message(raft_pb2.MsgVoteResp, to=candidate, term=raft.term, reject=not granted))


def handle_vote_response(raft: Raft, message: Message) -> None:
    """At a candidate: a vote of the current term came in."""
    _count(raft, message.from_, granted=not message.reject)
