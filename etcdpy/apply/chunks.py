"""How many committed entries are applied between two looks at the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.apply.entry_data import is_put

if TYPE_CHECKING:
    from collections import deque

    from etcdpy.raft.entry import Entry


def take_chunk(queue: deque[Entry]) -> list[Entry]:
    """Take from the front of a queue what APPLY_CHUNK_BYTES have room for; one entry at least.

    What a put costs to apply lies in its number and in few of its bytes, so that it counts for less than another entry,
    which may be a transaction of many small requests.
    """
    entries: list[Entry] = []
    room = limits.APPLY_CHUNK_BYTES
    while queue:
        data = queue[0].data
        if is_put(data):
            room -= max(len(data) >> 2, limits.APPLY_CHUNK_PUT_BYTES)
        else:
            room -= max(len(data), limits.APPLY_CHUNK_ENTRY_BYTES)
        if room < 0 and entries:
            break
        entries.append(queue.popleft())
    return entries
