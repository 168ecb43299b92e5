"""Keys and ranges of keys, as a request carries them."""

from __future__ import annotations

from typing import Final, TypeAlias

Key: TypeAlias = "bytes | str"
"""Text stands for its UTF-8."""

NO_END: Final = b"\0"
"""The range_end of a range that goes on to the last key, and the smallest key there is."""


def as_bytes(key: Key) -> bytes:
    """The key as etcd stores it."""
    return key.encode() if isinstance(key, str) else key


def prefix_end(prefix: bytes) -> bytes:
    """The range_end of all keys that begin with `prefix`; `\\0`, meaning no end, where there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else NO_END


def key_range(key: Key, range_end: Key = b"", *, prefix: bool = False, from_key: bool = False) -> tuple[bytes, bytes]:
    """Key and range_end of one key, of a range, of a prefix, or of all keys from one on.

    Raises ValueError where more than one of them is asked for.
    """
    if bool(range_end) + prefix + from_key > 1:
        raise ValueError("range_end, prefix and from_key exclude each other")
    start = as_bytes(key)
    if prefix:
        return (start, prefix_end(start)) if start else (NO_END, NO_END)
    if from_key:
        return start or NO_END, NO_END
    return start, as_bytes(range_end)
