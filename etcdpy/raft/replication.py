"""Entries from a leader to its followers, the acknowledgements back (5.3), and heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import well_formed
from etcdpy.raft.errors import InvalidMessage, LogCompacted, LogLost, ProposalDropped
from etcdpy.raft.message import Message
from etcdpy.raft.reads import confirm, release_early
from etcdpy.raft.tracker import ProgressState
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.raft.core import Raft
    from etcdpy.raft.entry import Entry


# --- the leader's side ---


def propose(raft: Raft, entries: Sequence[Entry]) -> None:
    """As leader: append and send out. Raises ProposalDropped. Hot road."""
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("this member has been removed from the group")
    if not raft.log.append_new(entries, raft.term, raft.config.max_uncommitted_bytes):
        raise ProposalDropped("too many bytes wait to be committed")
    broadcast_append(raft)


def broadcast_append(raft: Raft) -> None:
    """As leader: bring every other member up to date, as far as its progress lets."""
    if len(raft.tracker.progress) > 1:
        raft.tracker.each_peer(raft.id, lambda member: maybe_send_append(raft, member, even_if_empty=True))


def maybe_send_append(raft: Raft, member: int, *, even_if_empty: bool) -> bool:
    """As leader: one MsgApp with what the member lacks. True when one was sent.

    An empty one still tells the commit index.
    """
    progress, log = raft.tracker.progress[member], raft.log
    if progress.paused:
        return False
    previous = progress.next - 1
    try:
        previous_term = log.term(previous)
        entries = (
            log.slice(progress.next, log.last_index + 1, raft.config.max_message_bytes)
            if progress.next <= log.last_index
            else []
        )
    except LogCompacted:
        # The member needs entries that were truncated. Sending it a snapshot instead is not built yet; it stays where
        # it is, and is tried again after its next answer to a heartbeat.
        progress.paused = True
        return False
    if not entries and not even_if_empty:
        return False
    raft.send(
        Message(
            raft_pb2.MsgApp,
            to=member,
            index=previous,
            log_term=previous_term,
            commit=log.committed,
            entries=entries,
        )
    )
    progress.sent(previous + len(entries), len(entries), log.committed)
    return True


def own_entries_durable(raft: Raft) -> None:
    """As leader, after a write: count what is on disk here, and commit what that decides. Never earlier: etcd's single
    member once answered before its write was synced (etcd issue 14370)."""
    raft.acknowledge_own(raft.log.stable)
    if raft.maybe_commit():
        release_early(raft)
        broadcast_append(raft)


def handle_append_response(raft: Raft, message: Message) -> None:
    """At a leader: a follower stored entries, or refused them because its log differs before them."""
    member = message.from_
    progress = raft.tracker.progress.get(member)
    if progress is None:
        return
    if message.index > raft.log.last_index:
        raise InvalidMessage(f"member {member:x} answers for entry {message.index}, which was never sent to it")
    progress.recent_active = True
    if message.reject:
        _handle_refusal(raft, member, message)
        return
    probing = progress.state is ProgressState.PROBE
    if not raft.tracker.acknowledge(member, message.index) and not (probing and progress.match == message.index):
        return
    if probing:
        progress.become_replicate()
    if raft.maybe_commit():
        release_early(raft)
        broadcast_append(raft)
    elif progress.wants_commit(raft.log.committed):
        maybe_send_append(raft, member, even_if_empty=True)
    while maybe_send_append(raft, member, even_if_empty=False):
        pass


def _handle_refusal(raft: Raft, member: int, message: Message) -> None:
    """Go back to where the logs may agree.

    The follower names an index and the term it has there. Where our term is above that one, the logs cannot agree, as
    terms only rise along a log; so whole terms are skipped, not single entries.
    """
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.find_conflict_by_term(min(hint, raft.log.last_index), message.log_term)
    if raft.tracker.progress[member].refuse(message.index, hint):
        maybe_send_append(raft, member, even_if_empty=True)


def handle_heartbeat_response(raft: Raft, message: Message) -> None:
    """At a leader: a follower is alive, so what waited for a sign of life may go on."""
    member = message.from_
    progress = raft.tracker.progress.get(member)
    if progress is None:
        return
    progress.recent_active = True
    progress.paused = False
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        maybe_send_append(raft, member, even_if_empty=True)
    if message.context:
        confirm(raft, member, message.context)


def handle_unreachable(raft: Raft, message: Message) -> None:
    """At a leader: the transport could not reach a member, so what is on its way to it is probably lost."""
    progress = raft.tracker.progress.get(message.from_)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def handle_proposal(raft: Raft, message: Message) -> None:
    """At a leader: a proposal that a follower passed on. At a follower: pass it on."""
    if not message.entries:
        raise InvalidMessage("MsgProp without entries")
    entries = message.entries
    if any(entry.type != 0 for entry in entries) and raft.role is Role.LEADER:
        # Changes of configuration are checked one by one at the door (node.py); members send them alone.
        raise InvalidMessage("a change of configuration must be proposed on its own")
    if raft.role is Role.LEADER:
        propose(raft, entries)
    else:
        forward_proposal(raft, entries)


def forward_proposal(raft: Raft, entries: Sequence[Entry]) -> None:
    """At a follower: let the leader propose. Raises ProposalDropped when none is known."""
    if raft.role is not Role.FOLLOWER or raft.leader == NO_MEMBER:
        raise ProposalDropped("no leader")
    raft.send(Message(raft_pb2.MsgProp, to=raft.leader, entries=list(entries)))


# --- the follower's side ---


def handle_append(raft: Raft, message: Message) -> None:
    """At a follower: entries from the leader of the current term."""
    log = raft.log
    leader = message.from_
    previous, previous_term = message.index, message.log_term
    entries = message.entries
    if not well_formed(entries, previous, previous_term) or (entries and entries[-1].term > message.term):
        raise InvalidMessage(f"MsgApp from {leader:x} holds entries that cannot follow each other")
    if previous < log.committed:
        # Old news: everything up to the commit index is settled.
        raft.send(Message(raft_pb2.MsgAppResp, to=leader, index=log.committed))
        return
    if not log.matches(previous, previous_term):
        hint, hint_term = log.find_conflict_by_term(min(previous, log.last_index), previous_term)
        raft.send(
            Message(
                raft_pb2.MsgAppResp,
                to=leader,
                index=previous,
                reject=True,
                reject_hint=hint,
                log_term=hint_term,
            )
        )
        return
    fresh = _without_known(raft, entries)
    if fresh:
        log.append_from_leader(fresh)
    last = previous + len(entries)
    log.commit_to(min(message.commit, last))
    raft.send(Message(raft_pb2.MsgAppResp, to=leader, index=last))


def _without_known(raft: Raft, entries: list[Entry]) -> list[Entry]:
    """What is left after the entries that the log has already: from the first difference on."""
    for position, entry in enumerate(entries):
        if not raft.log.matches(entry.index, entry.term):
            assert entry.index > raft.log.committed, "the leader's log contradicts a committed entry"
            return entries[position:]
    return []


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """At a follower: the leader lives, and says what is committed (never more than it knows this member to have)."""
    if message.commit > raft.log.last_index:
        raise LogLost(f"the leader counts on entry {message.commit}, but the log here ends at {raft.log.last_index}")
    raft.log.commit_to(message.commit)
    leader = message.from_
    raft.send(Message(raft_pb2.MsgHeartbeatResp, to=leader, context=message.context))
