"""A namespace holds what a cluster without other keys would: each range means the same inside as there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.client import op
from etcdpy.client.namespace import Namespace
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from etcdpy.client.call import Call

# Few bytes, and those at the ends of the order, so that prefixes touch and overflow.
keys = st.binary(min_size=1, max_size=3).map(lambda raw: bytes(b"\x00a\xfe\xff"[byte % 4] for byte in raw))
stores = st.sets(keys, max_size=20)
ends = st.just(b"") | st.just(b"\0") | keys


def selected(store: set[bytes], key: bytes, range_end: bytes) -> list[bytes]:
    """The keys of a range, by etcd's rules."""
    if not range_end:
        return [key] if key in store else []
    return sorted(found for found in store if key <= found and (range_end == b"\0" or found < range_end))


@given(prefix=keys, store=stores, key=keys, range_end=ends)
def test_a_range_selects_the_same_keys(prefix: bytes, store: set[bytes], key: bytes, range_end: bytes) -> None:
    inside = {found.removeprefix(prefix) for found in store if found.startswith(prefix)} - {b""}
    request = Namespace(prefix).into(rpc_pb2.RangeRequest(key=key, range_end=range_end))
    answer = rpc_pb2.RangeResponse(
        kvs=[kv_pb2.KeyValue(key=found) for found in selected(store, request.key, request.range_end)]
    )
    assert [record.key for record in Namespace(prefix).out_of(answer).kvs] == selected(inside, key, range_end)


@given(outer=keys, inner=keys, key=keys, range_end=ends)
def test_a_namespace_in_a_namespace_is_one_of_both_prefixes(
    outer: bytes, inner: bytes, key: bytes, range_end: bytes
) -> None:
    stepwise = Namespace(outer).interval(*Namespace(inner).interval(key, range_end))
    assert stepwise == Namespace(outer + inner).interval(key, range_end)


parts: st.SearchStrategy[Call[Any]] = st.recursive(
    st.one_of(
        st.builds(op.put, keys, keys), st.builds(op.delete, keys, ends), st.builds(op.get, keys, ends, limit=st.just(3))
    ),
    lambda inner: st.builds(
        op.txn, st.lists(keys.map(lambda key: op.version(key) == 1), max_size=2), st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


def keys_of(request: Any) -> list[tuple[bytes, bytes]]:
    """All keys that a request names, with their range_ends, at whatever depth."""
    if not isinstance(request, rpc_pb2.TxnRequest):
        return [(request.key, getattr(request, "range_end", b""))]
    inner = [getattr(part, str(part.WhichOneof("request"))) for part in (*request.success, *request.failure)]
    return [found for each in (*request.compare, *inner) for found in keys_of(each)]


@given(prefix=keys, part=parts)
def test_every_key_of_a_transaction_is_inside(prefix: bytes, part: Call[Any]) -> None:
    before = part.request.SerializeToString()
    changed = Namespace(prefix).into(part.request)
    assert keys_of(changed) == [Namespace(prefix).interval(*span) for span in keys_of(part.request)]
    assert part.request.SerializeToString() == before, "the caller's request is his own"


@pytest.mark.parametrize("request_", [rpc_pb2.PutRequest(), rpc_pb2.RangeRequest(range_end=b"z")])
def test_an_empty_key_stays_one_for_etcd_to_refuse(request_: Any) -> None:
    assert Namespace(b"p").into(request_).key == b""


def test_answers_lose_the_prefix_wherever_keys_are() -> None:
    record = kv_pb2.KeyValue(key=b"p/a", value=b"1")
    inside = kv_pb2.KeyValue(key=b"a", value=b"1")
    namespace = Namespace(b"p/")
    txn = rpc_pb2.TxnResponse(
        responses=[
            rpc_pb2.ResponseOp(response_range=rpc_pb2.RangeResponse(kvs=[record])),
            rpc_pb2.ResponseOp(response_put=rpc_pb2.PutResponse(prev_kv=record)),
            rpc_pb2.ResponseOp(response_delete_range=rpc_pb2.DeleteRangeResponse(prev_kvs=[record])),
            rpc_pb2.ResponseOp(response_txn=rpc_pb2.TxnResponse(responses=[rpc_pb2.ResponseOp()])),
        ]
    )
    first, second, third, _ = namespace.out_of(txn).responses
    assert [first.response_range.kvs[0], second.response_put.prev_kv, third.response_delete_range.prev_kvs[0]] == [
        inside
    ] * 3
    watch = namespace.out_of(rpc_pb2.WatchResponse(events=[kv_pb2.Event(kv=record, prev_kv=record)]))
    assert (watch.events[0].kv, watch.events[0].prev_kv) == (inside, inside)
    lease = namespace.out_of(rpc_pb2.LeaseTimeToLiveResponse(keys=[b"p/a", b"other"]))
    assert list(lease.keys) == [b"a"]
    assert not namespace.out_of(rpc_pb2.PutResponse()).HasField("prev_kv")
    member = rpc_pb2.MemberListResponse(members=[rpc_pb2.Member(name="p/m")])
    assert namespace.out_of(member).members[0].name == "p/m"
