"""The door to raft: tick, step, propose, ready, advance.

    node = RawNode(Config(...))
    each tick:              node.tick()
    each peer message:      node.step(message)
    each batch of requests: node.propose(entries)
    whenever has_ready():   ready = node.ready(); do what it says, in its order; node.advance(ready)

One Ready is outstanding at a time. While its entries sync, ticks, messages and proposals go on coming in and gather
for the next one: that is the group commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from etcdpy.raft import confchange, election, following, members, reads, replication, step, transfer
from etcdpy.raft.core import Config, Raft
from etcdpy.raft.entry import NORMAL
from etcdpy.raft.types import NO_MEMBER, HardState, Ready, Role, SoftState

if TYPE_CHECKING:
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.message import Message
    from etcdpy.raft.tracker import ProgressState
    from etcdpy.raft.types import ConfState, ReadState


class Status(NamedTuple):
    """A look inside, for status answers and metrics."""

    id: int
    role: Role
    leader: int
    term: int
    vote: int
    committed: int
    applied: int
    last_index: int
    stable: int
    is_learner: bool
    lead_transferee: int
    """Whom this leader is handing over to."""
    progress: dict[int, MemberProgress]
    """What a leader knows of each member, itself included; empty at others."""


class MemberProgress(NamedTuple):
    """See tracker.Progress."""

    match: int
    next: int
    state: ProgressState
    recent_active: bool
    is_learner: bool
    paused: bool
    pending_snapshot: int
    inflight_messages: int
    inflight_bytes: int


class RawNode:
    """One member of a raft group. Not for use from several threads."""

    __slots__ = ("_given_hard", "_given_soft", "_outstanding", "_raft")

    def __init__(self, config: Config) -> None:
        self._raft = Raft(config)
        self._given_hard = self._raft.hard_state
        self._given_soft = self._soft_state()
        self._outstanding: Ready | None = None

    # --- time ---

    def tick(self) -> None:
        """One unit of time went by."""
        raft = self._raft
        raft.election_elapsed += 1
        if raft.role is Role.LEADER:
            self._tick_leader()
        elif raft.promotable and raft.election_elapsed >= raft.randomized_election_ticks:
            raft.election_elapsed = 0
            election.campaign(raft)

    def _tick_leader(self) -> None:
        raft = self._raft
        if raft.election_elapsed >= raft.config.election_ticks:
            raft.election_elapsed = 0
            raft.lead_transferee = NO_MEMBER
            if raft.config.check_quorum:
                election.check_quorum(raft)
                if raft.role is not Role.LEADER:
                    return
            members.maybe_leave_joint(raft)
        raft.heartbeat_elapsed += 1
        if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
            raft.heartbeat_elapsed = 0
            reads.broadcast_heartbeat(raft)

    def advance_ticks(self, ticks: int) -> None:
        """Let time pass at start-up without acting on it (--initial-election-tick-advance): at most one election
        timeout less one tick, so that a leader that is there can still make itself heard before an election."""
        raft = self._raft
        raft.election_elapsed += max(0, min(ticks, raft.config.election_ticks - 1 - raft.election_elapsed))

    def leader_is_lost(self) -> None:
        """The transport has lost the leader. Should it stay silent, the voters that are left ask for votes in turn, as
        soon as each other's leases are over, and not at random in twice that time.

        The turns lie two ticks apart, so that their phases cannot let two members ask at once.
        """
        raft = self._raft
        if raft.role is Role.FOLLOWER and raft.leader and raft.promotable:
            left = [voter for voter in raft.tracker.configuration.voters.ids if voter != raft.leader]
            ticks = raft.config.election_ticks
            raft.randomized_election_ticks = min(ticks + 1 + 2 * left.index(raft.id), 2 * ticks - 1)

    def campaign(self) -> bool:
        """Ask for votes now; False when this member may not. A single voter leads once its own vote is durable."""
        return election.campaign(self._raft)

    # --- input ---

    def step(self, message: Message) -> None:
        """Take a peer's message. Raises RaftError: LogLost means stop for good, any other means drop the message."""
        step.step(self._raft, message)

    def report_unreachable(self, member: int) -> None:
        """The transport could not deliver to `member`."""
        if self._raft.role is Role.LEADER:
            replication.report_unreachable(self._raft, member)

    def report_snapshot(self, member: int, *, ok: bool) -> None:
        """A MsgSnap of this member's has been handed over, or could not be. Without this word the member gets nothing
        more from this leader until it answers by itself."""
        if self._raft.role is Role.LEADER:
            replication.report_snapshot(self._raft, member, ok=ok)

    def transfer_leadership(self, target: int) -> bool:
        """Hand the leadership over to `target`; a follower asks its leader to. False when that cannot even be tried.

        Watch the leader to see it done; after an election timeout it is given up.
        """
        return transfer.transfer(self._raft, target)

    def propose(self, entries: list[Entry]) -> None:
        """Propose a batch of normal entries; a leader numbers them in place. Raises ProposalDropped, taking none.

        At a follower they go to the leader, and `proposal` stays behind: find it again by an id inside the data.
        """
        raft = self._raft
        if not entries:
            return
        if raft.role is Role.LEADER:
            replication.propose(raft, entries)
        else:
            following.forward_proposal(raft, entries)

    def propose_conf_change(self, change: confchange.ConfChange, proposal: object = None) -> Entry:
        """Propose a change of members; returns its entry. Raises ConfChangeRefused or ProposalDropped.

        One change at a time, and only once applied is it over. At a follower it goes to the leader, which drops without
        a word what it refuses.
        """
        raft = self._raft
        entry = members.make_entry(change, proposal)
        if raft.role is Role.LEADER:
            members.propose(raft, entry)
        else:
            following.forward_proposal(raft, [entry])
        return entry

    def apply_conf_change(self, change: confchange.ConfChange) -> ConfState:
        """A committed change is being applied: go over to the new members. To be called before advance() of the Ready
        that carried it. Returns what to store as the group. Raises InvalidConfChange, with nothing changed."""
        raft = self._raft
        members.switch(raft, confchange.next_configuration(raft.tracker.configuration, confchange.as_v2(change)))
        return raft.conf_state()

    def read_index(self, context: bytes) -> bool:
        """Ask for a linearizable read; a ReadState with `context` comes with a Ready. False when there is nobody to
        ask or too many wait; like messages, a question passed on to a leader may be lost, so time out and repeat."""
        raft = self._raft
        return reads.request_read(raft, raft.id, context)

    def read_index_now(self) -> int | None:
        """The index a linearizable read may use at once, when this member decides alone or trusts its lease; None when
        it must ask.

        Hot road: spares a group of one the way through Ready.
        """
        raft = self._raft
        if raft.role is not Role.LEADER or not reads.answers_at_once(raft):
            return None
        return raft.log.committed if raft.committed_in_term() else None

    # --- output ---

    def has_ready(self) -> bool:
        """Whether ready() would give anything. False while one is outstanding."""
        raft = self._raft
        log = raft.log
        return self._outstanding is None and bool(
            log.stable != log.last_index
            or log.appliable_index() > log.applied
            or raft.messages
            or raft.messages_after_persist
            or raft.read_states
            or log.snapshot is not None
            or raft.hard_state != self._given_hard
            or self._soft_state() != self._given_soft
        )

    def ready(self) -> Ready:
        """Everything to do now; see Ready. The next one comes after advance()."""
        assert self._outstanding is None, "advance() the last Ready first"
        raft = self._raft
        log = raft.log
        given = self._given_hard
        hard = HardState(raft.term, raft.vote, log.committed)
        soft = self._soft_state()
        entries = log.unstable()
        ready = Ready(
            soft_state=soft if soft != self._given_soft else None,
            hard_state=hard if hard != given else None,
            entries=entries,
            must_sync=bool(entries or log.snapshot) or hard.term != given.term or hard.vote != given.vote,
            committed=log.next_committed(raft.config.max_committed_bytes),
            messages=raft.messages,
            messages_after_persist=raft.messages_after_persist,
            read_states=raft.read_states,
            snapshot=log.snapshot,
        )
        if ready.messages:
            raft.tracker.messages_left()
        raft.messages, raft.messages_after_persist, raft.read_states = [], [], []
        self._given_hard, self._given_soft, self._outstanding = hard, soft, ready
        return ready

    def take_messages(self) -> list[Message]:
        """The messages that may leave at once, although a Ready is outstanding: heartbeats, answers to reads, commit
        indexes need not wait for the disk."""
        raft = self._raft
        messages, raft.messages = raft.messages, []
        if messages:
            raft.tracker.messages_left()
        return messages

    @property
    def lazy_commit(self) -> bool:
        """Whether this member, as leader, lets others know what is committed only with the next entries, or at
        tell_commit()."""
        return self._raft.lazy_commit

    @lazy_commit.setter
    def lazy_commit(self, lazy: bool) -> None:
        self._raft.lazy_commit = lazy

    def commit_is_untold(self, index: int) -> bool:
        """Whether this leader knows `index` as committed, and another member that takes entries was not told."""
        return self._raft.role is Role.LEADER and replication.commit_is_untold(self._raft, index)

    def tell_commit(self) -> None:
        """As leader: tell the others what is committed, with the next Ready or take_messages()."""
        if self._raft.role is Role.LEADER:
            replication.tell_commit(self._raft)

    def take_read_states(self) -> list[ReadState]:
        """The reads that were confirmed, although a Ready is outstanding."""
        raft = self._raft
        states, raft.read_states = raft.read_states, []
        return states

    def advance(self, ready: Ready) -> None:
        """`ready` is done: entries and hard state are durable, committed entries were taken over for apply."""
        assert ready is self._outstanding, "advance() takes the outstanding Ready"
        self._outstanding = None
        raft, log = self._raft, self._raft.log
        if ready.hard_state is not None:
            raft.durable = ready.hard_state
        if ready.snapshot is not None:
            log.installed(ready.snapshot)
        if ready.committed:
            log.applied_to(ready.committed[-1].index)
        if ready.entries and log.snapshot is None:
            # Otherwise a snapshot came meanwhile. Installing it empties the log on disk, so nothing there counts.
            last = ready.entries[-1]
            log.stable_to(last.index, last.term)
        election.own_vote_durable(raft)
        if raft.role is Role.LEADER:
            if ready.entries:
                replication.own_entries_durable(raft)
            if ready.committed:
                members.maybe_leave_joint(raft)

    # --- looking in ---

    def status(self) -> Status:
        """A copy of what is worth knowing."""
        raft, log = self._raft, self._raft.log
        return Status(
            raft.id,
            raft.role,
            raft.leader,
            raft.term,
            raft.vote,
            log.committed,
            log.applied,
            log.last_index,
            log.stable,
            raft.is_learner,
            raft.lead_transferee,
            self._progress() if raft.role is Role.LEADER else {},
        )

    def matches(self) -> dict[int, int] | None:
        """How far each member's log is known to agree with this one's, by id; None unless this member leads."""
        raft = self._raft
        if raft.role is not Role.LEADER:
            return None
        return {member: progress.match for member, progress in raft.tracker.progress.items()}

    def _progress(self) -> dict[int, MemberProgress]:
        return {
            member: MemberProgress(
                each.match,
                each.next,
                each.state,
                each.recent_active,
                each.is_learner,
                each.paused,
                each.pending_snapshot,
                len(each.inflights),
                each.inflights.bytes,
            )
            for member, each in self._raft.tracker.progress.items()
        }

    @property
    def waiting_snapshot(self) -> int:
        """The index of the snapshot that a Ready gives or will give to install, 0 for none. After a MsgSnap was stepped
        it tells whether what came beside it is wanted."""
        snapshot = self._raft.log.snapshot
        return snapshot.metadata.index if snapshot is not None else 0

    def conf_state(self) -> ConfState:
        """The members as of the last applied change."""
        return self._raft.conf_state()

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""
        return self._raft.role is Role.LEADER

    @property
    def leader(self) -> int:
        """Who leads, 0 when not known."""
        return self._raft.leader

    @property
    def lead_transferee(self) -> int:
        """As leader: to whom the lead is being handed, 0 for nobody."""
        return self._raft.lead_transferee

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term

    @property
    def committed(self) -> int:
        """The commit index."""
        return self._raft.log.committed

    def _soft_state(self) -> SoftState:
        return SoftState(self._raft.leader, self._raft.role)


__all__ = ["NORMAL", "Config", "MemberProgress", "RawNode", "Status"]
