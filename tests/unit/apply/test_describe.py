"""Requests as a log line shows them: etcd's form, and no value, password or token in it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from etcdpy import limits
from etcdpy.apply.describe import content, describe
from etcdpy.apply.entry_data import TAGS
from etcdpy.apply.plain_put import PlainPut
from etcdpy.proto import raft_internal_pb2, rpc_pb2

SECRET = "hunter2"


def put_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=SECRET.encode()))


@pytest.mark.parametrize(
    ("kind", "request_", "text"),
    [
        ("put", PlainPut(b"foo", b"bar"), 'put:<key:"foo" value_size:3 >'),
        ("put", PlainPut(b'\x00\xff"', b""), 'put:<key:"\\000\\377\\"" value_size:0 >'),
        (
            "put",
            rpc_pb2.PutRequest(key=b"k", lease=7, prev_kv=True, ignore_value=True),
            'put:<key:"k" value_size:0 lease:7 prev_kv:true ignore_value:true >',
        ),
        (
            "delete_range",
            rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"b"),
            'delete_range:<key: "a" range_end: "b">',
        ),
        ("compaction", rpc_pb2.CompactionRequest(revision=5, physical=True), "compaction:<revision: 5 physical: true>"),
        ("lease_grant", rpc_pb2.LeaseGrantRequest(TTL=60, ID=255), "lease_grant:<ttl:60-second id:00000000000000ff>"),
        ("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=255), "lease_revoke:<id:00000000000000ff>"),
        (
            "auth_user_add",
            rpc_pb2.AuthUserAddRequest(name="ann", password=SECRET, hashedPassword=SECRET),
            "auth_user_add:<name:ann>",
        ),
        (
            "authenticate",
            raft_internal_pb2.InternalAuthenticateRequest(name="ann", password=SECRET, simple_token=SECRET),
            "authenticate:<name:ann>",
        ),
        (
            "auth_user_grant_role",
            rpc_pb2.AuthUserGrantRoleRequest(user="a", role="r"),
            "auth_user_grant_role:<user:a role:r>",
        ),
        ("auth_enable", rpc_pb2.AuthEnableRequest(), "auth_enable:<>"),
    ],
)
def test_each_kind(kind: str, request_: Any, text: str) -> None:
    assert describe(kind, request_) == text


def test_a_transaction_with_another_inside() -> None:
    inner = rpc_pb2.TxnRequest(failure=[put_op(b"in")])
    compares = [
        rpc_pb2.Compare(key=b"c", target=rpc_pb2.Compare.VALUE, value=SECRET.encode()),
        rpc_pb2.Compare(key=b"d", target=rpc_pb2.Compare.MOD, mod_revision=3),
    ]
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"g"))
    request = rpc_pb2.TxnRequest(
        compare=compares,
        success=[put_op(b"p"), rpc_pb2.RequestOp(request_txn=inner)],
        failure=[get, rpc_pb2.RequestOp()],
    )
    assert content("txn", request) == (
        'compare:<target: VALUE key: "c" value_size:7 target: MOD key: "d" mod_revision: 3 >'
        ' success:<request_put:<key:"p" value_size:7 > request_txn:<compare:<> success:<>'
        ' failure:<request_put:<key:"in" value_size:7 > >> >'
        ' failure:<request_range:<key: "g"> >'
    )


def test_every_kind_of_the_log_can_be_shown_and_shows_no_secret() -> None:
    """Every text and every byte string of every request is a secret here; keys and names may show, and nothing else."""
    fields = raft_internal_pb2.InternalRaftRequest.DESCRIPTOR.fields_by_name
    for kind in TAGS:
        descriptor = fields[kind].message_type
        assert descriptor is not None
        request: Any = GetMessageClass(descriptor)()
        for field in request.DESCRIPTOR.fields:
            if field.name in ("password", "hashedPassword", "simple_token", "value", "token"):
                setattr(request, field.name, SECRET.encode() if field.type == field.TYPE_BYTES else SECRET)
        assert SECRET not in describe(kind, request), kind


def test_long_requests_are_cut_and_the_rest_is_not_looked_at() -> None:
    assert len(describe("put", PlainPut(b"k" * 100_000, b""))) < limits.LOG_BYTES_FIELD_MAX + 100
    assert (
        len(describe("delete_range", rpc_pb2.DeleteRangeRequest(key=b"k" * 100_000))) < limits.LOG_BYTES_FIELD_MAX + 100
    )
    text = describe("txn", rpc_pb2.TxnRequest(success=[put_op(b"key")] * 100_000))
    assert len(text) == limits.LOG_REQUEST_CHARS_MAX + 3
    assert text.endswith("...")
