"""Elections (5.2), who deserves a vote (5.4.1), and the question before an election (thesis 9.6).

timeout ->  PRE_CANDIDATE --a quorum would vote--> CANDIDATE --a quorum voted--> LEADER
                          \\--or not--> FOLLOWER            \\--or not--> FOLLOWER
MsgTimeoutNow from a leader that hands over skips the question: nobody comes back from a partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import EntryType
from etcdpy.raft.message import Message
from etcdpy.raft.quorum import VoteResult
from etcdpy.raft.replication import broadcast_append
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from etcdpy.raft.core import Raft

TRANSFER: Final = b"CampaignTransfer"
"""The context of a MsgVote whose sender was told to take over; it is heard although a leader is. etcd's word."""


def campaign(raft: Raft, *, transfer: bool = False) -> bool:
    """Start an election. False when this member must not: it leads, has no vote, or lags in members.

    A committed change of configuration that is not applied yet could mean that others vote now (etcd-io/raft 12359).
    """
    if raft.role is Role.LEADER or not raft.promotable or _unapplied_conf_change(raft):
        return False
    if raft.config.pre_vote and not transfer:
        raft.become_pre_candidate()
        _ask(raft, raft_pb2.MsgPreVote, raft.term + 1, b"")
        _count(raft, raft.id, granted=True)
    else:
        _stand(raft, TRANSFER if transfer else b"")
    return True


def _stand(raft: Raft, context: bytes) -> None:
    raft.become_candidate()
    _ask(raft, raft_pb2.MsgVote, raft.term, context)
    # The own vote counts once it is durable: see own_vote_durable.


def _ask(raft: Raft, kind: int, term: int, context: bytes) -> None:
    log = raft.log
    index, log_term = log.last_index, log.last_term()
    for member in raft.tracker.configuration.voters.ids:
        if member != raft.id:
            raft.send(Message(kind, to=member, term=term, index=index, log_term=log_term, context=context))


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
    if result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        _stand(raft, b"")
    elif result is VoteResult.WON:
        raft.become_leader()
        broadcast_append(raft)
    elif result is VoteResult.LOST:
        # Of this term: it is over for this candidate, but nobody else need have won it.
        raft.become_follower(raft.term, NO_MEMBER)


def in_lease(raft: Raft) -> bool:
    """Whether a leader was heard so recently that nobody else should ask for votes (thesis 4.2.3)."""
    heard = raft.leader != NO_MEMBER and raft.election_elapsed < raft.config.election_ticks
    return raft.config.check_quorum and heard


def handle_vote(raft: Raft, message: Message) -> None:
    """Someone asks for a vote in the current term. A learner votes too: it may not know of its promotion yet."""
    candidate = message.from_
    free = raft.vote == candidate or (raft.vote == NO_MEMBER and raft.leader == NO_MEMBER)
    granted = free and raft.log.is_up_to_date(message.index, message.log_term)
    if granted:
        raft.election_elapsed = 0
        raft.vote = candidate
    raft.send(Message(raft_pb2.MsgVoteResp, to=candidate, term=raft.term, reject=not granted))


def handle_pre_vote(raft: Raft, message: Message) -> None:
    """Someone asks whether it would get this vote. Nothing is promised.

    The answer carries the term that was asked for: with the own, older one it would be ignored as late.
    """
    candidate = message.from_
    free = raft.vote == candidate or (raft.vote == NO_MEMBER and raft.leader == NO_MEMBER)
    granted = (free or message.term > raft.term) and raft.log.is_up_to_date(message.index, message.log_term)
    term = message.term if granted else raft.term
    raft.send(Message(raft_pb2.MsgPreVoteResp, to=candidate, term=term, reject=not granted))


def handle_vote_response(raft: Raft, message: Message) -> None:
    """At a candidate, or for a pre-vote at a pre-candidate: an answer came in."""
    _count(raft, message.from_, granted=not message.reject)


def handle_timeout_now(raft: Raft, _message: Message) -> None:
    """At a follower: the leader hands over to this member."""
    campaign(raft, transfer=True)


def check_quorum(raft: Raft) -> None:
    """As leader, each election timeout: without a quorum in reach somebody else may lead by now (thesis 6.2)."""
    if not raft.tracker.check_activity(raft.id):
        raft.become_follower(raft.term, NO_MEMBER)
