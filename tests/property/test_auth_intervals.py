"""Merged intervals against a set of the very keys."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.auth.intervals import IntervalSet, interval_of

LETTERS = b"abc"
KEYS = [bytes(word) for size in (1, 2) for word in product(LETTERS, repeat=size)]
"""Every key there is in this small world, in no order that matters."""
PERMISSIONS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([b"", b"\0", *KEYS])), max_size=6)


def within(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


@given(PERMISSIONS, st.sampled_from(KEYS))
def test_keys(permissions: list[tuple[bytes, bytes]], key: bytes) -> None:
    valid = [(start, end) for start, end in permissions if not end or end == b"\0" or start < end]
    merged = IntervalSet(interval_of(*each) for each in valid)
    assert merged.covers(key) == any(within(key, *each) for each in valid)


@given(PERMISSIONS, st.sampled_from(KEYS), st.sampled_from([b"\0", *KEYS]))
def test_a_covered_range_has_only_covered_keys(permissions: list[tuple[bytes, bytes]], key: bytes, end: bytes) -> None:
    valid = [(start, end) for start, end in permissions if not end or end == b"\0" or start < end]
    merged = IntervalSet(interval_of(*each) for each in valid)
    if merged.covers_range(key, end):
        assert all(merged.covers(each) for each in KEYS if within(each, key, end))
    elif end != b"\0" and key < end:
        between = [
            key,
            *(each for start, stop in valid for each in (start, start + b"\0", stop) if each and key <= each < end),
        ]
        assert not all(merged.covers(each) for each in between)
