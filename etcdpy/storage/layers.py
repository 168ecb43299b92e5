"""What is not in LevelDB yet, as it is at one moment: overlays that change no more, the newest word for a key counting.

A deletion of 100,000 keys leaves a hundred of them until its batch is written. So nothing here is copied or merged
before it is asked for: a layer is a dict beside its keys in order, and a scan goes through the layers as it is read.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import merge
from itertools import pairwise, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Overlay = dict[bytes, bytes | None]
Layer = tuple[list[bytes], Overlay]
"""The keys of an overlay in order, and the overlay, which may hold more than those."""

MISSING: Final = object()
_first_key = itemgetter(0)


class Layers:
    """Layers, newest first; None in place of a value says that the key is gone."""

    __slots__ = ("_layers",)

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def get(self, key: bytes) -> bytes | object | None:
        """The newest value; MISSING where no layer has the key."""
        for _, overlay in self._layers:
            found = overlay.get(key, MISSING)
            if found is not MISSING:
                return found
        return MISSING

    def pairs(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys from `start` to before `end`, each once, with their newest values."""
        runs: list[Layer] = []
        for keys, overlay in self._layers:
            low, high = bisect_left(keys, start), bisect_left(keys, end)
            if low < high:
                # Mostly all of them, and a copy of 100,000 would be new to the garbage collector.
                runs.append((keys if high - low == len(keys) else keys[low:high], overlay))
        in_order = sorted(runs, key=lambda run: run[0][0])
        if all(before[0][-1] < after[0][0] for before, after in pairwise(in_order)):
            # The usual case: revisions grow.
            return _chained(in_order, reverse=reverse)
        return _merged(runs, reverse=reverse)


def _chained(runs: list[Layer], *, reverse: bool) -> Iterator[tuple[bytes, bytes | None]]:
    for keys, overlay in reversed(runs) if reverse else runs:
        for key in reversed(keys) if reverse else keys:
            yield key, overlay[key]


def _merged(runs: list[Layer], *, reverse: bool) -> Iterator[tuple[bytes, bytes | None]]:
    aged = [zip(reversed(keys) if reverse else keys, repeat(age), strict=False) for age, (keys, _) in enumerate(runs)]
    last = None
    # Of equal keys the first run's comes first, and that is the newest.
    for key, age in merge(*aged, key=_first_key, reverse=reverse):
        if key != last:
            last = key
            yield key, runs[age][1][key]
