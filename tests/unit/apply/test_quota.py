"""The quota at apply: etcd's estimates, and a request beyond it that takes effect and is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.apply.plain_put import PlainPut
from etcdpy.apply.quota import OverQuota, Quota, cost_of, hold
from etcdpy.errors import LeaseNotFound
from etcdpy.mvcc.fetch import finish
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Generator


def put(key: bytes, value: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))


def txn(success: list[rpc_pb2.RequestOp], failure: list[rpc_pb2.RequestOp] | None = None) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(success=success, failure=failure or [])


@pytest.mark.parametrize(
    ("kind", "request_", "cost"),
    [
        ("put", PlainPut(b"key", b"value"), 264),
        ("put", rpc_pb2.PutRequest(key=b"key", value=b"value", lease=7), 264),
        ("lease_grant", rpc_pb2.LeaseGrantRequest(TTL=60), 64),
        ("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=1), 0),
        ("delete_range", rpc_pb2.DeleteRangeRequest(key=b"k"), 0),
        ("compaction", rpc_pb2.CompactionRequest(revision=2), 0),
        ("txn", txn([]), 0),
        ("txn", txn([rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))]), 0),
        ("txn", txn([rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k"))]), 0),
        ("txn", txn([put(b"k", b"v"), put(b"l", b"v")], [put(b"k", bytes(500))]), 757),
        ("txn", txn([rpc_pb2.RequestOp(request_txn=txn([put(b"k", b"v")])), put(b"l", b"v")]), 516),
    ],
)
def test_costs_are_etcd_s(kind: str, request_: Any, cost: int) -> None:
    assert cost_of(kind, request_) == cost


def test_the_last_byte_of_the_quota_is_not_given_away() -> None:
    quota = Quota(1000, lambda: 500)
    assert quota.available("put", PlainPut(b"k", bytes(1000 - 500 - 256 - 2)))
    assert not quota.available("put", PlainPut(b"k", bytes(1000 - 500 - 256 - 1)))


def test_what_adds_nothing_passes_a_store_that_is_full() -> None:
    quota = Quota(1000, lambda: 5000)
    assert quota.available("delete_range", rpc_pb2.DeleteRangeRequest(key=b"k"))
    assert not quota.available("lease_grant", rpc_pb2.LeaseGrantRequest(TTL=1))
    assert Quota(-1, lambda: 5000).available("put", PlainPut(b"k", b"v"))


@pytest.mark.parametrize(("size", "near"), [(499, False), (500, True), (900, True), (2000, True)])
def test_near(size: int, near: bool) -> None:
    assert Quota(1000, lambda: size).is_within(500) is near
    assert not Quota(-1, lambda: size).is_within(500)


def test_shares() -> None:
    assert Quota(1000, lambda: 899).is_below(0.9)
    assert not Quota(1000, lambda: 900).is_below(0.9)
    assert Quota(-1, lambda: 900).is_below(0.1)


def test_a_request_beyond_the_quota_takes_effect_and_says_so() -> None:
    done: list[Any] = []

    def apply(request: Any) -> tuple[int, bytes]:
        if request.key == b"bad":
            raise LeaseNotFound
        done.append(request.key)
        return 2, b""

    handlers = hold({"put": apply, "txn": apply, "lease_grant": apply, "alarm": apply}, Quota(1000, lambda: 990))
    with pytest.raises(OverQuota):
        handlers["put"](PlainPut(b"k", b"v"))
    assert done == [b"k"]
    with pytest.raises(LeaseNotFound):  # its own error comes first, as on etcd
        handlers["put"](PlainPut(b"bad", b"v"))
    assert handlers["alarm"](PlainPut(b"k", b"v")) == (2, b"")


def test_what_takes_slices_says_so_after_the_last() -> None:
    done: list[int] = []

    def steps() -> Generator[None, None, list[bytes]]:
        for number in range(3):
            done.append(number)
            yield
        return []

    handlers = hold({"put": None, "txn": lambda _request: steps(), "lease_grant": None}, Quota(1000, lambda: 990))  # type: ignore[dict-item]
    sliced: Any = handlers["txn"](txn([put(b"k", b"v")]))
    with pytest.raises(OverQuota):
        finish(sliced)
    assert done == [0, 1, 2]
