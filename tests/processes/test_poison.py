"""Requests that pass every check of their shape and fail only when they are applied: they must not end the member.

What is in the log is applied again at every start, so a crash here would be for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, outcome
from tests.support.members import Member

if TYPE_CHECKING:
    from pathlib import Path

Op = rpc_pb2.RequestOp


def delete_from(key: bytes) -> Op:
    """From this key on: of these etcd overlooks that they cover a put of the same transaction."""
    return Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=b"\0"))


def keep(key: bytes, **ignore: Any) -> Op:
    return Op(request_put=rpc_pb2.PutRequest(key=key, **ignore))


POISONS = {
    # Real etcd 3.7.3 ends on each of these with an index out of range, and again at every start.
    "ignore_value": [delete_from(b"a"), keep(b"k", ignore_value=True)],
    "ignore_lease": [delete_from(b"a"), keep(b"k", ignore_lease=True)],
    "nested": [
        Op(request_txn=rpc_pb2.TxnRequest(success=[delete_from(b"a")])),
        Op(request_txn=rpc_pb2.TxnRequest(success=[keep(b"k", ignore_value=True)])),
    ],
}


@pytest.mark.parametrize("name", POISONS)
def test_it_is_answered_and_forgotten(tmp_path: Path, name: str) -> None:
    member = Member("etcdpy", tmp_path)
    try:
        member.start()
        with Client.of(member) as client:
            client.put(b"k", b"v")
            answer = outcome(client.kv.Txn, rpc_pb2.TxnRequest(success=POISONS[name]))
            if isinstance(answer, Refusal):
                assert answer.code == "InvalidArgument", answer
                assert client.range(b"k").kvs[0].value == b"v", "refused, and yet half done"
            client.put(b"after", b"v")
        member.kill()
        member.start()
        with Client.of(member) as client:
            assert client.range(b"after").count == 1
    finally:
        member.kill()
