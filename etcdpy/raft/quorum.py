"""Counting: what a set of voters agrees on. Pure arithmetic, by Raft paper 5.3 and 5.4.2 (matching) and 5.2 (votes).

A joint configuration (Raft thesis 4.3) decides only what both of its halves decide.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INDEX_MAX: Final = (1 << 64) - 1
"""What an empty set of voters agrees on, so that an absent half never holds the other one back."""


class VoteResult(Enum):
    """The state of an election."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


class MajorityConfig:
    """A set of voters that decides by majority. Immutable; ids are kept sorted, so that iterating is deterministic."""

    __slots__ = ("_members", "ids", "needed")

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._members = frozenset(ids)
        self.ids: tuple[int, ...] = tuple(sorted(self._members))
        self.needed = len(self.ids) // 2 + 1

    def __contains__(self, member: int) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MajorityConfig) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def __repr__(self) -> str:
        return f"({' '.join(map(str, self.ids))})"

    def committed_index(self, acknowledged: Mapping[int, int]) -> int:
        """The highest index that a majority has acknowledged; a voter not in `acknowledged` counts as 0."""
        ids = self.ids
        if not ids:
            return INDEX_MAX
        if len(ids) == 1:
            return acknowledged.get(ids[0], 0)
        matches = sorted([acknowledged.get(member, 0) for member in ids], reverse=True)
        return matches[self.needed - 1]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Whether `votes` (member -> granted) decide the election. An empty set wins: see INDEX_MAX."""
        if not self.ids:
            return VoteResult.WON
        granted = sum(1 for member in self.ids if votes.get(member) is True)
        refused = sum(1 for member in self.ids if votes.get(member) is False)
        if granted >= self.needed:
            return VoteResult.WON
        if refused > len(self.ids) - self.needed:
            return VoteResult.LOST
        return VoteResult.PENDING


class JointConfig(NamedTuple):
    """Two sets of voters that must both agree. `outgoing` is empty outside a change of configuration."""

    incoming: MajorityConfig
    outgoing: MajorityConfig

    @property
    def ids(self) -> tuple[int, ...]:
        """Every voter of either half, sorted."""
        if not self.outgoing.ids:
            return self.incoming.ids
        return tuple(sorted({*self.incoming.ids, *self.outgoing.ids}))

    def committed_index(self, acknowledged: Mapping[int, int]) -> int:
        """The highest index that both halves agree on."""
        incoming = self.incoming.committed_index(acknowledged)
        if not self.outgoing.ids:
            return incoming
        return min(incoming, self.outgoing.committed_index(acknowledged))

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Won when both halves are won, lost when either is lost."""
        results = (self.incoming.vote_result(votes), self.outgoing.vote_result(votes))
        if VoteResult.LOST in results:
            return VoteResult.LOST
        return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON

    def is_only(self, member: int) -> bool:
        """Whether `member` decides alone."""
        return self.incoming.ids == (member,) and not self.outgoing.ids
