"""Our walk over header blocks, against RFC 7541's corners; a property test holds it to the hpack library."""

from __future__ import annotations

import hpack
import pytest

from etcdpy.transport.frames import ConnectionFault, ErrorCode
from etcdpy.transport.hpackglue import BlockDecoder, HeaderListTooLarge, encode_block, status_field


def decoder(max_list_bytes: int = 65536) -> BlockDecoder:
    return BlockDecoder(max_list_bytes, 4096)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index zero
        b"\xff\x80\x01",  # an index past both tables
        b"\xbe",  # the first dynamic entry, of none
        b"\x40\x05ab",  # truncated string
        b"\x00",  # no name
        b"\x3f\xe2\x1f",  # table size 4097
        b"\x82\x20",  # table size update after a field
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an endless integer
        b"\x00\x81\x00\x00",  # Huffman padding longer than seven bits or of zeros
    ],
)
def test_bad_blocks_are_compression_errors(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        decoder().decode(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_the_generation_moves_exactly_with_the_table() -> None:
    under_test = decoder()
    under_test.decode(b"\x82\x86\x00\x01a\x01b\x10\x01c\x01d")
    assert under_test.generation == 0
    under_test.decode(b"\x40\x01a\x01b")
    assert under_test.generation == 1
    under_test.decode(b"\xbe")
    assert under_test.generation == 1
    under_test.decode(b"\x20")
    assert under_test.generation == 2


def test_a_list_over_the_limit_still_fills_the_table() -> None:
    under_test = decoder(max_list_bytes=100)
    encoder = hpack.Encoder()
    with pytest.raises(HeaderListTooLarge):
        under_test.decode(encoder.encode([("one", "1" * 40), ("two", "2" * 40), ("three", "3")]))
    assert under_test.decode(encoder.encode([("three", "3")])) == [(b"three", b"3")]


def test_a_list_far_over_the_limit_ends_the_connection() -> None:
    """What nobody will read is not decoded for its table's sake for ever: found by tests/fuzz, 35 ms a block."""
    with pytest.raises(ConnectionFault, match="header list too large") as caught:
        decoder().decode(b"\x82" * 48_000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_table_size_updates_ends_the_connection() -> None:
    assert decoder().decode(b"\x20\x3f\xe1\x1f\x82") == [(b":method", b"GET")]
    with pytest.raises(ConnectionFault, match="more than two table size updates"):
        decoder().decode(b"\x20" * 3)


@pytest.mark.parametrize("status", [200, 204, 404, 415, 500, 503])
def test_what_we_encode_others_read(status: int) -> None:
    fields = [(b"grpc-message", b"x" * 300), (b"a", b"")]
    block = status_field(status) + encode_block(fields)
    assert hpack.Decoder().decode(block, raw=True) == [(b":status", str(status).encode()), *fields]
