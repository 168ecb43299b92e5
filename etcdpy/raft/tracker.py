"""What a leader knows of each member, and what the group as a whole has agreed on.

    PROBE      where the follower's log agrees with ours is not known: one message at a time, waiting for its answer
    REPLICATE  it is known: entries flow without waiting, `next` runs ahead of `match`, as far as the window allows
    SNAPSHOT   what the follower needs was truncated: a snapshot is on its way, and nothing else is sent

    PROBE --acknowledged--> REPLICATE --refused, unreachable--> PROBE
    either --entries truncated--> SNAPSHOT --sent or failed--> PROBE (paused), --acknowledged--> REPLICATE

All changes of state are methods of Progress; nothing else writes its fields.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from etcdpy.raft.inflights import Inflights
from etcdpy.raft.quorum import JointConfig, MajorityConfig, VoteResult
from etcdpy.raft.types import ConfState

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.raft.message import Message


class ProgressState(Enum):
    """How a leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """A leader's view of one member. Invariant: 0 <= match < next; in SNAPSHOT next == pending_snapshot + 1."""

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
        "waiting",
    )

    def __init__(
        self, next_index: int, inflights: Inflights, *, is_learner: bool = False, active: bool = False
    ) -> None:
        assert next_index > 0, next_index
        self.match = 0
        """The member's log is known to agree with ours up to here, durably."""
        self.next = next_index
        """The next entry to send. Entries in (match, next) are on their way."""
        self.state = ProgressState.PROBE
        self.flow_paused = False
        """Waits for an answer, or a heartbeat's answer, before anything more is sent: after a probe with entries, and
        when the window is full."""
        self.inflights = inflights
        self.pending_snapshot = 0
        """The index of the snapshot that is on its way."""
        self.sent_commit = 0
        """The highest commit index on its way to the member."""
        self.is_learner = is_learner
        self.waiting: Message | None = None
        """The last MsgApp to the member, while it waits for the next Ready."""
        self.recent_active = active
        """Has been heard since the last check of the quorum. True for a new member, which had no chance to speak."""

    @property
    def paused(self) -> bool:
        """Whether nothing may be sent now."""
        return self.flow_paused or self.state is ProgressState.SNAPSHOT

    def _become(self, state: ProgressState) -> None:
        self.state, self.flow_paused, self.pending_snapshot = state, False, 0
        self.inflights.clear()

    def become_probe(self) -> None:
        """Find out anew where the logs agree. After a snapshot: probably where it ends."""
        after = max(self.match, self.pending_snapshot)
        self._become(ProgressState.PROBE)
        self.next = after + 1
        self.sent_commit = min(self.sent_commit, after)

    def become_replicate(self) -> None:
        """The logs agree up to `match`: let entries flow."""
        self._become(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot up to `index` left."""
        self._become(ProgressState.SNAPSHOT)
        self.pending_snapshot = self.sent_commit = index
        self.next = index + 1

    def snapshot_reported(self, *, ok: bool) -> None:
        """The snapshot has been handed over, or could not be. Wait for the member's own word, or a sign of life."""
        if not ok:
            self.pending_snapshot = 0
        self.become_probe()
        self.flow_paused = True

    def sent(self, count: int, size: int, commit: int) -> None:
        """A MsgApp with `count` entries of `size` bytes from `next` on left."""
        assert self.state is not ProgressState.SNAPSHOT
        self.sent_commit = commit
        if self.state is ProgressState.PROBE:
            self.flow_paused = self.flow_paused or count > 0
            return
        if count:
            self.next += count
            self.inflights.add(self.next - 1, size)
        # One that fills the window, or finds it full, is a probe: the next goes when something comes back.
        self.flow_paused = self.inflights.full

    def acknowledge(self, index: int) -> bool:
        """The member has stored everything up to `index`. False when that is old news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.flow_paused = False
        return True

    def refuse(self, rejected: int, hint: int) -> bool:
        """The member refused entries that follow `rejected`; `hint` is where it guesses the logs agree.

        False when the refusal answers something old: duplicates and reordering are the network's right.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.become_probe()
            return True
        if self.state is ProgressState.SNAPSHOT or self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.flow_paused = False
        return True

    def wants_commit(self, commit: int) -> bool:
        """Whether telling the member about `commit` could raise its own commit index."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def __repr__(self) -> str:
        text = f"{self.state.value} match={self.match} next={self.next}"
        if self.is_learner:
            text += " learner"
        if self.paused:
            text += " paused"
        if self.pending_snapshot:
            text += f" snapshot={self.pending_snapshot}"
        if not self.recent_active:
            text += " inactive"
        if len(self.inflights):
            text += f" inflight={len(self.inflights)}{'[full]' if self.inflights.full else ''}"
        return text


class Configuration:
    """Who votes and who learns. Immutable by habit: changes are made on a copy (confchange.py)."""

    __slots__ = ("auto_leave", "learners", "learners_next", "voters")

    def __init__(
        self,
        voters: JointConfig,
        learners: tuple[int, ...] = (),
        learners_next: tuple[int, ...] = (),
        *,
        auto_leave: bool = False,
    ) -> None:
        self.voters = voters
        self.learners = learners
        self.learners_next = learners_next
        self.auto_leave = auto_leave

    @staticmethod
    def from_conf_state(state: ConfState) -> Configuration:
        """The configuration that storage remembers."""
        voters = JointConfig(MajorityConfig(state.voters), MajorityConfig(state.voters_outgoing))
        return Configuration(voters, state.learners, state.learners_next, auto_leave=state.auto_leave)

    def conf_state(self) -> ConfState:
        """What storage should remember."""
        voters = self.voters
        return ConfState(
            voters.incoming.ids, self.learners, voters.outgoing.ids, self.learners_next, auto_leave=self.auto_leave
        )

    def members(self) -> tuple[int, ...]:
        """Every voter and learner, sorted."""
        return tuple(sorted({*self.voters.ids, *self.learners, *self.learners_next}))

    def is_voter(self, member: int) -> bool:
        """Whether `member` has a vote in either half."""
        return member in self.voters.incoming or member in self.voters.outgoing

    @property
    def is_joint(self) -> bool:
        """Whether two sets of voters decide together."""
        return len(self.voters.outgoing) > 0


class Tracker:
    """Progress of every member under one configuration, and the votes of a running election."""

    __slots__ = ("_max_bytes", "_max_messages", "configuration", "matches", "progress", "votes")

    def __init__(self, configuration: Configuration, last_index: int, max_messages: int, max_bytes: int) -> None:
        self.configuration = configuration
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.progress: dict[int, Progress] = {}
        self.matches: dict[int, int] = {}
        """member -> match, kept beside `progress` so that counting a quorum is plain arithmetic."""
        self.votes: dict[int, bool] = {}
        self.reset(last_index)

    def reset(self, last_index: int) -> None:
        """Forget what was known of everybody: a new term begins."""
        learners = self.configuration.learners
        self.progress = {
            member: Progress(last_index + 1, self._window(), is_learner=member in learners)
            for member in self.configuration.members()
        }
        self.matches = {}
        self.votes = {}

    def _window(self) -> Inflights:
        return Inflights(self._max_messages, self._max_bytes)

    def switch(self, configuration: Configuration, last_index: int) -> None:
        """Go over to another configuration; what is known of members that stay is kept.

        A new member is probed from the last entry on.
        """
        kept = self.progress
        self.configuration = configuration
        self.progress = {}
        for member in configuration.members():
            progress = kept.get(member) or Progress(max(last_index, 1), self._window(), active=True)
            progress.is_learner = member in configuration.learners
            self.progress[member] = progress
        self.matches = {member: self.progress[member].match for member in self.progress}

    def acknowledge(self, member: int, index: int) -> bool:
        """See Progress.acknowledge."""
        if not self.progress[member].acknowledge(index):
            return False
        self.matches[member] = index
        return True

    def committed_index(self) -> int:
        """The highest index that a quorum has stored."""
        return self.configuration.voters.committed_index(self.matches)

    def record_vote(self, member: int, granted: bool) -> VoteResult:
        """Count one vote; a member's first one stands."""
        self.votes.setdefault(member, granted)
        return self.configuration.voters.vote_result(self.votes)

    def check_activity(self, own_id: int) -> bool:
        """Whether a quorum has been heard since the last check; begins the next one."""
        active = {member: progress.recent_active for member, progress in self.progress.items()}
        for member, progress in self.progress.items():
            progress.recent_active = member == own_id
        return self.configuration.voters.vote_result(active) is VoteResult.WON

    def messages_left(self) -> None:
        """What waited for a Ready is on its way."""
        for progress in self.progress.values():
            progress.waiting = None

    def each_peer(self, own_id: int, visit: Callable[[int], object]) -> None:
        """Call `visit` for every other member, by ascending id."""
        for member in self.progress:
            if member != own_id:
                visit(member)
