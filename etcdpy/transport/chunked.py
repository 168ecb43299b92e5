"""Chunked transfer coding (RFC 9112, 7.1), read: for answers that go on for hours, where h11 costs 30 us a chunk."""

from __future__ import annotations

from typing import Final

_SIZE_LINE_BYTES_MAX: Final = 64
"""A size in hexadecimal and, at most, a short extension; Go sends up to six digits."""


class MalformedChunk(ValueError):
    """The other side does not keep to the chunked coding."""


class ChunkDecoder:
    """Takes bytes as they come and gives the body in the pieces that are there. `ended`: the last chunk has come.

    Trailers are passed over; what follows the end is dropped.
    """

    __slots__ = ("_left", "_line", "_skip", "ended")

    def __init__(self) -> None:
        self._left = 0
        self._skip = 0
        self._line = b""
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """The body bytes in `data`. Raises MalformedChunk."""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.ended:
            if self._left:
                stop = min(end, position + self._left)
                pieces.append(data[position:stop] if stop - position < end else data)
                self._left -= stop - position
                position = stop
                if not self._left:
                    self._skip = 2
                continue
            if self._skip:
                taken = min(self._skip, end - position)
                if data[position : position + taken] != b"\r\n"[2 - self._skip : 2 - self._skip + taken]:
                    raise MalformedChunk("a chunk does not end where its size says")
                self._skip -= taken
                position += taken
                continue
            position = self._read_size(data, position)
        return pieces

    def _read_size(self, data: bytes, position: int) -> int:
        """Read the line with the next chunk's size, or what there is of it; return where it ends."""
        stop = data.find(b"\n", position)
        line = self._line + data[position : stop if stop >= 0 else len(data)]
        if len(line) > _SIZE_LINE_BYTES_MAX:
            raise MalformedChunk("the size of a chunk is too long")
        if stop < 0:
            self._line = line
            return len(data)
        self._line = b""
        digits = line.partition(b";")[0].strip()
        if not digits or not _HEXADECIMAL.issuperset(digits):
            raise MalformedChunk("the size of a chunk is no number")
        self._left = int(digits, 16)
        self.ended = self._left == 0
        return stop + 1


_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")
