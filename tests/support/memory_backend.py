"""The fake of `etcdpy.backend.Backend`: a dict, sorted when scanned. tests/contract/test_backend.py verifies it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class MemoryBackend:
    """Keeps everything in memory; `copy` stands for what a crash leaves when all was synced."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self._values = dict(values or {})
        self._sorted: list[bytes] | None = None

    def copy(self) -> MemoryBackend:
        """An independent backend with the same content."""
        return MemoryBackend(self._values)

    def items(self) -> dict[bytes, bytes]:
        """All content, by key."""
        return {key: self._values[key] for key in self._order()}

    def _order(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._values)
        return self._sorted

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        order = self._order()
        keys = order[bisect_left(order, start) : bisect_left(order, end)]
        if reverse:
            keys.reverse()
        # A list, made now: a generator would start late and see writes that came after the call.
        return iter([(key, self._values[key]) for key in keys])

    def put(self, key: bytes, value: bytes) -> None:
        if self._sorted is not None and key not in self._values:
            # Revisions arrive in order, so the list mostly grows at its end.
            if not self._sorted or key > self._sorted[-1]:
                self._sorted.append(key)
            else:
                self._sorted = None
        self._values[key] = value

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(key, value)

    def delete(self, key: bytes) -> None:
        if self._values.pop(key, None) is not None:
            self._sorted = None
