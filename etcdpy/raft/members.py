"""Changes of members: one at a time in the log, in force when applied, joint configurations left by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft import confchange, replication
from etcdpy.raft.entry import NORMAL, Entry, EntryType
from etcdpy.raft.errors import ConfChangeRefused, InvalidConfChange, InvalidMessage, ProposalDropped
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from etcdpy.raft.confchange import ConfChange
    from etcdpy.raft.core import Raft
    from etcdpy.raft.message import Message
    from etcdpy.raft.tracker import Configuration


def make_entry(change: ConfChange, proposal: object = None) -> Entry:
    """The log entry of a change."""
    is_v1 = isinstance(change, raft_pb2.ConfChange)
    kind = EntryType.CONF_CHANGE if is_v1 else EntryType.CONF_CHANGE_V2
    return Entry(change.SerializeToString(), proposal, type=int(kind))


def propose(raft: Raft, entry: Entry) -> None:
    """As leader: propose a change. Raises ConfChangeRefused or ProposalDropped."""
    _check(raft, entry)
    replication.propose(raft, [entry])
    raft.pending_conf_index = entry.index


def _check(raft: Raft, entry: Entry) -> None:
    """Refuse a second change while one may be unapplied, and one that does not fit the configuration."""
    if raft.pending_conf_index > raft.log.applied:
        raise ConfChangeRefused(f"a change of members may be unapplied at entry {raft.pending_conf_index}")
    try:
        change = confchange.as_v2(confchange.parse(entry))
        confchange.next_configuration(raft.tracker.configuration, change)
    except InvalidConfChange as error:
        raise ConfChangeRefused(str(error)) from error


def handle_proposal(raft: Raft, message: Message) -> None:
    """At a leader: a proposal that another member passed on, of whatever kind."""
    if not message.entries:
        raise InvalidMessage("MsgProp without entries")
    entries = message.entries
    if any(entry.type != NORMAL for entry in entries):
        entries = _screen(raft, entries)
    replication.propose(raft, entries)


def _screen(raft: Raft, entries: list[Entry]) -> list[Entry]:
    """The entries, with changes that cannot be taken replaced by empty entries.

    The asker sees its request vanish, as on etcd: there is no answer to a MsgProp.
    """
    screened: list[Entry] = []
    for entry in entries:
        if entry.type != NORMAL:
            try:
                _check(raft, entry)
            except ConfChangeRefused:
                screened.append(Entry())
                continue
            raft.pending_conf_index = raft.log.last_index + len(screened) + 1
        screened.append(entry)
    return screened


def switch(raft: Raft, configuration: Configuration) -> None:
    """Go over to `configuration`, and do what a leader must about it."""
    raft.tracker.switch(configuration, raft.log.last_index)
    if raft.role is not Role.LEADER:
        return
    voter = configuration.is_voter(raft.id)
    if not voter and raft.config.step_down_on_removal:
        raft.become_follower(raft.term, NO_MEMBER)
        return
    if not configuration.is_voter(raft.lead_transferee):
        raft.lead_transferee = NO_MEMBER
    # A smaller quorum may have committed more by now. If not, new members are still to be probed at once.
    if not replication.commit(raft) or raft.lazy_commit:
        raft.tracker.each_peer(raft.id, lambda member: replication.maybe_send_append(raft, member, even_if_empty=False))


def maybe_leave_joint(raft: Raft) -> None:
    """As leader, after entries were applied: end a joint configuration that is to be left by itself.

    Tried again each election timeout: a proposal is dropped while the leadership is handed over, and in a quiet group
    no entry would come to try again with.
    """
    if not raft.tracker.configuration.auto_leave or raft.log.applied < raft.pending_conf_index:
        return
    entry = Entry(type=int(EntryType.CONF_CHANGE_V2))
    try:
        replication.propose(raft, [entry])
    except ProposalDropped:
        return
    raft.pending_conf_index = entry.index
