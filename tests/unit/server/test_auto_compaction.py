"""The rules of automatic compaction, driven by a clock of our own."""

from __future__ import annotations

from etcdpy.server.auto_compaction import AutoCompactor, PeriodicCompactor, RevisionCompactor, make_compactor


def _run(compactor: AutoCompactor, seconds: float, revisions_a_second: int) -> list[tuple[int, int]]:
    """(time, revision) of every compaction within `seconds`."""
    compacted = []
    steps = int(seconds / compactor.interval_seconds)
    for step in range(1, steps + 1):
        now = step * compactor.interval_seconds
        revision = compactor.due(now, 1 + int(now * revisions_a_second))
        if revision:
            compactor.done(now, revision)
            compacted.append((int(now), revision))
    return compacted


def test_short_period_compacts_once_a_period() -> None:
    compactions = _run(PeriodicCompactor(600, 0, 1), 1800, 1)
    assert [when for when, _ in compactions] == [600, 1200, 1800]
    for when, revision in compactions:
        assert abs((when - 600 + 1) - revision) <= 120  # what was current one period, and up to two samples, ago


def test_long_period_compacts_hourly_after_the_first_period() -> None:
    compactions = _run(PeriodicCompactor(3 * 3600, 0, 1), 6 * 3600, 1)
    assert [when for when, _ in compactions] == [3 * 3600, 4 * 3600, 5 * 3600, 6 * 3600]


def test_idle_store_is_not_compacted_twice_at_one_revision() -> None:
    assert [revision for _, revision in _run(PeriodicCompactor(600, 0, 7), 6000, 0)] == [7, 1]


def test_revision_mode_keeps_the_last_ones() -> None:
    compactor = RevisionCompactor(1000)
    assert compactor.interval_seconds == 300
    assert compactor.due(300, 1000) == 0
    assert compactor.due(600, 1500) == 500
    compactor.done(600, 500)
    assert compactor.due(900, 1500) == 0
    assert compactor.due(1200, 1501) == 501


def test_retention_zero_means_never() -> None:
    assert make_compactor("periodic", 0, 0, 0, 1) is None
    assert make_compactor("revision", 0, 0, 0, 1) is None
    assert make_compactor("revision", 0, 5, 0, 1) is not None
