"""What --strict-reconfig-check demands of a change of members before it is proposed, and when a learner may vote.

The rules keep a cluster from voting itself out of its quorum: half of the members and one must have started, and must
have been within reach for a while, before and after the change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from etcdpy.errors import LearnerNotReady, MemberNotEnoughStarted, MemberNotFound, NotLeader, Unhealthy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from etcdpy.membership.member import Member

HEALTHY_SECONDS: Final = 5.0
"""How long a member must have been within reach to count. etcd's number."""

LEARNER_READY: Final = 0.9
"""The part of the leader's log that a learner must hold to be promoted. etcd's number."""


class Reach(NamedTuple):
    """Whom this member can talk to: `active_since(id)` is a moment on the clock of `now`, None when it cannot."""

    own_id: int
    now: float
    active_since: Callable[[int], float | None]

    def is_active(self, member: int) -> bool:
        """Whether it is within reach at this moment."""
        return member == self.own_id or self.active_since(member) is not None

    def is_healthy(self, member: int) -> bool:
        """Whether it has been within reach for long enough."""
        if member == self.own_id:
            return True
        since = self.active_since(member)
        return since is not None and since < self.now - HEALTHY_SECONDS


def quorum(count: int) -> int:
    """The majority of `count` voters."""
    return count // 2 + 1


def check_add(members: Iterable[Member], reach: Reach, *, as_learner: bool) -> None:
    """Raise MemberNotEnoughStarted or Unhealthy when another member must not be added now.

    The new one counts as down. A lone member may always get a second one: that is how every cluster grows.
    """
    voters = _voters(members)
    started = _started(voters)
    grows_from_one = started == 1 and len(voters) == 1
    if not as_learner and not grows_from_one and started < quorum(len(voters) + 1):
        raise MemberNotEnoughStarted
    if len(voters) != 1 and _healthy(voters, reach) < quorum(len(voters) + 1):
        raise Unhealthy


def check_remove(members: Iterable[Member], reach: Reach, member: int) -> None:
    """Raise MemberNotEnoughStarted or Unhealthy when `member` must not be removed now. Learners may always go, and so
    may a member that is down as long as enough others have started."""
    everyone = list(members)
    if any(each.id == member and each.is_learner for each in everyone):
        return
    voters = _voters(everyone)
    staying = [each for each in voters if each.id != member]
    if _started(staying) < quorum(len(staying)):
        raise MemberNotEnoughStarted
    if not reach.is_active(member):
        return
    if _healthy(voters, reach) - 1 < 1 + (len(voters) - 1) // 2:
        raise Unhealthy


def check_promote(members: Iterable[Member]) -> None:
    """Raise MemberNotEnoughStarted when a learner must not become a voter now. It counts as one that has started."""
    voters = _voters(members)
    if _started(voters) + 1 < quorum(len(voters) + 1):
        raise MemberNotEnoughStarted


def check_learner_ready(matches: Mapping[int, int] | None, leader: int, member: int) -> None:
    """Raise NotLeader, MemberNotFound or LearnerNotReady unless `member` holds nearly all of the leader's log.

    `matches` is how far each member's log is known to agree with the leader's; only a leader has it.
    """
    if matches is None:
        raise NotLeader
    if member not in matches:
        raise MemberNotFound
    if matches[member] < LEARNER_READY * matches[leader]:
        raise LearnerNotReady


def _voters(members: Iterable[Member]) -> list[Member]:
    return [each for each in members if not each.is_learner]


def _started(voters: Sequence[Member]) -> int:
    return sum(each.is_started for each in voters)


def _healthy(voters: Sequence[Member], reach: Reach) -> int:
    return sum(reach.is_healthy(each.id) for each in voters)
