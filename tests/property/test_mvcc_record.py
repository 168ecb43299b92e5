"""Records written by hand are protobuf's to the byte, and read back; disk keys keep the order of revisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.mvcc import record as wire
from etcdpy.mvcc import revision as rev
from etcdpy.proto.kv_pb2 import KeyValue
from etcdpy.proto.rpc_pb2 import RangeResponse
from etcdpy.wire import varint

revisions = st.integers(1, 20_000) | st.integers(1, 2**63 - 1)
int64s = st.integers(0, 300) | st.integers(-(2**63), 2**63 - 1)
lengths = st.sampled_from([1, 2, 127, 128, 129, 4095, 4096, 20_000])
payloads = st.binary(max_size=40) | lengths.map(bytes)
keys = payloads.filter(bool)
records = st.builds(
    KeyValue,
    key=keys,
    create_revision=revisions,
    mod_revision=revisions,
    version=revisions,
    value=payloads,
    lease=st.just(0) | int64s,
)


def written(kv: KeyValue) -> bytes:
    return wire.put_record(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)


@given(records)
def test_put_record_is_protobufs(kv: KeyValue) -> None:
    assert written(kv) == kv.SerializeToString()


@given(records)
def test_first_record_is_protobufs(kv: KeyValue) -> None:
    kv.create_revision, kv.version = kv.mod_revision, 1
    assert wire.first_record(kv.key, kv.mod_revision, kv.value, kv.lease) == kv.SerializeToString()


@given(keys)
def test_tombstone_is_protobufs(key: bytes) -> None:
    record = wire.tombstone_record(key)
    assert record == KeyValue(key=key).SerializeToString()
    assert (wire.key_of(record), wire.value_of(record), wire.lease_of(record)) == (key, b"", 0)


@given(records)
def test_fields_are_read_back(kv: KeyValue) -> None:
    record = kv.SerializeToString()
    assert wire.key_of(record) == kv.key
    assert wire.value_of(record) == kv.value
    assert wire.lease_of(record) == kv.lease
    kv.value = b""
    assert wire.without_value(record) == kv.SerializeToString()


@given(int64s)
def test_varint_is_protobufs(number: int) -> None:
    encoded = KeyValue(version=number).SerializeToString()[1:]
    assert varint(number) == (encoded or b"\0")
    assert wire.read_varint(b"x" + varint(number), 1) == (number % 2**64, 1 + len(varint(number)))


@given(st.lists(records, max_size=4))
def test_joined_records_are_a_repeated_field(kvs: list[KeyValue]) -> None:
    body = wire.repeated_field(b"\x12", [kv.SerializeToString() for kv in kvs])
    assert body == RangeResponse(kvs=kvs).SerializeToString()


parts = st.tuples(st.integers(0, 300) | st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))


@given(st.lists(parts, min_size=2, max_size=6))
def test_disk_keys_order_as_revisions_do(pairs: list[tuple[int, int]]) -> None:
    packed = [rev.pack(main, sub) for main, sub in pairs]
    assert [rev.from_disk_key(key) for key in sorted(rev.disk_keys(packed))] == sorted(packed)
    assert sorted(packed) == [rev.pack(main, sub) for main, sub in sorted(pairs)]
    for one, (main, sub) in zip(packed, pairs, strict=True):
        assert rev.disk_key(one) == b"r" + main.to_bytes(8, "big") + sub.to_bytes(4, "big")
        assert rev.disk_key(one) < rev.tombstone_key(one) < rev.disk_key(one + 1)
        assert rev.from_disk_key(rev.tombstone_key(one)) == one
        assert rev.is_tombstone_key(rev.tombstone_key(one))
        assert not rev.is_tombstone_key(rev.disk_key(one))
