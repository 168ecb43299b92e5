"""read_put against the generated class: the same request, or the same refusal, whatever the bytes. And what followers
cut out of an entry, against the same."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from etcdpy.apply.entry_data import EntryEncoder, decode, plain_put_in, signed
from etcdpy.apply.plain_put import PlainPut, read_put
from etcdpy.proto import rpc_pb2

FIELDS = ("key", "value", "lease", "prev_kv", "ignore_value", "ignore_lease")
SIZES = st.sampled_from([0, 1, 2, 127, 128, 129, 255, 256, 16383, 16384, 16385])
BODIES = st.builds(
    lambda key, value, lease, kept: rpc_pb2.PutRequest(
        key=b"k" * key, value=b"v" * value, lease=lease, ignore_value=kept
    ).SerializeToString(),
    SIZES,
    SIZES,
    st.sampled_from([0, 0, 7, 2**63 - 1]),
    st.booleans(),
)


def check(body: bytes) -> None:
    try:
        expected = rpc_pb2.PutRequest.FromString(body)
    except DecodeError:
        try:
            found = read_put(body)
        except DecodeError:
            return
        raise AssertionError(f"{body!r} was taken for {found!r}") from None
    request = read_put(body)
    assert [getattr(request, name) for name in FIELDS] == [getattr(expected, name) for name in FIELDS]


@given(BODIES)
def test_written_requests(body: bytes) -> None:
    check(body)


@given(BODIES, st.data())
def test_changed_and_cut_requests(body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body[:300])
    if changed:
        position = data.draw(st.integers(0, min(len(changed) - 1, 8)) | st.integers(0, len(changed) - 1))
        changed[position] = data.draw(st.integers(0, 255))
    check(bytes(changed[: data.draw(st.integers(0, len(changed)))]))


@given(st.binary(max_size=12))
@example(b"\x0a\x01k\x12\x80")
@example(b"\x0a\x01k\x12\x00")
@example(b"\x0a\x01k\x12\x00\x12\x01x")
@example(b"\x0a\x00\x12\x01x")
def test_any_bytes(body: bytes) -> None:
    check(body)


@given(SIZES)
def test_most_puts_take_the_short_way(size: int) -> None:
    body = rpc_pb2.PutRequest(key=b"k", value=b"v" * size).SerializeToString()
    assert (read_put(body).__class__ is PlainPut) == (0 < size < 16384)


@given(BODIES | st.binary(max_size=12), st.sampled_from([b"", b"\x12\x01u"]))
def test_what_is_cut_out_of_an_entry_is_what_it_holds(body: bytes, stamp: bytes) -> None:
    data = EntryEncoder(7).encode("put", body)
    key, value = plain_put_in(signed(data, stamp) if stamp else data)
    try:
        kind, request = decode(data)
    except DecodeError:
        assert not key
        return
    assert kind == "put"
    assert (key, value) == ((request.key, request.value) if isinstance(request, PlainPut) else (b"", b""))


@given(st.binary(max_size=20), st.integers(0, 300))
def test_whatever_an_entry_holds_a_key_is_cut_out_of_puts_alone(data: bytes, cut: int) -> None:
    whole = EntryEncoder(7).encode("put", rpc_pb2.PutRequest(key=b"k", value=b"v" * 200).SerializeToString())
    assert plain_put_in(EntryEncoder(7).encode("txn", data)) == (b"", b"")
    key, value = plain_put_in(whole[:cut])
    assert (key, value) in {(b"", b""), (b"k", b"v" * 200)}
