from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool

from etcdpy.client import call, op
from etcdpy.client.call import Call, Method
from etcdpy.proto import rpc_pb2

METHODS = {name: value for name, value in vars(call).items() if isinstance(value, Method)}


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_that_of_the_descriptor(name: str) -> None:
    method: Method[rpc_pb2.PutRequest, rpc_pb2.PutResponse] = METHODS[name]
    _, service, short = method.path.split("/")
    found = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(short)
    assert (method.request.DESCRIPTOR, method.answer.DESCRIPTOR) == (found.input_type, found.output_type)


def test_every_method_of_etcds_services_is_known() -> None:
    services = {method.path.split("/")[1] for method in METHODS.values()}
    known = {
        f"/{service}/{method.name}"
        for service in services
        for method in descriptor_pool.Default().FindServiceByName(service).methods
    }
    assert {method.path for method in METHODS.values()} == known
    assert len(services) == 6


def test_what_etcds_own_client_never_repeats_is_not_repeatable() -> None:
    once: set[Method[Any, Any]] = {
        call.PUT,
        call.DELETE_RANGE,
        call.TXN,
        call.COMPACT,
        call.MEMBER_ADD,
        call.USER_ADD,
        call.DEFRAGMENT,
    }
    assert not any(method.repeatable for method in once)
    assert call.RANGE.repeatable
    assert Call(call.TXN, rpc_pb2.TxnRequest(), repeatable=True).repeatable


def test_ranges() -> None:
    def span(made: Call[rpc_pb2.RangeResponse]) -> tuple[bytes, bytes]:
        request = made.request
        assert isinstance(request, rpc_pb2.RangeRequest)
        return request.key, request.range_end

    assert span(op.get("a")) == (b"a", b"")
    assert span(op.get(b"a", "c")) == (b"a", b"c")
    assert span(op.get("a\x7f", prefix=True)) == (b"a\x7f", b"a\x80")
    assert span(op.get(b"a\xff", prefix=True)) == (b"a\xff", b"b")
    assert span(op.get(b"\xff", prefix=True)) == (b"\xff", b"\0")
    assert span(op.get("", prefix=True)) == (b"\0", b"\0")
    assert span(op.get("ä", from_key=True)) == ("ä".encode(), b"\0")
    with pytest.raises(ValueError, match="exclude each other"):
        op.get("a", "b", prefix=True)


def test_a_transaction_of_every_kind_of_part() -> None:
    inner = op.txn(then=[op.get("i")])
    made = op.txn(
        when=[op.version("a") == 0, op.value("b", prefix=True) != "x", op.mod_revision("c") > 7, op.lease_of("d") < 3],
        then=[op.put("a", "1", lease=5), op.delete("b"), op.get("c"), inner],
        otherwise=[op.get("a")],
    )
    expected = rpc_pb2.TxnRequest(
        compare=[
            rpc_pb2.Compare(target=rpc_pb2.Compare.VERSION, key=b"a", version=0),
            rpc_pb2.Compare(
                result=rpc_pb2.Compare.NOT_EQUAL, target=rpc_pb2.Compare.VALUE, key=b"b", range_end=b"c", value=b"x"
            ),
            rpc_pb2.Compare(result=rpc_pb2.Compare.GREATER, target=rpc_pb2.Compare.MOD, key=b"c", mod_revision=7),
            rpc_pb2.Compare(result=rpc_pb2.Compare.LESS, target=rpc_pb2.Compare.LEASE, key=b"d", lease=3),
        ],
        success=[
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a", value=b"1", lease=5)),
            rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"b")),
            rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"c")),
            rpc_pb2.RequestOp(
                request_txn=rpc_pb2.TxnRequest(
                    success=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"i"))]
                )
            ),
        ],
        failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a"))],
    )
    assert made.request == expected


def test_what_is_no_part_of_a_transaction() -> None:
    with pytest.raises(TypeError, match="LeaseGrantRequest cannot be part"):
        op.txn(then=[op.grant(5)])
