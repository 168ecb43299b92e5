"""Sets of intervals: merged, and asked for keys and ranges."""

from __future__ import annotations

import pytest

from etcdpy.auth.intervals import IntervalSet, interval_of, is_valid_permission


def test_intervals_that_touch_or_overlap_are_one() -> None:
    merged = IntervalSet([(b"d", b"e"), (b"a", b"c"), (b"b", b"d"), (b"x", b"x\0"), (b"x\0", b"y")])
    assert merged == IntervalSet([(b"a", b"e"), (b"x", b"y")])
    assert merged != IntervalSet([(b"a", b"e")])
    assert IntervalSet([(b"m", b""), (b"a", b"b"), (b"n", b"z")]) == IntervalSet([(b"a", b"b"), (b"m", b"")])
    assert IntervalSet([(b"a", b"z"), (b"b", b"c")]) == IntervalSet([(b"a", b"z")])


def test_keys() -> None:
    some = IntervalSet([(b"b", b"d"), (b"x", b"")])
    assert [key for key in (b"a", b"b", b"c\xff", b"d", b"w", b"x", b"\xff") if some.covers(key)] == [
        b"b",
        b"c\xff",
        b"x",
        b"\xff",
    ]
    assert not IntervalSet().covers(b"a")


@pytest.mark.parametrize(
    ("key", "end", "covered"),
    [
        (b"b", b"", True),
        (b"b", b"d", True),
        (b"b", b"d\0", False),
        (b"a", b"c", False),
        (b"b", b"\0", False),
        (b"x", b"\0", True),
        (b"y", b"z", True),
        (b"c", b"y", False),
        (b"d", b"e", False),
        (b"c", b"a", True),
        (b"d", b"a", False),
    ],
)
def test_ranges_must_be_covered_as_a_whole(key: bytes, end: bytes, covered: bool) -> None:
    assert IntervalSet([(b"b", b"d"), (b"x", b"")]).covers_range(key, end) is covered


def test_intervals_of_permissions() -> None:
    assert interval_of(b"a", b"") == (b"a", b"a\0")
    assert interval_of(b"a", b"b") == (b"a", b"b")
    assert interval_of(b"a", b"\0") == (b"a", b"")
    assert is_valid_permission(b"a", b"")
    assert is_valid_permission(b"b", b"\0")
    assert not is_valid_permission(b"", b"\0")
    assert not is_valid_permission(b"b", b"b")
    assert not is_valid_permission(b"b", b"a")
