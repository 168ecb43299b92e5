"""Entries from a leader to the other members (5.3), and what it makes of their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.errors import InvalidMessage, LogCompacted, ProposalDropped, SnapshotTemporarilyUnavailable
from etcdpy.raft.message import Message
from etcdpy.raft.reads import confirm, release_early
from etcdpy.raft.tracker import ProgressState
from etcdpy.raft.types import NO_MEMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.raft.core import Raft
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.tracker import Progress


# --- out ---


def propose(raft: Raft, entries: Sequence[Entry]) -> None:
    """As leader: append and send out. Raises ProposalDropped. Hot road."""
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("this member has been removed from the group")
    if raft.lead_transferee != NO_MEMBER:
        raise ProposalDropped(f"the leadership goes over to {raft.lead_transferee:x}")
    if not raft.log.append_new(entries, raft.term, raft.config.max_uncommitted_bytes):
        raise ProposalDropped("too many bytes wait to be committed")
    broadcast_append(raft)


def broadcast_append(raft: Raft) -> None:
    """As leader: bring every other member up to date, as far as its progress lets."""
    if len(raft.tracker.progress) > 1:
        raft.tracker.each_peer(raft.id, lambda member: maybe_send_append(raft, member, even_if_empty=True))


def maybe_send_append(raft: Raft, member: int, *, even_if_empty: bool) -> bool:
    """As leader: one MsgApp with what the member lacks, or a snapshot. True when something was sent.

    An empty one still tells the commit index, and reaches a member whose window is full: should everything in it have
    been lost, the answer shows it.
    """
    progress, log = raft.tracker.progress[member], raft.log
    if progress.paused:
        return False
    first = progress.next
    entries: list[Entry] = []
    try:
        previous_term = log.term(first - 1)
        if first <= log.last_index and not (progress.state is ProgressState.REPLICATE and progress.inflights.full):
            entries = log.slice(first, log.last_index + 1, raft.config.max_message_bytes)
    except LogCompacted:
        return _maybe_send_snapshot(raft, member, progress)
    if not entries and not even_if_empty:
        return False
    if not _join_waiting(progress, first - 1, entries, log.committed):
        message = Message(
            raft_pb2.MsgApp,
            to=member,
            index=first - 1,
            log_term=previous_term,
            entries=entries,
            commit=log.committed,
        )
        raft.send(message)
        progress.waiting = message
    progress.sent(len(entries), log.payload_bytes(entries), log.committed)
    return True


def _join_waiting(progress: Progress, previous: int, entries: list[Entry], committed: int) -> bool:
    """Let the last MsgApp to the member, if it has not left yet, say all of it: that saves a message and an answer.

    While a batch is synced the one before commits, so its commit index leaves together with the next batch.
    """
    waiting = progress.waiting
    if waiting is None or waiting.index + len(waiting.entries) != previous or (waiting.entries and entries):
        return False
    waiting.commit = committed
    if entries:
        waiting.entries = entries
    return True


def _maybe_send_snapshot(raft: Raft, member: int, progress: Progress) -> bool:
    """What the member needs was truncated. One that is not heard gets no snapshot: it would not take it."""
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.storage.snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    progress.become_snapshot(snapshot.metadata.index)
    raft.send(Message(raft_pb2.MsgSnap, to=member, snapshot=snapshot))
    return True


# --- answers ---


def own_entries_durable(raft: Raft) -> None:
    """As leader, after a write: count what is on disk here, and commit what that decides. Never earlier: etcd's single
    member once answered before its write was synced (etcd issue 14370)."""
    raft.acknowledge_own(raft.log.stable)
    commit(raft)


def commit(raft: Raft) -> bool:
    """As leader: commit what a quorum has, and tell everybody, unless that can wait. False when it is nothing new."""
    if not raft.maybe_commit():
        return False
    release_early(raft)
    if not raft.lazy_commit:
        broadcast_append(raft)
    return True


def tell_commit(raft: Raft) -> None:
    """As leader: tell the commit index to whom it is news."""
    for member, progress in raft.tracker.progress.items():
        if member != raft.id and progress.wants_commit(raft.log.committed):
            maybe_send_append(raft, member, even_if_empty=True)


def commit_is_untold(raft: Raft, index: int) -> bool:
    """As leader: whether a member to whom entries flow could be told that `index` is committed, and was not."""
    return any(
        member != raft.id
        and progress.state is ProgressState.REPLICATE
        and not progress.flow_paused
        and progress.wants_commit(index)
        for member, progress in raft.tracker.progress.items()
    )


def handle_append_response(raft: Raft, message: Message) -> None:
    """At a leader: a follower stored entries, or refused them because its log differs before them."""
    member, log = message.from_, raft.log
    progress = raft.tracker.progress[member]
    if message.index > log.last_index:
        raise InvalidMessage(f"member {member:x} answers for entry {message.index}, which was never sent to it")
    progress.recent_active = True
    if message.reject:
        _handle_refusal(raft, member, message)
        return
    probing = progress.state is ProgressState.PROBE
    if not raft.tracker.acknowledge(member, message.index) and not (probing and progress.match == message.index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(message.index)
    elif probing or progress.match + 1 >= log.first_index():
        # From SNAPSHOT too, whichever snapshot it was: the log reaches the member again.
        progress.become_replicate()
    if not commit(raft) and not raft.lazy_commit and progress.wants_commit(log.committed):
        maybe_send_append(raft, member, even_if_empty=True)
    while maybe_send_append(raft, member, even_if_empty=False):
        pass
    if member == raft.lead_transferee and progress.match == log.last_index:
        raft.send(Message(raft_pb2.MsgTimeoutNow, to=member))


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
    progress = raft.tracker.progress[member]
    progress.recent_active = True
    progress.flow_paused = False
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        maybe_send_append(raft, member, even_if_empty=True)
    if message.context:
        confirm(raft, member, message.context)


def report_unreachable(raft: Raft, member: int) -> None:
    """As leader: the transport could not reach a member, so what is on its way to it is probably lost."""
    progress = raft.tracker.progress.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def report_snapshot(raft: Raft, member: int, *, ok: bool) -> None:
    """As leader: a snapshot has been handed over, or could not be."""
    progress = raft.tracker.progress.get(member)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        progress.snapshot_reported(ok=ok)
