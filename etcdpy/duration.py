"""Go's way to write a span of time: `1h2m3s`, `300ms`, `1.5h`. Spans are integer nanoseconds here, as they are there.

etcd's flags, its logs and its tools all use this form, so its rules are kept to the letter, error texts included.
"""

from __future__ import annotations

import re
from typing import Final

NS_PER_SECOND: Final = 1_000_000_000

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek mu
    "ms": 1_000_000,
    "s": NS_PER_SECOND,
    "m": 60 * NS_PER_SECOND,
    "h": 3_600 * NS_PER_SECOND,
}

_NS_MAX: Final = 2**63 - 1
"""Go holds a span in a signed 64-bit integer: some 292 years."""

_STEP = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")


class DurationError(ValueError):
    """A text that is no span of time; the message is Go's."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a span such as `-1.5h`, `1h15m30.918s`, `0`. Raises DurationError."""
    rest, negative = text, False
    if rest[:1] in ("+", "-"):
        negative, rest = rest[0] == "-", rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise DurationError(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        match = _STEP.match(rest)
        assert match is not None
        whole, fraction, unit = match.groups()
        if not whole and not fraction:
            raise DurationError(f'time: invalid duration "{text}"')
        if not unit:
            raise DurationError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS_NS:
            raise DurationError(f'time: unknown unit "{unit}" in duration "{text}"')
        scale = _UNITS_NS[unit]
        total += int(whole or "0") * scale + _fraction_ns(fraction or "", scale)
        if total > _NS_MAX + negative:
            raise DurationError(f'time: invalid duration "{text}"')
        rest = rest[match.end() :]
    return -total if negative else total


def _fraction_ns(digits: str, scale: int) -> int:
    return int(digits) * scale // 10 ** len(digits) if digits else 0


def format_duration(ns: int) -> str:
    """A span as Go prints it: `1h0m0s`, `300ms`, `1.5s`, `0s`."""
    if ns == 0:
        return "0s"
    sign, rest = ("-", -ns) if ns < 0 else ("", ns)
    if rest < NS_PER_SECOND:
        unit = next(name for name in ("ms", "µs", "ns") if rest >= _UNITS_NS[name])
        return f"{sign}{_decimal(rest, _UNITS_NS[unit])}{unit}"
    minutes, below = divmod(rest, _UNITS_NS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(below, NS_PER_SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, scale: int) -> str:
    whole, below = divmod(value, scale)
    if not below:
        return str(whole)
    digits = str(below).rjust(len(str(scale)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
