from __future__ import annotations

from etcdpy.client.keepalive import RETRY_SECONDS, KeepAlives


def kept() -> KeepAlives:
    schedule = KeepAlives()
    schedule.add(7, 9.0, 100.0)
    return schedule


def test_a_lease_is_due_after_a_third_of_its_time() -> None:
    schedule = kept()
    assert schedule.next_at() == 103.0
    assert schedule.due(102.9) == []
    assert schedule.due(103.0) == [7]


def test_an_unanswered_renewal_is_tried_again_soon() -> None:
    schedule = kept()
    assert schedule.due(104.0) == [7]
    assert schedule.due(104.0 + RETRY_SECONDS / 2) == []
    assert schedule.due(104.0 + RETRY_SECONDS) == [7]


def test_the_time_counts_from_when_the_renewal_was_asked_for() -> None:
    schedule = kept()
    assert schedule.renewed(7, 12.0, 103.0)
    assert schedule.ends_at(7) == 115.0
    assert schedule.next_at() == 107.0


def test_a_lease_that_the_server_does_not_know_is_gone() -> None:
    schedule = kept()
    assert not schedule.renewed(7, 0, 103.0)
    assert len(schedule) == 0
    assert schedule.renewed(7, 0, 103.0), "told once"


def test_a_lease_whose_time_is_over_is_lost() -> None:
    schedule = kept()
    assert schedule.overdue(108.9) == []
    assert schedule.overdue(109.0) == [7]
    assert schedule.overdue(109.0) == []
    assert schedule.next_at() == float("inf")
    assert schedule.ends_at(7) == 0.0


def test_one_that_is_not_kept_any_more_is_nobodys_concern() -> None:
    schedule = kept()
    schedule.remove(7)
    assert schedule.due(1000.0) == []
    assert schedule.renewed(7, 5.0, 103.0)
