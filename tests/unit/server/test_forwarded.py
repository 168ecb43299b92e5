"""Proposals whose entries come back from other members: each is answered or refused once, and none is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.errors import Stopped, Timeout
from etcdpy.raft.entry import Entry
from etcdpy.server.forwarded import Forwarded
from tests.support.nodes import Recorded

if TYPE_CHECKING:
    from etcdpy.apply.proposal import Proposal


def forwarded(*deadlines: float) -> tuple[Forwarded, dict[bytes, Proposal], list[Recorded]]:
    registry: dict[bytes, Proposal] = {}
    kept = Forwarded(registry)
    proposals = []
    for deadline in deadlines:
        proposal = Recorded()
        proposals.append(proposal)
        kept.add(deadline, [Entry(proposal.data, proposal)])
    return kept, registry, proposals


def test_what_is_overdue_is_refused_and_the_rest_waits() -> None:
    kept, registry, proposals = forwarded(1.0, 2.0)
    asked: list[float] = []

    def error(deadline: float) -> Timeout:
        asked.append(deadline)
        return Timeout()

    assert kept.expire(1.5, error) == 1
    assert asked == [1.0]
    assert [proposal.outcomes for proposal in proposals] == [[Timeout], []]
    assert (len(kept), len(registry), kept.oldest_deadline) == (1, 1, 2.0)


def test_what_the_applier_took_out_is_not_refused() -> None:
    kept, registry, _ = forwarded(1.0, 2.0)
    registry.clear()
    assert kept.oldest_deadline is None
    assert kept.expire(5.0, lambda _deadline: Timeout()) == 0


def test_the_oldest_deadline_is_of_what_still_waits() -> None:
    kept, registry, proposals = forwarded(1.0, 2.0)
    del registry[proposals[0].data[-9:]]
    assert kept.oldest_deadline == 2.0


def test_the_end_refuses_all() -> None:
    kept, registry, proposals = forwarded(1.0, 2.0)
    assert kept.fail(Stopped) == 2
    assert [proposal.outcomes for proposal in proposals] == [[Stopped], [Stopped]]
    assert not registry


def test_what_is_over_holds_nothing() -> None:
    kept, registry, proposals = forwarded(1.0, 2.0, 3.0)
    whole = kept.held_bytes
    assert whole > sum(len(each.data) for each in proposals)
    kept.expire(1.5, lambda _deadline: Timeout())
    assert kept.held_bytes == whole * 2 // 3
    del registry[proposals[1].data[-9:]]
    kept.expire(1.5, lambda _deadline: Timeout())
    assert kept.held_bytes == whole // 3
    registry.clear()
    kept.expire(1.5, lambda _deadline: Timeout())
    assert kept.held_bytes == 0
