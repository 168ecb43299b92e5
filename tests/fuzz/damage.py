"""Hostile bytes out of honest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

BYTES_MAX: Final = 48 * 1024
"""Damage makes an input no longer than this; what is longer comes from the surface's own hand."""

_NUMBERS: Final = (
    0, 1, 2, 7, 8, 127, 128, 255, 256, 4095, 16_383, 16_384, 16_385, 65_535, 65_536, 2**24 - 1, 2**31 - 1, 2**31,
    2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip


def mutate(draw: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes, each of a kind that parsers trip over."""
    longest = max(BYTES_MAX, len(data))
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        data = draw.choice(_CHANGES)(draw, data, others)
    return data[:longest]


def cut(draw: Random, data: bytes, parts: int = 3) -> list[bytes]:
    """The bytes in pieces, as a network may deliver them."""
    if draw.random() < 0.6 or len(data) < 2:
        return [data]
    marks = sorted(draw.randrange(1, len(data)) for _ in range(draw.randint(1, parts)))
    return [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]


def _place(draw: Random, data: bytes) -> int:
    # Lengths and types stand at the front.
    return draw.randrange(len(data) + 1) if draw.random() < 0.7 else draw.randrange(min(len(data), 32) + 1)


def _flip(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x80"
    at = min(_place(draw, data), len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _byte(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.choice((b"\0", b"\xff", b"\x7f", b"\x80", draw.randbytes(1))) + data[at + 1 :]


def _number(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at, size = _place(draw, data), draw.choice((1, 2, 3, 4, 8))
    number = draw.choice(_NUMBERS) & (1 << 8 * size) - 1
    return data[:at] + number.to_bytes(size, draw.choice(("big", "little"))) + data[at + size :]


def _varint(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at, number, made = _place(draw, data), draw.choice(_NUMBERS), bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return data[:at] + bytes([*made, number]) + data[at + draw.choice((0, 1, 2)) :]


def _remove(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    return data[:at] + data[at + draw.choice((1, 1, 2, 4, 9, 64)) :]


def _cut_off(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data[: _place(draw, data)]


def _insert(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 8, 30))) + data[at:]


def _repeat(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    part = data[at : at + draw.choice((1, 2, 3, 5, 9, 20, 100))]
    return data[:at] + (part * draw.choice((2, 3, 10, 100, 1000, 20_000)))[:BYTES_MAX] + data[at:]


def _splice(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others) if others else data
    return data[: _place(draw, data)] + other[_place(draw, other) :]


def _noise(draw: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at, size = _place(draw, data), draw.choice((1, 4, 16, 200))
    return data[:at] + draw.randbytes(size) + data[at + size :]


_CHANGES: Final = (_flip, _flip, _byte, _number, _number, _varint, _remove, _cut_off, _insert, _repeat, _splice, _noise)
