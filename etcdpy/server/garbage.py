"""When Python's collector looks for cycles. What the server drops hardly ever has any: reference counts free the rest.

It looks at young objects only. What costs time is less their number than what they refer to, and the index of 100,000
new keys is a hundred lists of a thousand. So besides looking after so many objects, as Python does, it looks several
times a second, before there is much to look at. The old generation, in which the index lies, is never walked: at
1,000,000 keys that would hold the loop for 50 ms.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_THRESHOLDS: Final = (8_000, 0, 1_000_000_000)
"""A thousand requests in flight are no garbage, yet with the default of 700 objects the collector looks at them again
and again: a third of a put's cost. So it looks at 8,000, in 1 ms, and every other time at those before them too."""

_INTERVAL_SECONDS: Final = 0.2
"""In which the fastest load makes some 20,000 keys: 1 ms."""

_MIDDLE_GENERATION: Final = 1


def set_rhythm() -> None:
    """For the whole process; to be called before anything large is made."""
    gc.set_threshold(*_THRESHOLDS)


def keep_for_good() -> None:
    """What was made so far stays; the collector need not look at it again and again. Nor once: that would hold up who
    waits for this member, and make a young object of the index again (see KeyIndex)."""
    gc.freeze()


@contextmanager
def kept_for_good() -> Iterator[None]:
    """What is made within stays, as `keep_for_good` has it, and is not looked at meanwhile either: of what a member
    imports that saves 15 ms."""
    gc.disable()
    try:
        yield
    finally:
        keep_for_good()
        gc.enable()


async def collect_often() -> None:
    """For ever."""
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        gc.collect(_MIDDLE_GENERATION)
