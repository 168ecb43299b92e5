"""Spans of time as Go writes them."""

from __future__ import annotations

import pytest

from etcdpy.duration import DurationError, format_duration, parse_duration

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("+0", 0),
        ("5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("1h2m3s", 3723 * SECOND),
        ("1.5h", 5400 * SECOND),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1us", 1_000),
        ("1µs", 1_000),
        ("1μs", 1_000),
        ("300ms", 300_000_000),
        ("1h15m30.918273645s", 4_530_918_273_645),
        ("1.0000000009s", SECOND),
        ("2562047h47m16.854775807s", 2**63 - 1),
        ("-2562047h47m16.854775808s", -(2**63)),
    ],
)
def test_parse(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        (" 5s", 'time: invalid duration " 5s"'),
        ("--5s", 'time: invalid duration "--5s"'),
        (".s", 'time: invalid duration ".s"'),
        ("2562047h47m16.854775808s", 'time: invalid duration "2562047h47m16.854775808s"'),
    ],
)
def test_parse_refuses_in_the_words_of_go(text: str, message: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (300_000_000, "300ms"),
        (SECOND, "1s"),
        (-1_500_000_000, "-1.5s"),
        (60 * SECOND, "1m0s"),
        (7200 * SECOND, "2h0m0s"),
        (3723 * SECOND + 5, "1h2m3.000000005s"),
    ],
)
def test_format(ns: int, text: str) -> None:
    assert format_duration(ns) == text
