"""Counting against a second version that is too simple to be wrong."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.raft.quorum import INDEX_MAX, JointConfig, MajorityConfig, VoteResult

members = st.sets(st.integers(1, 7), max_size=7)
acknowledged = st.dictionaries(st.integers(1, 7), st.integers(0, 9))
votes = st.dictionaries(st.integers(1, 7), st.booleans())


def dumb_committed(ids: set[int], acknowledged: dict[int, int]) -> int:
    """The highest index for which some majority has it all."""
    if not ids:
        return INDEX_MAX
    needed = len(ids) // 2 + 1
    majorities = [group for size in range(needed, len(ids) + 1) for group in combinations(ids, size)]
    return max(min(acknowledged.get(member, 0) for member in group) for group in majorities)


def dumb_vote(ids: set[int], votes: dict[int, bool]) -> VoteResult:
    """Try every way in which the missing votes could fall."""
    silent = sorted(ids - votes.keys())
    outcomes = set()
    for bits in range(1 << len(silent)):
        granted = sum(votes.get(member, False) for member in ids) + bits.bit_count()
        outcomes.add(not ids or 2 * granted > len(ids))
    if outcomes == {True}:
        return VoteResult.WON
    return VoteResult.LOST if outcomes == {False} else VoteResult.PENDING


@given(members, members, acknowledged)
def test_committed_index(incoming: set[int], outgoing: set[int], acknowledged: dict[int, int]) -> None:
    expected = min(dumb_committed(incoming, acknowledged), dumb_committed(outgoing, acknowledged))
    joint = JointConfig(MajorityConfig(incoming), MajorityConfig(outgoing))
    assert joint.committed_index(acknowledged) == expected
    assert joint.ids == tuple(sorted(incoming | outgoing))


@given(members, members, votes)
def test_vote_result(incoming: set[int], outgoing: set[int], votes: dict[int, bool]) -> None:
    halves = [dumb_vote(incoming, votes), dumb_vote(outgoing, votes)]
    expected = VoteResult.WON
    if VoteResult.LOST in halves:
        expected = VoteResult.LOST
    elif VoteResult.PENDING in halves:
        expected = VoteResult.PENDING
    assert JointConfig(MajorityConfig(incoming), MajorityConfig(outgoing)).vote_result(votes) is expected
