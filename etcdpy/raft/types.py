"""The values that pass through raft's door, and the storage that raft reads.

Those on the hot road are tuples: immutable like a frozen dataclass and much cheaper to build (two Readys a lone put).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from etcdpy.proto import raft_pb2

if TYPE_CHECKING:
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.message import Message

NO_MEMBER = 0
"""No member has this id: an empty vote, an unknown leader."""


class Role(IntEnum):
    """What a member is at this moment. Numbers are etcd's, which its status answers carry."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3
    """Asks whether an election would be won, before it disturbs anybody with a new term (thesis 9.6)."""


class ReadOnly(Enum):
    """How a leader makes sure that it still leads before it answers a ReadIndex (thesis 6.4)."""

    SAFE = "safe"
    """By a round of heartbeats."""
    LEASE_BASED = "lease-based"
    """By the clock: a quorum that was heard within an election timeout elects nobody else. Only as good as clocks are;
    needs check_quorum."""


class HardState(NamedTuple):
    """What must survive a crash beside the entries: Raft paper figure 2, "persistent state", and the commit index."""

    term: int = 0
    vote: int = NO_MEMBER
    commit: int = 0

    def to_proto(self) -> raft_pb2.HardState:
        """The wire form's message."""
        return raft_pb2.HardState(term=self.term, vote=self.vote, commit=self.commit)

    @staticmethod
    def from_proto(message: raft_pb2.HardState) -> HardState:
        """From the wire form's message."""
        return HardState(message.term, message.vote, message.commit)


class SoftState(NamedTuple):
    """What need not survive: who leads, and what this member is."""

    leader: int
    role: Role


class RandomSource(Protocol):
    """What raft needs of random.Random."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to before `stop`."""
        ...


class ConfState(NamedTuple):
    """Who belongs to the group. Each tuple is sorted; `voters_outgoing` is empty outside a joint configuration."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def to_proto(self) -> raft_pb2.ConfState:
        """The wire form's message."""
        return raft_pb2.ConfState(
            voters=self.voters,
            learners=self.learners,
            voters_outgoing=self.voters_outgoing,
            learners_next=self.learners_next,
            auto_leave=self.auto_leave,
        )

    @staticmethod
    def from_proto(message: raft_pb2.ConfState) -> ConfState:
        """From the wire form's message."""
        return ConfState(
            tuple(sorted(message.voters)),
            tuple(sorted(message.learners)),
            tuple(sorted(message.voters_outgoing)),
            tuple(sorted(message.learners_next)),
            message.auto_leave,
        )


@dataclass(frozen=True, slots=True)
class ReadState:
    """A confirmed ReadIndex: a read that carries `context` may be served once `index` is applied."""

    index: int
    context: bytes


class Ready(NamedTuple):
    """All that the outside must do now. The order is the contract:

    1. `messages` may leave at once.
    2. `snapshot` is installed, then `hard_state` and `entries` become durable; with a sync when `must_sync`.
    3. `messages_after_persist` leave: each promises something that step 2 wrote.
    4. `committed` is applied, in order. Its entries were durable before this Ready was made, so applying may run
       beside step 2.
    5. `advance(ready)`. Until then no other Ready is given; proposals and messages may go on coming in.
    """

    soft_state: SoftState | None
    """Only when it changed."""
    hard_state: HardState | None
    """Only when it changed."""
    entries: list[Entry]
    """To be stored; replaces whatever the log holds from entries[0].index on."""
    must_sync: bool
    """False when nothing but the commit index changed: a lost commit index is learnt again."""
    committed: list[Entry]
    messages: list[Message]
    messages_after_persist: list[Message]
    read_states: list[ReadState]
    snapshot: raft_pb2.Snapshot | None
    """Metadata of a state that replaces everything here, log included; the state itself came beside the message. The
    entries of the same Ready follow it, and nothing is committed in that Ready."""


class LogStorage(Protocol):
    """The durable log, as raft reads it. raft never writes: what to write leaves through Ready."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was last stored, and the group as of the applied index."""
        ...

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """Entries lo <= index < hi, at least one, otherwise no more than `max_bytes` of data.

        Raises LogCompacted when lo < first_index(), LogUnavailable when hi > last_index() + 1.
        """
        ...

    def term(self, index: int) -> int:
        """The term of an entry in [first_index() - 1, last_index()]; raises LogCompacted or LogUnavailable outside."""
        ...

    def first_index(self) -> int:
        """The first entry that can be had; the one before it is the point of truncation."""
        ...

    def last_index(self) -> int:
        """The last stored entry; first_index() - 1 when there is none."""
        ...

    def snapshot(self) -> raft_pb2.Snapshot:
        """Metadata of a state that could be sent now in place of the start of the log.

        Raises SnapshotTemporarilyUnavailable: it is asked for again when the member gives a sign of life.
        """
        ...
