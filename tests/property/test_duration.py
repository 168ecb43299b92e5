"""A span that is printed reads back as itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.duration import DurationError, format_duration, parse_duration


@given(st.integers(-(2**63), 2**63 - 1))
def test_round_trip(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        ns = parse_duration(text)
    except DurationError:
        return
    assert -(2**63) <= ns < 2**63
