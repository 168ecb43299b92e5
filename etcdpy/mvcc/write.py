"""Several writes under one main revision, at once or in slices.

A transaction in slices is hidden: index and backend take its writes as they come, while `Store.current_revision` stays
where it was, so that readers look past them exactly as they look past later revisions; `Store.publish` then shows all
of it in one step. What is large is cut by the number of its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.revision import SUB_BITS

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from etcdpy.mvcc.store import Store


class WriteTransaction:
    """Writes in order, each at the next sub revision. Reads in between see them: all of them, or where the transaction
    is hidden, those of its own (at `Store.head_revision`)."""

    __slots__ = ("_hidden", "_next", "_store", "first_key", "last_key")

    def __init__(self, store: Store, *, hidden: bool) -> None:
        self._store = store
        self._hidden = hidden
        self._next = 0
        self.first_key = self.last_key = b""
        """The ends of what was written, where the transaction is hidden."""

    @property
    def changed(self) -> bool:
        """Whether anything was written, and so a revision made."""
        return self._next > 0

    def _take(self, count: int, first_key: bytes, last_key: bytes) -> int:
        """Packed revisions for that many writes; the first of them opens the main revision."""
        packed = self._next
        if not packed:
            store = self._store
            main = store.current_revision + 1
            if self._hidden:
                store.unpublished = main
                self.first_key = first_key
            else:
                store.current_revision = main
            packed = main << SUB_BITS
        if self._hidden:
            self.first_key = min(self.first_key, first_key)
            self.last_key = max(self.last_key, last_key)
        self._next = packed + count
        return packed

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Set a key. Returns the packed revision that it replaces, 0 for a new key."""
        return self._store.put_at(self._take(1, key, key), key, value, lease)

    def delete_range(self, key: bytes, end: bytes = b"") -> list[int]:
        """Delete a key or a range. Returns the packed revisions that it ends, in the order of keys."""
        if end:
            return finish(self.delete_range_steps(key, end))
        store = self._store
        store.deletes += 1
        index = store.index
        if not index.mod(key):
            return []
        packed = self._take(1, key, key)
        previous = [index.delete(key, packed)]
        store.tombstone_at(packed, key)
        return previous

    def delete_range_steps(self, key: bytes, end: bytes) -> Generator[None, None, list[int]]:
        """Delete a range, `end` included as in `Store.range`, in slices."""
        store = self._store
        store.deletes += 1
        index = store.index
        previous: list[int] = []
        while True:
            low, high = index.span(key, None if end == b"\0" else end)
            if low == high:
                return previous
            stop = min(high, low + store.slice_keys)
            previous += self._delete_neighbours(list(index.live[low:stop]))
            if stop == high:
                return previous
            yield

    def delete_keys_steps(self, keys: Sequence[bytes]) -> Generator[None, None, None]:
        """Delete live keys, given in order, in slices. Those of a lease mostly lie beside each other."""
        store = self._store
        store.deletes += len(keys)
        index = store.index
        for start in range(0, len(keys), store.slice_keys):
            if start:
                yield
            some = list(keys[start : start + store.slice_keys])
            low = index.live.bisect_left(some[0])
            if index.live[low : low + len(some)] == some:
                self._delete_neighbours(some)
                continue
            for key in some:
                packed = self._take(1, key, key)
                index.delete(key, packed)
                store.tombstone_at(packed, key)

    def _delete_neighbours(self, keys: list[bytes]) -> list[int]:
        packed = self._take(len(keys), keys[0], keys[-1])
        previous = self._store.index.delete_many(keys, packed)
        self._store.tombstones_at(packed, keys)
        return previous
