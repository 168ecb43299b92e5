"""Which message does what, by role.

Rules that come before the table (5.1):
  a message of a newer term makes this member a follower of that term first, but for pre-votes;
  a message of an older term is answered only where silence could leave its sender stuck, else ignored;
  a message without a term (a forwarded request) is taken as it is;
  who hears a leader ignores requests for votes of a newer term, unless that leader hands over (election.in_lease).

Then the table says who handles it. A type that is not in a role's row means nothing to that role and is ignored; a type
in no row at all is one that etcd's members do not send, and raises MessageNotSupported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.proto import raft_pb2
from etcdpy.raft import election, following, members, reads, replication, transfer
from etcdpy.raft.core import WITHOUT_TERM
from etcdpy.raft.errors import InvalidMessage, LocalMessage, MessageNotSupported, UnknownPeer
from etcdpy.raft.message import Message, type_name
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.raft.core import Raft

    Handler = Callable[[Raft, Message], None]

LOCAL: Final = frozenset(
    (
        raft_pb2.MsgHup,
        raft_pb2.MsgBeat,
        raft_pb2.MsgUnreachable,
        raft_pb2.MsgSnapStatus,
        raft_pb2.MsgCheckQuorum,
        raft_pb2.MsgStorageAppend,
        raft_pb2.MsgStorageAppendResp,
        raft_pb2.MsgStorageApply,
        raft_pb2.MsgStorageApplyResp,
    )
)
"""Types that etcd's raft sends to itself; from the network they are an attack or a bug."""

FROM_LEADER: Final = frozenset((raft_pb2.MsgApp, raft_pb2.MsgHeartbeat, raft_pb2.MsgSnap))
"""Only a term's leader sends these, so their sender is the leader."""

RESPONSES: Final = frozenset(
    (
        raft_pb2.MsgAppResp,
        raft_pb2.MsgVoteResp,
        raft_pb2.MsgPreVoteResp,
        raft_pb2.MsgHeartbeatResp,
        raft_pb2.MsgReadIndexResp,
    )
)
"""Answers; one from a member that is not tracked is refused."""

_RELAYED: Final = frozenset((raft_pb2.MsgReadIndex, raft_pb2.MsgTransferLeader))
"""Types whose `from_` is who it is about, whoever sent it: this member may get one with its own id."""

_VOTES: Final[dict[int, Handler]] = {
    raft_pb2.MsgVote: election.handle_vote,
    raft_pb2.MsgPreVote: election.handle_pre_vote,
}
_LEADERS_WORD: Final[dict[int, Handler]] = {
    raft_pb2.MsgApp: following.handle_append,
    raft_pb2.MsgHeartbeat: following.handle_heartbeat,
    raft_pb2.MsgSnap: following.handle_snapshot,
}

HANDLERS: Final[dict[Role, dict[int, Handler]]] = {
    Role.FOLLOWER: {
        **_VOTES,
        **_LEADERS_WORD,
        raft_pb2.MsgProp: following.handle_proposal,
        raft_pb2.MsgReadIndex: reads.handle_read_index,
        raft_pb2.MsgReadIndexResp: reads.handle_read_index_response,
        raft_pb2.MsgTransferLeader: transfer.handle_transfer,
        raft_pb2.MsgTimeoutNow: election.handle_timeout_now,
    },
    Role.PRE_CANDIDATE: {
        **_VOTES,
        **_LEADERS_WORD,
        raft_pb2.MsgProp: following.handle_proposal,
        raft_pb2.MsgPreVoteResp: election.handle_vote_response,
    },
    Role.CANDIDATE: {
        **_VOTES,
        **_LEADERS_WORD,
        raft_pb2.MsgProp: following.handle_proposal,
        raft_pb2.MsgVoteResp: election.handle_vote_response,
    },
    Role.LEADER: {
        **_VOTES,
        raft_pb2.MsgAppResp: replication.handle_append_response,
        raft_pb2.MsgHeartbeatResp: replication.handle_heartbeat_response,
        raft_pb2.MsgProp: members.handle_proposal,
        raft_pb2.MsgReadIndex: reads.handle_read_index,
        raft_pb2.MsgTransferLeader: transfer.handle_transfer,
    },
}

SPOKEN: Final = frozenset(kind for row in HANDLERS.values() for kind in row)


def step(raft: Raft, message: Message) -> None:
    """Take one message from another member. Raises a RaftError, with nothing changed but perhaps the term."""
    kind = message.type
    _check(raft, message)
    if kind not in WITHOUT_TERM and message.term != raft.term:
        if message.term < raft.term:
            _answer_old(raft, message)
            return
        if kind in _VOTES and message.context != election.TRANSFER and election.in_lease(raft):
            return
        if not _of_the_future(message):
            raft.become_follower(message.term, message.from_ if kind in FROM_LEADER else NO_MEMBER)
    handler = HANDLERS[raft.role].get(kind)
    if handler is not None:
        handler(raft, message)


def _of_the_future(message: Message) -> bool:
    """Pre-votes, and the answers that grant them, talk of a term that nobody has begun."""
    if message.type == raft_pb2.MsgPreVoteResp:
        return not message.reject
    return message.type == raft_pb2.MsgPreVote


def _check(raft: Raft, message: Message) -> None:
    kind, sender = message.type, message.from_
    if kind in LOCAL:
        raise LocalMessage(f"{type_name(kind)} came from the network")
    if kind not in SPOKEN:
        raise MessageNotSupported(f"{type_name(kind)} is not supported")
    if sender == NO_MEMBER or (sender == raft.id and kind not in _RELAYED):
        raise InvalidMessage(f"{type_name(kind)} from {sender:x} came from the network")
    if kind in RESPONSES and sender not in raft.tracker.progress:
        raise UnknownPeer(f"{type_name(kind)} from {sender:x}, which is no member")
    if kind in WITHOUT_TERM:
        return
    if message.term == 0:
        raise InvalidMessage(f"{type_name(kind)} without a term")
    if kind in FROM_LEADER and message.term == raft.term:
        known = raft.leader not in (NO_MEMBER, sender)
        if raft.role is Role.LEADER or known:
            raise InvalidMessage(f"{sender:x} claims to lead term {raft.term}, which {raft.leader:x} leads")


def _answer_old(raft: Raft, message: Message) -> None:
    """What is late is ignored, but for senders that silence would leave stuck: a leader whose followers got a newer
    term in a partition, where no vote of theirs is heard any more; and a candidate that waits for pre-votes."""
    kind = message.type
    if kind == raft_pb2.MsgPreVote:
        raft.send(Message(raft_pb2.MsgPreVoteResp, to=message.from_, term=raft.term, reject=True))
    elif kind in (raft_pb2.MsgApp, raft_pb2.MsgHeartbeat) and (raft.config.check_quorum or raft.config.pre_vote):
        raft.send(Message(raft_pb2.MsgAppResp, to=message.from_))
