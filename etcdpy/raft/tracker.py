"""What a leader knows of each member, and what the group as a whole has agreed on.

    PROBE      where the follower's log agrees with ours is not known: one message at a time, waiting for its answer
    REPLICATE  it is known: entries flow without waiting, `next` runs ahead of `match`

All changes of state are methods of Progress; nothing else writes its fields.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from etcdpy.raft.quorum import JointConfig, MajorityConfig, VoteResult
from etcdpy.raft.types import ConfState

if TYPE_CHECKING:
    from collections.abc import Callable


class ProgressState(Enum):
    """How a leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"


class Progress:
    """A leader's view of one member. Invariant: 0 <= match < next."""

    __slots__ = ("is_learner", "match", "next", "paused", "recent_active", "sent_commit", "state")

    def __init__(self, next_index: int, *, match: int = 0, is_learner: bool = False) -> None:
        assert 0 <= match < next_index, (match, next_index)
        self.match = match
        """The member's log is known to agree with ours up to here, durably."""
        self.next = next_index
        """The next entry to send. Entries in (match, next) are on their way."""
        self.state = ProgressState.PROBE
        self.paused = False
        """Waits for an answer or a heartbeat's answer before anything more is sent."""
        self.sent_commit = 0
        """The highest commit index on its way to the member."""
        self.is_learner = is_learner
        self.recent_active = True

    def become_probe(self) -> None:
        """Find out anew where the logs agree."""
        self.state, self.paused, self.next = ProgressState.PROBE, False, self.match + 1
        self.sent_commit = min(self.sent_commit, self.match)

    def become_replicate(self) -> None:
        """The logs agree up to `match`: let entries flow."""
        self.state, self.paused, self.next = ProgressState.REPLICATE, False, self.match + 1

    def sent(self, last_index: int, count: int, commit: int) -> None:
        """A MsgApp with `count` entries up to `last_index` left."""
        self.sent_commit = commit
        if count == 0:
            return
        if self.state is ProgressState.REPLICATE:
            self.next = last_index + 1
        else:
            self.paused = True

    def acknowledge(self, index: int) -> bool:
        """The member has stored everything up to `index`. False when that is old news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
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
        if self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.paused = False
        return True

    def wants_commit(self, commit: int) -> bool:
        """Whether telling the member about `commit` could raise its own commit index."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def __repr__(self) -> str:
        flags = "".join(f" {name}" for name, on in (("learner", self.is_learner), ("paused", self.paused)) if on)
        return f"{self.state.value} match={self.match} next={self.next}{flags}"


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

    @property
    def is_joint(self) -> bool:
        """Whether two sets of voters decide together."""
        return len(self.voters.outgoing) > 0


class Tracker:
    """Progress of every member under one configuration, and the votes of a running election."""

    __slots__ = ("configuration", "matches", "progress", "votes")

    def __init__(self, configuration: Configuration, last_index: int) -> None:
        self.configuration = configuration
        self.progress: dict[int, Progress] = {}
        self.matches: dict[int, int] = {}
        """member -> match, kept beside `progress` so that counting a quorum is plain arithmetic."""
        self.votes: dict[int, bool] = {}
        self.reset(last_index)

    def reset(self, last_index: int) -> None:
        """Forget what was known of everybody: a new term begins."""
        learners = self.configuration.learners
        self.progress = {
            member: Progress(last_index + 1, is_learner=member in learners) for member in self.configuration.members()
        }
        self.matches = {}
        self.votes = {}

    def switch(self, configuration: Configuration, last_index: int) -> None:
        """Go over to another configuration; what is known of members that stay is kept.

        A new member is probed from the last entry on, and counts as active, as it had no chance to speak yet.
        """
        kept = self.progress
        self.configuration = configuration
        self.progress = {}
        for member in configuration.members():
            progress = kept.get(member) or Progress(max(last_index, 1))
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

    def each_peer(self, own_id: int, visit: Callable[[int], object]) -> None:
        """Call `visit` for every other member, by ascending id."""
        for member in self.progress:
            if member != own_id:
                visit(member)
