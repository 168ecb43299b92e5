"""Histograms of the hot road."""

from __future__ import annotations

from etcdpy.histogram import COMMIT_SECONDS, LOOP_LAG_SECONDS, Histogram, exponential


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 4.5):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert histogram.total == 11.5
    assert histogram.count == 5


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    one, many = Histogram((1, 2)), Histogram((1, 2))
    for _ in range(3):
        one.observe(1.5)
    many.observe_many(1.5, 3)
    assert (one.counts, one.total) == (many.counts, many.total)


def test_bounds_are_multiplied_up_one_by_one() -> None:
    assert exponential(0.1, 2, 4) == (0.1, 0.2, 0.4, 0.8)
    assert len(COMMIT_SECONDS) == 14
    assert COMMIT_SECONDS[-1] == 8.192


def test_the_limit_of_a_stall_is_a_bound_of_the_loop_lag() -> None:
    assert 0.01 in LOOP_LAG_SECONDS
    assert sorted(set(LOOP_LAG_SECONDS)) == list(LOOP_LAG_SECONDS)
