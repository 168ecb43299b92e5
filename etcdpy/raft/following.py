"""The follower's side: entries (5.3), heartbeats and snapshots (7) from the leader of the current term, and passing on
to it what only a leader can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.confchange import find_fault
from etcdpy.raft.entry import well_formed
from etcdpy.raft.errors import InvalidMessage, LogLost, ProposalDropped
from etcdpy.raft.message import Message
from etcdpy.raft.tracker import Configuration
from etcdpy.raft.types import NO_MEMBER, ConfState, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.raft.core import Raft
    from etcdpy.raft.entry import Entry


def follow(raft: Raft, leader: int) -> None:
    """A leader of the current term spoke: a candidate has lost, a follower knows whom to follow."""
    if raft.role is Role.FOLLOWER:
        raft.election_elapsed = 0
        raft.leader = leader
    else:
        raft.become_follower(raft.term, leader)


def forward_proposal(raft: Raft, entries: Sequence[Entry]) -> None:
    """Let the leader propose. Raises ProposalDropped when none is known."""
    if raft.role is not Role.FOLLOWER or raft.leader == NO_MEMBER:
        raise ProposalDropped("no leader")
    raft.send(Message(raft_pb2.MsgProp, to=raft.leader, entries=list(entries)))


def handle_proposal(raft: Raft, message: Message) -> None:
    """Somebody took this member for the leader: pass it on, but never back, or it could go round and round."""
    if not message.entries:
        raise InvalidMessage("MsgProp without entries")
    if message.from_ == raft.leader:
        raise ProposalDropped(f"{message.from_:x} does not lead any more")
    forward_proposal(raft, message.entries)


def handle_append(raft: Raft, message: Message) -> None:
    """Entries to store, or only a commit index."""
    entries = message.entries
    if not well_formed(entries, message.index, message.log_term) or (entries and entries[-1].term > message.term):
        raise InvalidMessage(f"MsgApp from {message.from_:x} holds entries that cannot follow each other")
    follow(raft, message.from_)
    log, previous = raft.log, message.index
    if previous < log.committed:
        # Old news: everything up to the commit index is settled.
        raft.send(Message(raft_pb2.MsgAppResp, to=message.from_, index=log.committed))
        return
    if not log.matches(previous, message.log_term):
        _refuse(raft, message)
        return
    fresh = _without_known(raft, entries)
    if fresh:
        log.append_from_leader(fresh)
    last = previous + len(entries)
    log.commit_to(min(message.commit, last))
    _acknowledge(raft, message.from_, last)


def _acknowledge(raft: Raft, leader: int, index: int) -> None:
    """Entries up to `index` are ours once they are stored. One answer says it for all that wait for the same write."""
    waiting = raft.messages_after_persist
    if waiting:
        last = waiting[-1]
        if last.type == raft_pb2.MsgAppResp and last.to == leader and last.term == raft.term and not last.reject:
            last.index = max(last.index, index)
            return
    raft.send(Message(raft_pb2.MsgAppResp, to=leader, index=index))


def _refuse(raft: Raft, message: Message) -> None:
    """Name the last entry that may agree: not above the leader's index, nor of a term above the leader's there."""
    log, previous = raft.log, message.index
    hint, hint_term = log.find_conflict_by_term(min(previous, log.last_index), message.log_term)
    raft.send(
        Message(
            raft_pb2.MsgAppResp, to=message.from_, index=previous, reject=True, reject_hint=hint, log_term=hint_term
        )
    )


def _without_known(raft: Raft, entries: list[Entry]) -> list[Entry]:
    """What is left after the entries that the log has already: from the first difference on."""
    log = raft.log
    for position, entry in enumerate(entries):
        if entry.index > log.last_index or not log.matches(entry.index, entry.term):
            assert entry.index > log.committed, "the leader's log contradicts a committed entry"
            return entries[position:] if position else entries
    return []


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """The leader lives, and says what is committed (never more than it knows this member to have)."""
    if message.commit > raft.log.last_index:
        raise LogLost(f"the leader counts on entry {message.commit}, but the log here ends at {raft.log.last_index}")
    follow(raft, message.from_)
    raft.log.commit_to(message.commit)
    raft.send(Message(raft_pb2.MsgHeartbeatResp, to=message.from_, context=message.context))


def handle_snapshot(raft: Raft, message: Message) -> None:
    """A state to take over in place of the log; what it holds is beside the message. Older than ours: ignored."""
    if message.snapshot is None or not message.snapshot.metadata.index:
        raise InvalidMessage(f"MsgSnap from {message.from_:x} without a snapshot")
    metadata = message.snapshot.metadata
    configuration = Configuration.from_conf_state(ConfState.from_proto(metadata.conf_state))
    fault = find_fault(configuration)
    if fault or metadata.term > message.term or not metadata.term:
        raise InvalidMessage(f"MsgSnap from {message.from_:x} cannot be: {fault or f'its term is {metadata.term}'}")
    follow(raft, message.from_)
    _restore(raft, message.snapshot, configuration)
    raft.send(Message(raft_pb2.MsgAppResp, to=message.from_, index=raft.log.committed))


def _restore(raft: Raft, snapshot: raft_pb2.Snapshot, configuration: Configuration) -> None:
    log, index = raft.log, snapshot.metadata.index
    if index <= log.committed or raft.id not in configuration.members():
        # One of a group without this member cannot be meant for it; etcd ignores it as well.
        return
    if log.matches(index, snapshot.metadata.term):
        # All of it is in the log already, and committed as we now know.
        log.commit_to(index)
        return
    log.restore(snapshot)
    raft.tracker = raft.new_tracker(configuration)
