"""Entry payloads: what is written by hand is what protobuf reads."""

from __future__ import annotations

import pytest

from etcdpy.apply import entry_data
from etcdpy.proto import raft_internal_pb2, rpc_pb2


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 20_000])
def test_a_request_comes_back_with_its_kind(size: int) -> None:
    request = rpc_pb2.PutRequest(key=b"k", value=b"v" * size)
    data = entry_data.EntryEncoder(1_795_000_000_000).encode("put", request.SerializeToString())
    parsed = raft_internal_pb2.InternalRaftRequest.FromString(data)
    assert parsed.put == request
    assert entry_data.decode(data) == ("put", request)


def test_ids_never_repeat_and_stay_positive() -> None:
    encoder = entry_data.EntryEncoder(1_795_000_000_000)
    encoder._counter = entry_data._COUNTER_END - 3
    ids = [raft_internal_pb2.InternalRaftRequest.FromString(encoder.encode("alarm", b"")).header.ID for _ in range(6)]
    assert len(set(ids)) == 6
    assert all(0 < each < 1 << 63 for each in ids)


def test_every_request_of_the_wire_has_a_tag() -> None:
    for kind, field in raft_internal_pb2.InternalRaftRequest.DESCRIPTOR.fields_by_name.items():
        if kind not in ("header", "ID"):
            data = entry_data.EntryEncoder(1).encode(kind, b"")
            fields = raft_internal_pb2.InternalRaftRequest.FromString(data).ListFields()
            assert {each.name for each, _ in fields} == {"header", field.name}
            assert entry_data.decode(data)[0] == kind


def test_a_payload_without_a_request_is_named() -> None:
    with pytest.raises(ValueError, match="no request"):
        entry_data.decode(b"")
