"""HTTP/2 frames: their numbers, and how the ones that a server sends are built (RFC 9113, section 6).

Reading frames is the business of `http2.py`, which does it inside one loop.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

FLAG_ACK: Final = 1
FLAG_END_STREAM: Final = 1
FLAG_END_HEADERS: Final = 4
FLAG_PADDED: Final = 8
FLAG_PRIORITY: Final = 32

SETTING_HEADER_TABLE_SIZE: Final = 1
SETTING_ENABLE_PUSH: Final = 2
SETTING_MAX_CONCURRENT_STREAMS: Final = 3
SETTING_INITIAL_WINDOW_SIZE: Final = 4
SETTING_MAX_FRAME_SIZE: Final = 5
SETTING_MAX_HEADER_LIST_SIZE: Final = 6

MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1
WINDOW_DEFAULT: Final = 65_535
FRAME_BYTES_DEFAULT: Final = 16_384
FRAME_BYTES_MAX: Final = 2**24 - 1

u32 = struct.Struct(">I").pack
frame_header = struct.Struct(">HBBBI")
"""Nine bytes as (length >> 8, length & 255, type, flags, stream)."""

_setting = struct.Struct(">HI")


class ErrorCode(IntEnum):
    """HTTP/2 error codes (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The client broke a rule for which the whole connection ends: GOAWAY with `code`, then close."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame. The caller keeps the payload within the peer's SETTINGS_MAX_FRAME_SIZE."""
    size = len(payload)
    return frame_header.pack(size >> 8, size & 255, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(name, value) for name, value in values.items()))


SETTINGS_ACK: Final = frame(SETTINGS, FLAG_ACK, 0, b"")


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a SETTINGS payload, whose length the caller has checked to be a multiple of six."""
    return list(_setting.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, u32(increment))


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, u32(code))


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, u32(last_stream) + u32(code) + debug)


def ping(data: bytes, *, ack: bool) -> bytes:
    """A PING frame."""
    return frame(PING, FLAG_ACK if ack else 0, 0, data)


def header_frames(stream: int, block: bytes, *, end_stream: bool, max_frame_bytes: int) -> bytes:
    """A header block as HEADERS and, where it is long, CONTINUATION frames."""
    flags = FLAG_END_STREAM if end_stream else 0
    if len(block) <= max_frame_bytes:
        return frame(HEADERS, flags | FLAG_END_HEADERS, stream, block)
    parts = [frame(HEADERS, flags, stream, block[:max_frame_bytes])]
    for start in range(max_frame_bytes, len(block), max_frame_bytes):
        last = start + max_frame_bytes >= len(block)
        part = block[start : start + max_frame_bytes]
        parts.append(frame(CONTINUATION, FLAG_END_HEADERS if last else 0, stream, part))
    return b"".join(parts)
