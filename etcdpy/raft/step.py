"""Which message does what, by role.

Rules that come before the table (5.1):
  a message of a newer term makes this member a follower of that term first;
  a message of an older term is answered only where silence could leave its sender stuck, else ignored;
  a message without a term (a forwarded request) is taken as it is.

Then the table says who handles it. A type that is not in a role's row means nothing to that role and is ignored; a type
in no row at all is one that this version does not speak, and raises MessageNotSupported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.proto import raft_pb2
from etcdpy.raft import election, reads, replication
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
        raft_pb2.MsgCheckQuorum,
        raft_pb2.MsgStorageAppend,
        raft_pb2.MsgStorageAppendResp,
        raft_pb2.MsgStorageApply,
        raft_pb2.MsgStorageApplyResp,
    )
)
"""Types that etcd's raft sends to itself; from the network they are an attack or a bug."""

FROM_LEADER: Final = frozenset((raft_pb2.MsgApp, raft_pb2.MsgHeartbeat))
"""Only a term's leader sends these, so their sender is the leader."""

WITHOUT_TERM: Final = frozenset((raft_pb2.MsgProp, raft_pb2.MsgReadIndex, raft_pb2.MsgUnreachable))
"""Types that hold in any term. All others must carry one."""

RESPONSES: Final = frozenset((raft_pb2.MsgAppResp, raft_pb2.MsgVoteResp, raft_pb2.MsgHeartbeatResp))
"""Answers; one from a member that is not tracked is refused."""


def _follow_then_append(raft: Raft, message: Message) -> None:
    _follow(raft, message)
    replication.handle_append(raft, message)


def _follow_then_heartbeat(raft: Raft, message: Message) -> None:
    _follow(raft, message)
    replication.handle_heartbeat(raft, message)


def _follow(raft: Raft, message: Message) -> None:
    """A leader of the current term spoke: a candidate has lost, a follower knows whom to follow."""
    sender = message.from_
    if raft.role is Role.CANDIDATE:
        raft.become_follower(raft.term, sender)
    else:
        raft.election_elapsed = 0
        raft.leader = sender


HANDLERS: Final[dict[Role, dict[int, Handler]]] = {
    Role.FOLLOWER: {
        raft_pb2.MsgApp: _follow_then_append,
        raft_pb2.MsgHeartbeat: _follow_then_heartbeat,
        raft_pb2.MsgVote: election.handle_vote,
        raft_pb2.MsgProp: replication.handle_proposal,
        raft_pb2.MsgReadIndex: reads.handle_read_index,
        raft_pb2.MsgReadIndexResp: reads.handle_read_index_response,
    },
    Role.CANDIDATE: {
        raft_pb2.MsgApp: _follow_then_append,
        raft_pb2.MsgHeartbeat: _follow_then_heartbeat,
        raft_pb2.MsgVote: election.handle_vote,
        raft_pb2.MsgVoteResp: election.handle_vote_response,
        raft_pb2.MsgProp: replication.handle_proposal,
    },
    Role.LEADER: {
        raft_pb2.MsgVote: election.handle_vote,
        raft_pb2.MsgProp: replication.handle_proposal,
        raft_pb2.MsgAppResp: replication.handle_append_response,
        raft_pb2.MsgHeartbeatResp: replication.handle_heartbeat_response,
        raft_pb2.MsgReadIndex: reads.handle_read_index,
        raft_pb2.MsgUnreachable: replication.handle_unreachable,
    },
}

SPOKEN: Final = frozenset(kind for row in HANDLERS.values() for kind in row)


def step(raft: Raft, message: Message) -> None:
    """Take one message from another member. Raises a RaftError, with nothing changed but perhaps the term."""
    kind, sender = message.type, message.from_
    _check(raft, message, kind, sender)
    if kind not in WITHOUT_TERM:
        if message.term < raft.term:
            _answer_old(raft, kind, sender)
            return
        if message.term > raft.term:
            raft.become_follower(message.term, sender if kind in FROM_LEADER else NO_MEMBER)
    handler = HANDLERS[raft.role].get(kind)
    if handler is not None:
        handler(raft, message)


def _check(raft: Raft, message: Message, kind: int, sender: int) -> None:
    if kind in LOCAL:
        raise LocalMessage(f"{type_name(kind)} came from the network")
    if kind not in SPOKEN:
        raise MessageNotSupported(f"{type_name(kind)} is not supported by this version")
    if sender in (NO_MEMBER, raft.id):
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


def _answer_old(raft: Raft, kind: int, sender: int) -> None:
    """A deposed leader or a late candidate learns the term from the answer; the rest is stale."""
    if kind in FROM_LEADER:
        raft.send(Message(raft_pb2.MsgAppResp, to=sender))
    elif kind == raft_pb2.MsgVote:
        raft.send(Message(raft_pb2.MsgVoteResp, to=sender, term=raft.term, reject=True))
