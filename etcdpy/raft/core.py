"""One member's Raft state, and the transitions between roles. What a message does stands in the modules beside it:

    step.py         which message goes where, by role and type; the term check that comes first
    election.py     campaigning, votes
    replication.py  entries from a leader, and the answers
    following.py    entries, heartbeats and snapshots at a follower
    reads.py        ReadIndex, heartbeats
    members.py      changes of configuration
    transfer.py     handing the leadership over
    node.py         the door to the outside

Paper: "In Search of an Understandable Consensus Algorithm (Extended Version)"; its section numbers are cited as 5.x.
Thesis: "Consensus: Bridging Theory and Practice", cited as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.log import Log
from etcdpy.raft.reads import ReadQueue
from etcdpy.raft.tracker import Configuration, Tracker
from etcdpy.raft.types import NO_MEMBER, HardState, LogStorage, RandomSource, ReadOnly, ReadState, Role

if TYPE_CHECKING:
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import ConfState

_LEAVES_AT_ONCE: Final = frozenset(
    (
        raft_pb2.MsgApp,
        raft_pb2.MsgHeartbeat,
        raft_pb2.MsgPreVote,
        raft_pb2.MsgPreVoteResp,
        raft_pb2.MsgProp,
        raft_pb2.MsgReadIndex,
        raft_pb2.MsgReadIndexResp,
        raft_pb2.MsgSnap,
        raft_pb2.MsgTimeoutNow,
        raft_pb2.MsgTransferLeader,
    )
)
"""Types that promise nothing which is not durable already: a leader's term was durable before it got a vote, and a
pre-vote binds nobody. The others are MsgVote, MsgVoteResp, MsgAppResp and MsgHeartbeatResp."""

WITHOUT_TERM: Final = frozenset((raft_pb2.MsgProp, raft_pb2.MsgReadIndex))
"""Forwarded requests, which hold in any term. All other types carry one."""


@dataclass(frozen=True, slots=True)
class Config:
    """How one member takes part. Ticks are whatever the caller makes of them; sizes are bytes of entry data."""

    id: int
    storage: LogStorage
    random: RandomSource
    """Source of election timeouts. Injected, so that one seed replays a whole cluster."""
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    applied: int = 0
    """The last entry whose effects are in the applied state; committed entries after it are handed out again."""
    pre_vote: bool = True
    """Ask whether an election would be won before starting one."""
    check_quorum: bool = True
    """A leader that has not heard a quorum for an election timeout steps down, and who has heard a leader within one
    ignores who asks for votes: a member that comes back from a partition disturbs nobody."""
    read_only: ReadOnly = ReadOnly.SAFE
    step_down_on_removal: bool = False
    """Whether a leader that is removed, or becomes a learner, stops leading at once. As in etcd it leads on, without
    counting itself, until its process ends: so the others learn that the change is committed."""
    max_message_bytes: int = limits.RAFT_MESSAGE_BYTES
    max_inflight_messages: int = limits.RAFT_INFLIGHT_MESSAGES
    max_inflight_bytes: int = limits.RAFT_INFLIGHT_BYTES
    max_committed_bytes: int = limits.RAFT_READY_COMMITTED_BYTES
    max_uncommitted_bytes: int = limits.RAFT_UNCOMMITTED_BYTES
    max_inflight_reads: int = field(default=limits.RAFT_WAITING_READS)

    def __post_init__(self) -> None:
        assert self.id != NO_MEMBER
        assert 0 < self.heartbeat_ticks < self.election_ticks
        assert min(self.max_message_bytes, self.max_committed_bytes, self.max_uncommitted_bytes) > 0
        assert self.max_inflight_messages > 0
        assert self.max_inflight_bytes >= self.max_message_bytes, "a message must fit into the window"
        assert self.check_quorum or self.read_only is not ReadOnly.LEASE_BASED, "a lease needs check_quorum"


class Raft:
    """The state machine. Same state and same input give the same output: no clock, no disk, no socket in here."""

    __slots__ = (
        "config",
        "durable",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "lazy_commit",
        "lead_transferee",
        "leader",
        "log",
        "messages",
        "messages_after_persist",
        "pending_conf_index",
        "randomized_election_ticks",
        "read_states",
        "reads",
        "role",
        "term",
        "tracker",
        "vote",
    )

    def __init__(self, config: Config) -> None:
        hard_state, conf_state = config.storage.initial_state()
        self.config = config
        self.id = config.id
        self.log = Log(config.storage, config.applied)
        self.tracker = self.new_tracker(Configuration.from_conf_state(conf_state))
        self.term = hard_state.term
        self.vote = hard_state.vote
        assert hard_state.commit <= self.log.last_index, (hard_state, self.log.last_index)
        self.log.commit_to(hard_state.commit)
        assert self.log.committed <= self.log.last_index, "storage must hold every applied entry or its truncation"
        self.durable = hard_state
        """Term and vote (and some commit index) as known to be on disk."""
        self.role = Role.FOLLOWER
        self.leader = NO_MEMBER
        self.lead_transferee = NO_MEMBER
        """The member that this leader is handing over to; proposals are dropped meanwhile."""
        self.lazy_commit = False
        """As leader: tell of a commit index with the next entries, or when the server asks for it, and not at once."""
        self.reads = ReadQueue()
        self.messages: list[Message] = []
        self.messages_after_persist: list[Message] = []
        self.read_states: list[ReadState] = []
        self.pending_conf_index = 0
        """A configuration change may be in the log, unapplied, up to here: no second one is taken (thesis 4.1)."""
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = 0
        self.become_follower(self.term, NO_MEMBER)

    # --- what others ask ---

    @property
    def hard_state(self) -> HardState:
        """What must be durable by now or with the next Ready."""
        return HardState(self.term, self.vote, self.log.committed)

    @property
    def is_learner(self) -> bool:
        """Whether this member only learns."""
        return self.id in self.tracker.configuration.learners

    @property
    def promotable(self) -> bool:
        """Whether this member may become leader: it votes in the configuration that it knows, and has all its state."""
        return self.log.snapshot is None and self.tracker.configuration.is_voter(self.id)

    def conf_state(self) -> ConfState:
        """The current configuration."""
        return self.tracker.configuration.conf_state()

    def committed_in_term(self) -> bool:
        """Whether the commit index lies in the current term: only then does a leader know all that is committed."""
        return self.log.matches(self.log.committed, self.term)

    def new_tracker(self, configuration: Configuration) -> Tracker:
        """A tracker that knows nothing yet."""
        config = self.config
        return Tracker(configuration, self.log.last_index, config.max_inflight_messages, config.max_inflight_bytes)

    # --- roles ---

    def become_follower(self, term: int, leader: int) -> None:
        """From any role; `leader` may be unknown."""
        self._reset(term)
        self.role = Role.FOLLOWER
        self.leader = leader

    def become_pre_candidate(self) -> None:
        """From any role but leader. Nothing else changes: neither term nor vote."""
        assert self.role is not Role.LEADER
        self.tracker.votes = {}
        self.role = Role.PRE_CANDIDATE
        self.leader = NO_MEMBER

    def become_candidate(self) -> None:
        """From any role but leader: a new term, and the own vote."""
        assert self.role is not Role.LEADER
        self._reset(self.term + 1)
        self.role = Role.CANDIDATE
        self.vote = self.id

    def become_leader(self) -> None:
        """From candidate. The new term's first entry is empty: committing it commits all before it (5.4.2)."""
        assert self.role is Role.CANDIDATE
        self._reset(self.term)
        self.role = Role.LEADER
        self.leader = self.id
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # A change of configuration may be among the entries that are not applied yet. Searching them is not worth it:
        # waiting until all of them are applied is as safe.
        self.pending_conf_index = self.log.last_index
        self.acknowledge_own(self.log.stable)
        appended = self.log.append_new([Entry(type=EntryType.NORMAL)], self.term, self.config.max_uncommitted_bytes)
        assert appended, "an empty entry is never refused"

    def _reset(self, term: int) -> None:
        if term != self.term:
            assert term > self.term, (term, self.term)
            self.term = term
            self.vote = NO_MEMBER
        self.leader = NO_MEMBER
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        ticks = self.config.election_ticks
        self.randomized_election_ticks = ticks + self.config.random.randrange(ticks)
        self.lead_transferee = NO_MEMBER
        self.pending_conf_index = 0
        self.reads = ReadQueue()
        self.tracker.reset(self.log.last_index)

    # --- shared by the message modules ---

    def send(self, message: Message) -> None:
        """Queue a message for the next Ready; `to` is set. What belongs to a vote carries its own term already, and a
        question that is passed on its sender."""
        assert message.to not in (NO_MEMBER, self.id), message
        message.from_ = message.from_ or self.id
        kind = message.type
        if kind not in WITHOUT_TERM and not message.term:
            message.term = self.term
        if kind in _LEAVES_AT_ONCE or self._promises_nothing_new(message):
            self.messages.append(message)
        else:
            self.messages_after_persist.append(message)

    def _promises_nothing_new(self, message: Message) -> bool:
        """Whether what an answer to a leader says is durable already: the term, and the entries it acknowledges.

        A sign of life speaks of no entries, so it leaves while a snapshot is installed: the leader may need it to keep
        its quorum.
        """
        if self.durable.term != self.term:
            return False
        if message.type == raft_pb2.MsgAppResp:
            return self.log.snapshot is None and (message.reject or message.index <= self.log.stable)
        return message.type == raft_pb2.MsgHeartbeatResp

    def acknowledge_own(self, index: int) -> None:
        """As leader: own entries up to `index` are durable, so they count towards the quorum (not before: 5.4)."""
        if index and self.id in self.tracker.progress:
            self.tracker.acknowledge(self.id, index)

    def maybe_commit(self) -> bool:
        """As leader: raise the commit index to what a quorum has, if that is of this term (5.4.2)."""
        index = self.tracker.committed_index()
        log = self.log
        return log.committed < index <= log.last_index and log.term(index) == self.term and log.commit_to(index)
