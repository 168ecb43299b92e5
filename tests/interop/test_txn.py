"""Txn: compares, branches, nesting, limits, duplicate keys, and what one transaction's revision means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, prefix_end, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

Compare = rpc_pb2.Compare
Op = rpc_pb2.RequestOp

TOO_MANY = Refusal("InvalidArgument", "etcdserver: too many operations in txn request")
DUPLICATE = Refusal("InvalidArgument", "etcdserver: duplicate key given in txn request")
EMPTY_KEY = Refusal("InvalidArgument", "etcdserver: key is not provided")
KEY_NOT_FOUND = Refusal("InvalidArgument", "etcdserver: key not found")
LEASE_NOT_FOUND = Refusal("NotFound", "etcdserver: requested lease not found")
FUTURE = Refusal("OutOfRange", "etcdserver: mvcc: required revision is a future revision")
COMPACTED = Refusal("OutOfRange", "etcdserver: mvcc: required revision has been compacted")


def put(key: bytes, value: bytes = b"", **fields: Any) -> Op:
    return Op(request_put=rpc_pb2.PutRequest(key=key, value=value, **fields))


def get(key: bytes, range_end: bytes = b"", **fields: Any) -> Op:
    return Op(request_range=rpc_pb2.RangeRequest(key=key, range_end=range_end, **fields))


def delete(key: bytes, range_end: bytes = b"", **fields: Any) -> Op:
    return Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, **fields))


def nested(compare: Sequence[Compare] = (), success: Sequence[Op] = (), failure: Sequence[Op] = ()) -> Op:
    return Op(request_txn=rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure))


class TestCompare:
    @pytest.fixture
    def revisions(self, client: Client, prefix: bytes) -> tuple[int, int]:
        """`prefix` exists with version 2 and value `m`: its create and mod revision."""
        created = client.put(prefix, b"first").header.revision
        return created, client.put(prefix, b"m").header.revision

    @pytest.mark.parametrize("target", ["version", "create_revision", "mod_revision", "value", "lease"])
    @pytest.mark.parametrize(
        ("result", "step", "succeeded"),
        [
            (Compare.EQUAL, 0, True),
            (Compare.EQUAL, 1, False),
            (Compare.NOT_EQUAL, 0, False),
            (Compare.NOT_EQUAL, 1, True),
            (Compare.GREATER, -1, True),
            (Compare.GREATER, 0, False),
            (Compare.LESS, 0, False),
            (Compare.LESS, 1, True),
        ],
    )
    def test_every_target_and_result(
        self,
        client: Client,
        prefix: bytes,
        revisions: tuple[int, int],
        target: str,
        result: Any,
        step: int,
        succeeded: bool,
    ) -> None:
        names = {"version": 2, "create_revision": revisions[0], "mod_revision": revisions[1], "lease": 0}
        operand: object = bytes([b"m"[0] + step]) if target == "value" else names[target] + step
        kinds = {"create_revision": "CREATE", "mod_revision": "MOD"}
        compare = Compare(
            key=prefix,
            result=result,
            target=Compare.CompareTarget.Value(kinds.get(target, target.upper())),
            **{target: operand},  # type: ignore[arg-type]
        )
        assert client.txn([compare]).succeeded is succeeded

    @pytest.mark.parametrize(
        ("target", "operand", "result", "succeeded"),
        [
            ("VERSION", {"version": 0}, Compare.EQUAL, True),
            ("CREATE", {"create_revision": 0}, Compare.EQUAL, True),
            ("CREATE", {"create_revision": 0}, Compare.GREATER, False),
            ("MOD", {"mod_revision": -1}, Compare.GREATER, True),
            ("LEASE", {"lease": 0}, Compare.EQUAL, True),
            ("VALUE", {"value": b""}, Compare.EQUAL, False),
            ("VALUE", {"value": b"x"}, Compare.NOT_EQUAL, False),
        ],
    )
    def test_missing_key(
        self, client: Client, prefix: bytes, target: str, operand: dict[str, Any], result: Any, succeeded: bool
    ) -> None:
        compare = Compare(key=prefix, target=Compare.CompareTarget.Value(target), result=result, **operand)
        assert client.txn([compare]).succeeded is succeeded
        over_nothing = Compare(
            key=prefix,
            range_end=prefix_end(prefix),
            target=Compare.CompareTarget.Value(target),
            result=result,
            **operand,
        )
        assert client.txn([over_nothing]).succeeded is succeeded

    def test_operand_of_another_target_reads_as_nothing(self, client: Client, prefix: bytes) -> None:
        client.put(prefix, b"v")
        mismatch = Compare(key=prefix, target=Compare.VERSION, result=Compare.EQUAL, mod_revision=1)
        assert client.txn([mismatch]).succeeded is False
        greater = Compare(key=prefix, target=Compare.VERSION, result=Compare.GREATER, value=b"9")
        assert client.txn([greater]).succeeded is True

    def test_a_range_must_hold_for_every_key(self, client: Client, prefix: bytes) -> None:
        for letter in (b"a", b"b", b"c"):
            client.put(prefix + letter)
        client.put(prefix + b"c")
        once = Compare(key=prefix, range_end=prefix_end(prefix), target=Compare.VERSION, version=1)
        assert client.txn([once]).succeeded is False
        once.range_end = prefix + b"c"
        assert client.txn([once]).succeeded is True

    @pytest.mark.parametrize(("result", "target"), [(9, Compare.VERSION), (Compare.EQUAL, 9)])
    def test_unknown_enum_values(self, client: Client, prefix: bytes, result: Any, target: Any) -> None:
        client.put(prefix)
        answer = client.txn([Compare(key=prefix, result=result, target=target, version=5)])
        # An unknown result always holds; an unknown target compares as equal.
        assert answer.succeeded is True

    def test_all_compares_must_hold(self, client: Client, prefix: bytes) -> None:
        good = Compare(key=prefix, target=Compare.VERSION, version=0)
        bad = Compare(key=prefix, target=Compare.VERSION, version=1)
        assert client.txn([good, good]).succeeded is True
        assert client.txn([good, bad]).succeeded is False


class TestOrderAndRevision:
    def test_all_writes_share_one_revision(self, client: Client, prefix: bytes) -> None:
        before = client.revision()
        answer = client.txn(success=[put(prefix + b"a"), put(prefix + b"b"), delete(prefix + b"zz")])
        assert answer.header.revision == before + 1
        assert {kv.mod_revision for kv in client.range(prefix, prefix_end(prefix)).kvs} == {before + 1}
        assert [op.WhichOneof("response") for op in answer.responses] == [
            "response_put",
            "response_put",
            "response_delete_range",
        ]
        inner = answer.responses[0].response_put.header
        assert (inner.revision, inner.cluster_id, inner.member_id, inner.raft_term) == (before + 1, 0, 0, 0)
        # The last one deleted nothing, but saw the writes before it.
        assert answer.responses[2].response_delete_range.header.revision == before + 1

    def test_without_a_write_there_is_no_revision(self, client: Client, prefix: bytes) -> None:
        before = client.revision()
        assert client.txn(success=[get(prefix), delete(prefix)]).header.revision == before
        assert client.txn().header.revision == before
        assert client.txn().succeeded is True

    def test_a_range_sees_what_was_put_before_it(self, client: Client, prefix: bytes) -> None:
        client.put(prefix, b"old")
        before = client.revision()
        answer = client.txn(success=[get(prefix), put(prefix, b"new", prev_kv=True), get(prefix)])
        first, write, second = answer.responses
        assert first.response_range.kvs[0].value == b"old"
        assert write.response_put.prev_kv.value == b"old"
        assert second.response_range.kvs[0].value == b"new"
        assert (first.response_range.header.revision, second.response_range.header.revision) == (before, before + 1)

    def test_delete_then_delete(self, client: Client, prefix: bytes) -> None:
        client.put(prefix + b"a", b"1")
        client.put(prefix + b"b", b"2")
        answer = client.txn(success=[delete(prefix + b"a"), delete(prefix, prefix_end(prefix), prev_kv=True)])
        first, second = (op.response_delete_range for op in answer.responses)
        assert (first.deleted, second.deleted) == (1, 1)
        assert [kv.value for kv in second.prev_kvs] == [b"2"]

    def test_failure_branch(self, client: Client, prefix: bytes) -> None:
        never = Compare(key=prefix, target=Compare.VERSION, version=99)
        answer = client.txn([never], [put(prefix, b"then")], [put(prefix, b"else")])
        assert answer.succeeded is False
        assert client.range(prefix).kvs[0].value == b"else"

    def test_nested_compares_see_the_state_before_the_transaction(self, client: Client, prefix: bytes) -> None:
        absent = Compare(key=prefix, target=Compare.VERSION, version=0)
        answer = client.txn(
            [absent],
            [put(prefix, b"outer"), nested([absent], [put(prefix + b"/in", b"then")], [put(prefix + b"/in", b"else")])],
        )
        inner = answer.responses[1].response_txn
        assert inner.succeeded is True
        assert client.range(prefix + b"/in").kvs[0].value == b"then"
        assert inner.header.revision in (0, answer.header.revision)

    def test_serializable_read_only(self, client: Client, prefix: bytes) -> None:
        client.put(prefix, b"v")
        answer = client.txn(success=[get(prefix, serializable=True), get(prefix, count_only=True)])
        assert answer.responses[0].response_range.kvs[0].value == b"v"
        assert answer.responses[1].response_range.count == 1


class TestRefusals:
    @pytest.mark.parametrize("field", ["compare", "success", "failure"])
    def test_more_operations_than_allowed(self, client: Client, prefix: bytes, field: str) -> None:
        def request(count: int) -> rpc_pb2.TxnRequest:
            item: Any = Compare(key=prefix) if field == "compare" else get(prefix)
            return rpc_pb2.TxnRequest(**{field: [item] * count})

        client.kv.Txn(request(128))
        assert refusal(client.kv.Txn, request(129)) == TOO_MANY

    def test_nested_ones_share_the_allowance(self, client: Client, prefix: bytes) -> None:
        def request(outer: int, inner: int) -> rpc_pb2.TxnRequest:
            return rpc_pb2.TxnRequest(success=[nested(success=[get(prefix)] * inner)] + [get(prefix)] * (outer - 1))

        client.kv.Txn(request(64, 64))
        assert refusal(client.kv.Txn, request(64, 65)) == TOO_MANY
        assert refusal(client.kv.Txn, request(128, 1)) == TOO_MANY
        client.kv.Txn(request(128, 0))

    @pytest.mark.parametrize(
        ("success", "failure", "expected"),
        [
            ([put(b"k"), put(b"k")], [], DUPLICATE),
            ([], [put(b"k"), put(b"k")], DUPLICATE),
            ([put(b"k"), delete(b"k")], [], DUPLICATE),
            ([delete(b"a", b"z"), put(b"k")], [], DUPLICATE),
            ([put(b"k"), nested(success=[put(b"k")])], [], DUPLICATE),
            ([nested(failure=[put(b"k")]), put(b"k")], [], DUPLICATE),
            ([nested(success=[put(b"k")]), nested(success=[put(b"k")])], [], DUPLICATE),
            ([nested(success=[delete(b"a", b"z")]), put(b"k")], [], DUPLICATE),
            ([put(b""), put(b"k")], [], EMPTY_KEY),
            ([get(b"")], [], EMPTY_KEY),
            ([delete(b"")], [], EMPTY_KEY),
            ([nested([Compare(key=b"")])], [], EMPTY_KEY),
            ([Op()], [], KEY_NOT_FOUND),
            ([], [Op()], KEY_NOT_FOUND),
            ([put(b"k", lease=424242)], [], LEASE_NOT_FOUND),
            ([put(b"absent-key", ignore_value=True)], [], KEY_NOT_FOUND),
            ([get(b"k", revision=2**62), put(b"k")], [], FUTURE),
            ([get(b"k", revision=2**62)], [], FUTURE),
            ([get(b"k", revision=-2)], [], COMPACTED),
        ],
    )
    def test_whole_transaction_is_refused(
        self, client: Client, success: list[Op], failure: list[Op], expected: Refusal
    ) -> None:
        before = client.revision()
        request = rpc_pb2.TxnRequest(success=success, failure=failure)
        assert refusal(client.kv.Txn, request) == expected
        assert client.revision() == before

    @pytest.mark.parametrize(
        ("success", "failure"),
        [
            ([nested(success=[put(b"dup")], failure=[put(b"dup")])], []),
            ([put(b"dup")], [put(b"dup")]),
            ([get(b"dup"), put(b"dup"), get(b"dup")], []),
            ([delete(b"dup"), delete(b"dup"), delete(b"a", b"z")], []),
            ([delete(b"z", b"a"), put(b"dup")], []),
            # A delete "from key on" is not looked into: etcd's interval for it is empty.
            ([delete(b"d", b"\0"), put(b"dup")], []),
            # Revision -1 is what "never compacted" is called inside; it reads the present.
            ([get(b"dup", revision=-1)], []),
        ],
    )
    def test_what_looks_like_a_duplicate_and_is_none(
        self, client: Client, success: list[Op], failure: list[Op]
    ) -> None:
        assert client.kv.Txn(rpc_pb2.TxnRequest(success=success, failure=failure)).succeeded

    def test_empty_compare_key(self, client: Client) -> None:
        assert refusal(client.kv.Txn, rpc_pb2.TxnRequest(compare=[Compare(key=b"")])) == EMPTY_KEY

    def test_the_branch_not_taken_may_be_impossible(self, client: Client, prefix: bytes) -> None:
        assert client.txn(success=[put(prefix)], failure=[put(prefix, lease=424242)]).succeeded
