"""Requests are refused as etcd refuses them; tests/interop holds the same cases against the real one."""

from __future__ import annotations

import pytest

from etcdpy import errors
from etcdpy.api import checks
from etcdpy.proto import rpc_pb2 as pb


def put(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key))


def delete(key: bytes, end: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end))


def nested(then: list[pb.RequestOp] | None = None, otherwise: list[pb.RequestOp] | None = None) -> pb.RequestOp:
    return pb.RequestOp(request_txn=pb.TxnRequest(success=then, failure=otherwise))


@pytest.mark.parametrize(
    "operations",
    [
        [put(b"a"), put(b"a")],
        [delete(b"a", b"c"), put(b"b")],
        [put(b"b"), delete(b"a", b"c")],
        [put(b"a"), nested([put(b"a")])],
        [delete(b"a"), nested([], [put(b"a")])],
        [nested([put(b"a")]), nested([put(b"a")])],
        [nested([delete(b"a", b"z")]), put(b"m")],
    ],
)
def test_a_key_may_be_written_once(operations: list[pb.RequestOp]) -> None:
    with pytest.raises(errors.DuplicateKey):
        checks.check_txn(pb.TxnRequest(failure=operations), 128)


@pytest.mark.parametrize(
    "operations",
    [
        [put(b"a"), put(b"b")],
        [delete(b"a", b"c"), delete(b"b"), put(b"c")],
        [nested([put(b"a")], [put(b"a")])],
        [pb.RequestOp(request_range=pb.RangeRequest(key=b"a")), put(b"a")],
        [delete(b"a", b"\0"), put(b"b")],
    ],
)
def test_what_does_not_collide(operations: list[pb.RequestOp]) -> None:
    checks.check_txn(pb.TxnRequest(success=operations), 128)


def test_operations_are_counted_by_the_longest_list_and_nesting_takes_its_share() -> None:
    checks.check_txn(pb.TxnRequest(success=[put(b"%d" % n) for n in range(4)], failure=[put(b"a")]), 4)
    with pytest.raises(errors.TooManyOps):
        checks.check_txn(pb.TxnRequest(success=[put(b"%d" % n) for n in range(5)]), 4)
    inner = [put(b"%d" % n) for n in range(3)]
    checks.check_txn(pb.TxnRequest(success=[nested(inner)]), 4)
    with pytest.raises(errors.TooManyOps):
        checks.check_txn(pb.TxnRequest(success=[nested(inner), put(b"x")]), 4)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (pb.RequestOp(), errors.KeyNotFound),
        (put(b""), errors.EmptyKey),
        (delete(b""), errors.EmptyKey),
        (pb.RequestOp(request_range=pb.RangeRequest()), errors.EmptyKey),
        (nested([put(b"")]), errors.EmptyKey),
        (pb.RequestOp(request_put=pb.PutRequest(key=b"a", value=b"b", ignore_value=True)), errors.ValueProvided),
        (pb.RequestOp(request_put=pb.PutRequest(key=b"a", lease=1, ignore_lease=True)), errors.LeaseProvided),
    ],
)
def test_each_operation_is_checked(operation: pb.RequestOp, error: type[errors.EtcdError]) -> None:
    with pytest.raises(error):
        checks.check_txn(pb.TxnRequest(success=[operation]), 128)


def test_short_lists_of_short_lists_are_bounded_together() -> None:
    """Found by tests/fuzz: 240 KB of nested lists, each of them short, held the loop for 50 ms."""
    reads = [pb.RequestOp(request_range=pb.RangeRequest(key=b"a"))]
    checks.check_txn(pb.TxnRequest(success=[nested(reads * 32)] * 31), 128)
    with pytest.raises(errors.TooManyOps):
        checks.check_txn(pb.TxnRequest(success=[nested(reads * 32)] * 32), 128)
    comparing = pb.RequestOp(request_txn=pb.TxnRequest(compare=[pb.Compare(key=b"a")] * 100))
    with pytest.raises(errors.TooManyOps):
        checks.check_txn(pb.TxnRequest(failure=[comparing] * 11), 128)


def test_a_compare_needs_a_key() -> None:
    with pytest.raises(errors.EmptyKey):
        checks.check_txn(pb.TxnRequest(compare=[pb.Compare()]), 128)


def test_unknown_sort_options_are_refused() -> None:
    with pytest.raises(errors.InvalidSortOption):
        checks.check_range(pb.RangeRequest.FromString(pb.RangeRequest(key=b"a").SerializeToString() + b"\x28\x09"))


def test_a_stream_knows_no_orders_and_no_filters() -> None:
    checks.check_range_stream(pb.RangeRequest(key=b"a", sort_order=pb.RangeRequest.ASCEND))
    with pytest.raises(errors.StatusError, match="custom sort orders"):
        checks.check_range_stream(
            pb.RangeRequest(key=b"a", sort_order=pb.RangeRequest.ASCEND, sort_target=pb.RangeRequest.MOD)
        )
    with pytest.raises(errors.StatusError, match="revision filters"):
        checks.check_range_stream(pb.RangeRequest(key=b"a", min_mod_revision=1))


def test_bytes_that_are_no_message_are_an_internal_error() -> None:
    with pytest.raises(errors.StatusError) as caught:
        checks.parse(pb.PutRequest, b"\xff")
    assert caught.value.code is errors.Code.INTERNAL
