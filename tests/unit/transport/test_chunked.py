"""Chunked bodies as Go and h11 send them, cut anywhere; what is no chunk is named."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.transport.chunked import ChunkDecoder, MalformedChunk

BODY = [b"hello", b"x" * 300, b"\r\n0\r\n\r\n", b"!"]
STREAM = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in BODY)


def decoded(stream: bytes, size: int) -> tuple[bytes, bool]:
    decoder, body = ChunkDecoder(), b""
    for start in range(0, len(stream), size):
        body += b"".join(decoder.feed(stream[start : start + size]))
    return body, decoder.ended


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 10_000])
def test_the_body_comes_out_however_it_is_cut(size: int) -> None:
    assert decoded(STREAM, size) == (b"".join(BODY), False)
    assert decoded(STREAM + b"0\r\n\r\n", size) == (b"".join(BODY), True)


def test_whole_chunks_come_out_in_one_piece() -> None:
    assert ChunkDecoder().feed(STREAM) == BODY


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 20))
def test_it_agrees_with_h11(pieces: list[bytes], size: int) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    server.next_event()
    server.next_event()
    server.send(h11.Response(status_code=200, headers=[]))
    stream = b"".join(server.send(h11.Data(data=piece)) or b"" for piece in pieces)
    assert decoded(stream + (server.send(h11.EndOfMessage()) or b""), size) == (b"".join(pieces), True)


@pytest.mark.parametrize(
    "stream", [b"x\r\n", b"\r\n", b"-1\r\n", b"5\r\nhellooo\r\n", b"1" * 65, b"0x5\r\n", b"1_0\r\n"]
)
def test_what_is_no_chunk_is_named(stream: bytes) -> None:
    with pytest.raises(MalformedChunk):
        decoded(stream, 3)


def test_extensions_and_what_follows_the_end_are_dropped() -> None:
    assert decoded(b"1;a=b\r\nz\r\n0\r\nTrailer: 1\r\n\r\nnext", 1000) == (b"z", True)
