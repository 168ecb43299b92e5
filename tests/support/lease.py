"""A backend in a dict, as small as lease tests need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class DictBackend:
    """An ordered map of bytes: `etcdpy.backend.Backend`."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        pairs = sorted((pair for pair in self.values.items() if start <= pair[0] < end), reverse=reverse)
        return iter(pairs)

    def put(self, key: bytes, value: bytes) -> None:
        self.writes += 1
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        self.values.pop(key, None)
