"""Varints are what protobuf writes, and nothing longer: hashes are taken over these bytes."""

from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]

from etcdpy.proto import rpc_pb2
from etcdpy.wire import read_json, varint

EDGES = sorted({max(0, (1 << bits) + off) for bits in range(64) for off in (-1, 0, 1)} | {4095, 4096, 4097, 7661})


@pytest.mark.parametrize("number", [each for each in EDGES if each < 1 << 64])
def test_shortest_form(number: int) -> None:
    assert varint(number) == _VarintBytes(number)


@pytest.mark.parametrize("number", [-1, -2, -(1 << 63)])
def test_negative_numbers_are_int64(number: int) -> None:
    assert b"\x08" + varint(number) == rpc_pb2.LeaseGrantRequest(TTL=number).SerializeToString()


def test_json_from_anybody() -> None:
    assert read_json(b'{"a": [1]}') == {"a": [1]}
    for text in (b"", b"\xff", b"9" * 5000, b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(ValueError):
            read_json(text)
