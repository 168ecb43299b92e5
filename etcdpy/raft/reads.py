"""ReadIndex (Raft thesis 6.4): a linearizable read without writing to the log. And heartbeats, which carry its proof.

A leader notes its commit index, proves with one round of heartbeats that it still leads, and hands the index out; the
read may be served once that index is applied. A group of one needs no round, and ReadOnly.LEASE_BASED makes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import InvalidMessage
from etcdpy.raft.message import Message
from etcdpy.raft.types import NO_MEMBER, ReadOnly, ReadState, Role

if TYPE_CHECKING:
    from etcdpy.raft.core import Raft


class ReadQueue:
    """Reads that wait for a leader to prove itself. Positions count from 1 and only grow."""

    __slots__ = ("acknowledged", "confirmed", "early", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, bytes]] = []
        """(commit index, who asks, context), oldest first; waiting[0] has position confirmed + 1."""
        self.confirmed = 0
        self.acknowledged: dict[int, int] = {}
        """member -> the highest position that its heartbeat answers cover."""
        self.early: list[tuple[int, bytes]] = []
        """(who asks, context) of reads that came before the leader had committed in its term."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.early)

    def heartbeat_context(self) -> bytes:
        """What a heartbeat must carry so that its answers confirm every read that waits now; empty when none does."""
        if not self.waiting:
            return b""
        return (self.confirmed + len(self.waiting)).to_bytes(8, "little")

    def acknowledge(self, member: int, context: bytes) -> None:
        """A heartbeat's answer came back with its context."""
        if len(context) == 8:
            position = min(int.from_bytes(context, "little"), self.confirmed + len(self.waiting))
            self.acknowledged[member] = max(self.acknowledged.get(member, 0), position)


def request_read(raft: Raft, asker: int, context: bytes) -> bool:
    """Start a read for `asker` (this member or another one). False when it could not even be passed on."""
    if raft.role is not Role.LEADER:
        if raft.leader == NO_MEMBER:
            return False
        entry = Entry(context)
        raft.send(Message(raft_pb2.MsgReadIndex, to=raft.leader, entries=[entry]))
        return True
    if len(raft.reads) >= raft.config.max_inflight_reads:
        return False
    if not raft.committed_in_term():
        raft.reads.early.append((asker, context))
    else:
        _start(raft, asker, context)
        _prove(raft)
    return True


def release_early(raft: Raft) -> None:
    """As leader, after the commit index rose: reads that waited for the first commit of the term can start."""
    if raft.reads.early and raft.committed_in_term():
        early, raft.reads.early = raft.reads.early, []
        for asker, context in early:
            _start(raft, asker, context)
        _prove(raft)


def _start(raft: Raft, asker: int, context: bytes) -> None:
    if answers_at_once(raft):
        _answer(raft, asker, raft.log.committed, context)
    else:
        raft.reads.waiting.append((raft.log.committed, asker, context))


def answers_at_once(raft: Raft) -> bool:
    """Whether this leader needs to ask nobody."""
    return raft.config.read_only is ReadOnly.LEASE_BASED or raft.tracker.configuration.voters.is_only(raft.id)


def _prove(raft: Raft) -> None:
    """One round of heartbeats for all that wait."""
    context = raft.reads.heartbeat_context()
    if context:
        raft.reads.acknowledge(raft.id, context)
        broadcast_heartbeat(raft)


def broadcast_heartbeat(raft: Raft) -> None:
    """As leader: tell every other member that this one leads. The commit index goes no further than what it has."""
    context = raft.reads.heartbeat_context()

    def send(member: int) -> None:
        progress = raft.tracker.progress[member]
        commit = progress.sent_commit = min(progress.match, raft.log.committed)
        raft.send(Message(raft_pb2.MsgHeartbeat, to=member, commit=commit, context=context))

    raft.tracker.each_peer(raft.id, send)


def confirm(raft: Raft, member: int, context: bytes) -> None:
    """As leader: a heartbeat was answered; hand out every read that a quorum has confirmed by now."""
    reads = raft.reads
    reads.acknowledge(member, context)
    confirmed = raft.tracker.configuration.voters.committed_index(reads.acknowledged)
    count = min(confirmed - reads.confirmed, len(reads.waiting))
    if count <= 0:
        return
    done, reads.waiting = reads.waiting[:count], reads.waiting[count:]
    reads.confirmed += count
    for index, asker, asked in done:
        _answer(raft, asker, index, asked)


def _answer(raft: Raft, asker: int, index: int, context: bytes) -> None:
    if asker in (NO_MEMBER, raft.id):
        raft.read_states.append(ReadState(index, context))
    else:
        entry = Entry(context)
        raft.send(Message(raft_pb2.MsgReadIndexResp, to=asker, index=index, entries=[entry]))


def handle_read_index(raft: Raft, message: Message) -> None:
    """Another member asks for a read (or, at a follower, hands the question on)."""
    if len(message.entries) != 1:
        raise InvalidMessage("MsgReadIndex must carry one entry")
    asker = message.from_
    if raft.role is Role.LEADER:
        request_read(raft, asker, message.entries[0].data)
    elif raft.leader not in (NO_MEMBER, asker):
        # The asker stays the sender, so that the leader answers it and not this member.
        raft.send(Message(message.type, to=raft.leader, from_=asker, entries=message.entries))


def handle_read_index_response(raft: Raft, message: Message) -> None:
    """At a follower: the leader confirmed a read that this member asked for."""
    if len(message.entries) != 1:
        raise InvalidMessage("MsgReadIndexResp must carry one entry")
    raft.read_states.append(ReadState(message.index, message.entries[0].data))
