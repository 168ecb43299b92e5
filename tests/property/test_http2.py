"""HTTP/2 under arbitrary bytes: how a stream is cut never matters, and nonsense only ever closes the connection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import hpack
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE, ConnectionFault, frame
from etcdpy.transport.hpackglue import BlockDecoder, HeaderListTooLarge, encode_block
from tests.support.wire import Wire, headers, message

if TYPE_CHECKING:
    import random

PATHS = ["/t.T/Echo", "/t.T/Hold", "/t.T/Talk", "/t.T/Nope", "/other"]

requests = st.lists(
    st.tuples(
        st.sampled_from(PATHS),
        st.binary(max_size=60),
        st.sampled_from([None, "5S", "123m"]),
        st.integers(1, 40),  # DATA bytes a frame
        st.sampled_from(["none", "ping", "settings", "window", "reset", "priority", "unknown"]),
    ),
    max_size=8,
)


def conversation(plan: list[tuple[str, bytes, str | None, int, str]]) -> bytes:
    encoder = hpack.Encoder()
    parts = [PREFACE, frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 1000})]
    for number, (path, body, timeout, cut, extra) in enumerate(plan):
        stream = 2 * number + 1
        changes = {"path": path} | ({"grpc_timeout": timeout} if timeout else {})
        parts.append(frame(1, 4, stream, encoder.encode(headers(**changes))))
        data = message(body)
        parts += [
            frame(0, 1 if start + cut >= len(data) else 0, stream, data[start : start + cut])
            for start in range(0, len(data), cut)
        ]
        parts.append(
            {
                "none": b"",
                "ping": frames.ping(b"12345678", ack=False),
                "settings": frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 10 + number}),
                "window": frames.window_update(0, 100) + frames.window_update(stream, 10),
                "reset": frames.rst_stream(stream, 8),
                "priority": frame(2, 0, stream, b"\0\0\0\0\x10"),
                "unknown": frame(200, 7, stream, b"x"),
            }[extra]
        )
    return b"".join(parts)


def outcome(data: bytes, cuts: list[int]) -> tuple[bytes, list[bytes], list[int], bool]:
    wire = Wire(greet=False)
    start = 0
    sent = b""
    for end in [*cuts, len(data)]:
        wire.send(data[start:end])
        start = end
    while wire.connection.out or wire.connection.more:
        sent += wire.connection.take()
        wire.connection.pump()
    return sent, wire.bodies, sorted(wire.connection.streams), wire.connection.wants_close


@given(requests, st.randoms(use_true_random=False))
def test_bytes_one_at_a_time_equal_all_at_once(
    plan: list[tuple[str, bytes, str | None, int, str]], chance: random.Random
) -> None:
    data = conversation(plan)
    whole = outcome(data, [])
    assert outcome(data, list(range(1, len(data)))) == whole
    assert outcome(data, sorted(chance.sample(range(len(data)), min(5, len(data))))) == whole


@given(requests, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_frames_only_ever_close(
    plan: list[tuple[str, bytes, str | None, int, str]], damage: list[tuple[int, int]]
) -> None:
    data = bytearray(conversation(plan))
    for position, byte in damage:
        data[len(PREFACE) + position % (len(data) - len(PREFACE))] = byte
    wire = Wire(greet=False)
    wire.send(bytes(data))
    wire.connection.lose()
    assert not wire.bugs
    assert not wire.connection.streams
    assert wire.connection.held_bytes == 0
    assert wire.connection.pending_bytes == 0
    assert not wire.service.deadlines._slots or not any(wire.service.deadlines._slots.values())


@given(st.binary(max_size=300))
def test_random_bytes_behind_the_preface(data: bytes) -> None:
    wire = Wire()
    wire.send(data)
    wire.connection.lose()
    assert not wire.bugs


NAMES = st.sampled_from([b"a", b":path", b"content-type", b"grpc-timeout", b"x" * 50, b"te"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=12)


@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=6))
def test_header_blocks_decode_as_with_the_library(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    encoder, theirs, ours = hpack.Encoder(), hpack.Decoder(), BlockDecoder(1 << 20, 4096)
    for fields, huffman, table_bytes in blocks:
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        block = encoder.encode(fields, huffman=huffman)
        assert ours.decode(block) == [tuple(field) for field in theirs.decode(block, raw=True)]
        assert ours._table.dynamic_entries == theirs.header_table.dynamic_entries


@given(st.binary(max_size=60))
def test_random_header_blocks_fail_as_with_the_library(block: bytes) -> None:
    theirs, ours = hpack.Decoder(), BlockDecoder(1 << 20, 4096)
    expected: object = ConnectionFault
    with contextlib.suppress(hpack.HPACKError):
        expected = [tuple(field) for field in theirs.decode(block, raw=True)]
    found: object
    try:
        found = ours.decode(block)
    except (ConnectionFault, HeaderListTooLarge):
        found = ConnectionFault
    assert found == expected


@given(FIELDS)
def test_what_we_encode_the_library_decodes(fields: list[tuple[bytes, bytes]]) -> None:
    assert [tuple(field) for field in hpack.Decoder().decode(encode_block(fields), raw=True)] == fields
