"""Entry payloads: what is written by hand is what protobuf reads."""

from __future__ import annotations

import pytest

from etcdpy.apply import entry_data
from etcdpy.proto import raft_internal_pb2, rpc_pb2
from etcdpy.wire import varint


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_370, 16_390, 20_000, 40_000])
def test_a_request_comes_back_with_its_kind(size: int) -> None:
    request = rpc_pb2.PutRequest(key=b"k", value=b"v" * size)
    data = entry_data.EntryEncoder(1_795_000_000_000).encode("put", request.SerializeToString())
    parsed = raft_internal_pb2.InternalRaftRequest.FromString(data)
    assert parsed.put == request
    kind, found = entry_data.decode(data)
    assert (kind, found.key, found.value) == ("put", b"k", b"v" * size)


def test_a_put_that_is_not_plain_comes_back_whole() -> None:
    request = rpc_pb2.PutRequest(key=b"k", value=b"v", lease=7, prev_kv=True)
    data = entry_data.EntryEncoder(1).encode("put", request.SerializeToString())
    assert entry_data.decode(data) == ("put", request)


def test_every_id_has_the_length_by_which_it_is_cut_off() -> None:
    for seed in (0, 1, (1 << 41) - 1, entry_data.id_seed(7, 1)):
        encoder = entry_data.EntryEncoder(seed)
        ids = set()
        for _ in range(300):
            data = encoder.encode("put", b"")
            number = raft_internal_pb2.InternalRaftRequest.FromString(data).header.ID
            assert varint(number) == data[-entry_data.REQUEST_ID_BYTES :]
            ids |= {number, encoder.next_id()}
        assert len(ids) == 600


def test_no_two_members_and_no_two_runs_share_their_ids() -> None:
    seeds = {entry_data.id_seed(member, now) for member in range(1, 50) for now in range(50)}
    assert len(seeds) == 49 * 50


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
