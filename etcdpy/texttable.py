"""Tables and sizes as etcd 3.7's tools print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_STEP: Final = 1000


def boxed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in box lines: titles in capitals and in the middle, cells at the right."""
    titles = [title.upper() for title in header]
    widths = [max(map(len, column)) + 2 for column in zip(titles, *rows, strict=True)]
    lines = [
        _rule("┌┬┐", widths),
        "│" + "│".join(map(_centred, titles, widths)) + "│",
        *([_rule("├┼┤", widths)] if rows else []),
        *("│" + "│".join(map(_at_the_right, row, widths)) + "│" for row in rows),
        _rule("└┴┘", widths),
    ]
    return "\n".join(lines)


def _rule(corners: str, widths: Sequence[int]) -> str:
    return corners[0] + corners[1].join("─" * width for width in widths) + corners[2]


def _at_the_right(text: str, width: int) -> str:
    return f"{text} ".rjust(width)


def _centred(text: str, width: int) -> str:
    left = (width - len(text)) // 2
    return (" " * left + text).ljust(width)


def human_bytes(count: int) -> str:
    """A size in powers of 1000 with two digits at the least, as Go's humanize prints it: `20 kB`, `1.4 MB`."""
    if count < 10:
        return f"{count} B"
    unit, size = 0, count
    while size >= _STEP and unit < len(_UNITS) - 1:
        size //= _STEP
        unit += 1
    tenths = (count * 10 + _STEP**unit // 2) // _STEP**unit if unit else count * 10
    return f"{tenths / 10:.1f} {_UNITS[unit]}" if tenths < 100 else f"{tenths / 10:.0f} {_UNITS[unit]}"
