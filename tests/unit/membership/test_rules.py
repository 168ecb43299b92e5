"""--strict-reconfig-check: each rule at its edge."""

from __future__ import annotations

import pytest

from etcdpy.errors import EtcdError, LearnerNotReady, MemberNotEnoughStarted, MemberNotFound, NotLeader, Unhealthy
from etcdpy.membership import rules
from etcdpy.membership.member import Member

NOW = 1000.0
LONG_AGO, JUST_NOW = NOW - 5.1, NOW - 4.9


def cluster(started: int, silent: int = 0, learners: int = 0) -> list[Member]:
    """Members 1, 2, ...: voters that have started, voters that have not, and learners."""
    names = [f"m{number}" for number in range(started)] + [""] * silent
    voters = [Member(number, (f"http://{number}:1",), name) for number, name in enumerate(names, 1)]
    return voters + [
        Member(number, (f"http://{number}:1",), f"l{number}", is_learner=True)
        for number in range(len(voters) + 1, len(voters) + 1 + learners)
    ]


def reach(**since: float | None) -> rules.Reach:
    """Member 1 looks; `m2=LONG_AGO` says since when it reaches member 2."""
    known = {int(name[1:]): moment for name, moment in since.items()}
    return rules.Reach(1, NOW, known.get)


ALL_HEALTHY = rules.Reach(1, NOW, lambda _member: LONG_AGO)
ALONE = reach()


@pytest.mark.parametrize(
    ("members", "who", "error"),
    [
        (cluster(1), ALONE, None),
        (cluster(1, silent=1), ALL_HEALTHY, MemberNotEnoughStarted),
        (cluster(2), ALL_HEALTHY, None),
        (cluster(2), reach(m2=JUST_NOW), Unhealthy),
        (cluster(2), ALONE, Unhealthy),
        (cluster(2, silent=1), ALL_HEALTHY, MemberNotEnoughStarted),
        (cluster(3), reach(m2=LONG_AGO), Unhealthy),
        (cluster(3), reach(m2=LONG_AGO, m3=LONG_AGO), None),
        # Five voters and one more: four of six must be well.
        (cluster(5), reach(m2=LONG_AGO, m3=LONG_AGO), Unhealthy),
        (cluster(5), reach(m2=LONG_AGO, m3=LONG_AGO, m4=LONG_AGO), None),
        (cluster(1, learners=1), ALONE, None),
    ],
)
def test_adding_a_voter(members: list[Member], who: rules.Reach, error: type[EtcdError] | None) -> None:
    expect(error, lambda: rules.check_add(members, who, as_learner=False))


@pytest.mark.parametrize(
    ("members", "who", "error"),
    [
        (cluster(1), ALONE, None),
        (cluster(1, silent=1), ALL_HEALTHY, None),
        (cluster(1, silent=1), ALONE, Unhealthy),
        (cluster(3), ALONE, Unhealthy),
    ],
)
def test_adding_a_learner(members: list[Member], who: rules.Reach, error: type[EtcdError] | None) -> None:
    """It takes no part in a quorum, so nobody must have started for it; the cluster must be well all the same."""
    expect(error, lambda: rules.check_add(members, who, as_learner=True))


@pytest.mark.parametrize(
    ("members", "member", "who", "error"),
    [
        (cluster(1), 1, ALONE, MemberNotEnoughStarted),
        (cluster(1), 9, ALONE, None),
        (cluster(1, silent=1), 2, ALONE, None),
        (cluster(1, silent=1), 1, ALONE, MemberNotEnoughStarted),
        (cluster(2), 2, ALL_HEALTHY, None),
        (cluster(2), 2, reach(m2=JUST_NOW), Unhealthy),
        (cluster(2), 2, ALONE, None),
        (cluster(2), 1, ALONE, Unhealthy),
        (cluster(3), 3, ALL_HEALTHY, None),
        (cluster(3), 3, reach(m3=JUST_NOW), Unhealthy),
        (cluster(3), 3, reach(m2=LONG_AGO), None),
        (cluster(3), 1, reach(m2=LONG_AGO), Unhealthy),
        (cluster(1, silent=2), 1, ALL_HEALTHY, MemberNotEnoughStarted),
        (cluster(3, learners=1), 4, ALONE, None),
    ],
)
def test_removing(members: list[Member], member: int, who: rules.Reach, error: type[EtcdError] | None) -> None:
    expect(error, lambda: rules.check_remove(members, who, member))


@pytest.mark.parametrize(
    ("members", "error"),
    [
        (cluster(1, learners=1), None),
        (cluster(1, silent=1, learners=1), None),
        (cluster(1, silent=2, learners=1), MemberNotEnoughStarted),
        (cluster(0, silent=1, learners=1), MemberNotEnoughStarted),
    ],
)
def test_promoting(members: list[Member], error: type[EtcdError] | None) -> None:
    expect(error, lambda: rules.check_promote(members))


@pytest.mark.parametrize(
    ("matches", "error"),
    [
        (None, NotLeader),
        ({1: 100}, MemberNotFound),
        ({1: 100, 2: 0}, LearnerNotReady),
        ({1: 100, 2: 89}, LearnerNotReady),
        ({1: 100, 2: 90}, None),
        ({1: 100, 2: 100}, None),
    ],
)
def test_a_learner_must_hold_nine_tenths_of_the_log(
    matches: dict[int, int] | None, error: type[EtcdError] | None
) -> None:
    expect(error, lambda: rules.check_learner_ready(matches, 1, 2))


def expect(error: type[EtcdError] | None, check: object) -> None:
    assert callable(check)
    if error is None:
        check()
    else:
        with pytest.raises(error):
            check()
