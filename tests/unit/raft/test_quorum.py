from __future__ import annotations

from etcdpy.raft.quorum import INDEX_MAX, JointConfig, MajorityConfig, VoteResult

EMPTY = MajorityConfig()


def test_majority_of_each_size() -> None:
    acknowledged = {1: 10, 2: 20, 3: 30, 4: 40, 5: 50}
    expected = {1: 10, 2: 10, 3: 20, 4: 20, 5: 30}
    for size, index in expected.items():
        assert MajorityConfig(range(1, size + 1)).committed_index(acknowledged) == index


def test_a_silent_voter_counts_as_zero_and_a_stranger_not_at_all() -> None:
    assert MajorityConfig([1, 2, 3]).committed_index({1: 9, 7: 100}) == 0
    assert MajorityConfig([1, 2]).committed_index({1: 9}) == 0


def test_an_empty_half_never_holds_the_other_back() -> None:
    assert EMPTY.committed_index({}) == INDEX_MAX
    assert JointConfig(MajorityConfig([1]), EMPTY).committed_index({1: 4}) == 4
    assert JointConfig(MajorityConfig([1]), EMPTY).vote_result({1: True}) is VoteResult.WON


def test_joint_needs_both_halves() -> None:
    joint = JointConfig(MajorityConfig([1, 2, 3]), MajorityConfig([3, 4, 5]))
    assert joint.ids == (1, 2, 3, 4, 5)
    assert joint.committed_index({1: 9, 2: 9, 3: 9, 4: 2, 5: 1}) == 2
    assert joint.vote_result({1: True, 2: True, 3: True}) is VoteResult.PENDING
    assert joint.vote_result({1: True, 2: True, 3: True, 4: True}) is VoteResult.WON
    assert joint.vote_result({1: True, 2: True, 4: False, 5: False}) is VoteResult.LOST


def test_votes() -> None:
    three = MajorityConfig([3, 1, 2])
    assert three.ids == (1, 2, 3)
    assert three.vote_result({1: True}) is VoteResult.PENDING
    assert three.vote_result({1: True, 2: False}) is VoteResult.PENDING
    assert three.vote_result({1: True, 3: True}) is VoteResult.WON
    assert three.vote_result({1: False, 3: False}) is VoteResult.LOST
    # Half of an even number is no majority, but enough to make one impossible.
    assert MajorityConfig([1, 2]).vote_result({1: False}) is VoteResult.LOST


def test_deciding_alone() -> None:
    assert JointConfig(MajorityConfig([4]), EMPTY).is_only(4)
    assert not JointConfig(MajorityConfig([4]), EMPTY).is_only(5)
    assert not JointConfig(MajorityConfig([4, 5]), EMPTY).is_only(4)
    assert not JointConfig(MajorityConfig([4]), MajorityConfig([4, 5])).is_only(4)
