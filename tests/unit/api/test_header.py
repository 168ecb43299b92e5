"""The hand-made header equals what protobuf makes of the same fields."""

from __future__ import annotations

import pytest

from etcdpy.api.header import HeaderSource
from etcdpy.proto import rpc_pb2


@pytest.mark.parametrize("revision", [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**62])
@pytest.mark.parametrize("term", [0, 2, 300])
@pytest.mark.parametrize("member", [1, 2**64 - 1])
def test_embedded_header_is_field_one_of_any_response(revision: int, term: int, member: int) -> None:
    source = HeaderSource(0xCDF818194E3A8C32, member)
    source.set_term(term)
    parsed = rpc_pb2.PutResponse.FromString(source.embed(revision))
    assert parsed == rpc_pb2.PutResponse(
        header=rpc_pb2.ResponseHeader(
            cluster_id=0xCDF818194E3A8C32, member_id=member, revision=revision, raft_term=term
        )
    )
    assert parsed.SerializeToString() == source.embed(revision)
