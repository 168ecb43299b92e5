"""Requests on the store: put, delete range, and transactions with compares, branches and nesting.

Each `apply_*` takes the request's protobuf message and returns the body of the response: its wire form without the
header, which is field 1 and is put in front by whoever knows the member and the term. What it did is visible in
`store.current_revision`.

A transaction runs in three passes, so that an error leaves nothing half done:

    choose    evaluate all compares, those of nested transactions too, against the state before the transaction
    check     on the chosen branches: revisions of ranges, leases of puts, keys that ignore_value / ignore_lease need
    execute   the operations in order, all writes under one main revision; reads see the writes before them

Requests have passed the checks of shape (empty keys, too many operations, the same key put twice) before they get here.
"""

from __future__ import annotations

import operator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from etcdpy.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from etcdpy.mvcc import record as wire
from etcdpy.mvcc.read import RangeOptions, range_at_steps, range_body, range_body_steps
from etcdpy.mvcc.revision import SUB_BITS
from etcdpy.proto.rpc_pb2 import Compare
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from etcdpy.mvcc.index import KeyState
    from etcdpy.mvcc.store import Store, WriteTransaction
    from etcdpy.proto.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest

    Operand: TypeAlias = int | bytes

_TESTS: Final[dict[int, Callable[[Operand, Operand], bool]]] = {
    Compare.EQUAL: operator.eq,
    Compare.NOT_EQUAL: operator.ne,
    Compare.GREATER: operator.gt,
    Compare.LESS: operator.lt,
}
_OPERANDS: Final[dict[int, Callable[[Compare], Operand]]] = {
    # A target whose operand is missing (another member of the oneof is set) is compared with 0 or empty, as in etcd.
    Compare.VERSION: operator.attrgetter("version"),
    Compare.CREATE: operator.attrgetter("create_revision"),
    Compare.MOD: operator.attrgetter("mod_revision"),
    Compare.VALUE: operator.attrgetter("value"),
    Compare.LEASE: operator.attrgetter("lease"),
}
_ABSENT: Final = 0
"""What every target but the value of a missing key reads as."""


def range_options(request: RangeRequest) -> RangeOptions:
    """The options of a range request."""
    return RangeOptions(
        request.limit,
        request.revision,
        request.sort_order,
        request.sort_target,
        request.keys_only,
        request.count_only,
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    )


def apply_put(store: Store, request: PutRequest) -> bytes:
    """Do a put. Returns a PutResponse without its header. Raises LeaseNotFound, KeyNotFound. Hot road."""
    check_put(store, request)
    return _put(store, store, request)


def check_put(store: Store, request: PutRequest) -> None:
    """What can be wrong with a put that is well formed. Raises LeaseNotFound, KeyNotFound, in etcd's order."""
    lease = request.lease
    if lease and not store.leases.exists(lease):
        raise LeaseNotFound
    if (request.ignore_value or request.ignore_lease) and not store.index.mod(request.key):
        raise KeyNotFound


def _put(store: Store, writer: Store | WriteTransaction, request: PutRequest) -> bytes:
    key = request.key
    value = request.value
    lease = request.lease
    ignore_value = request.ignore_value
    if ignore_value or request.ignore_lease:
        before = store.get(key)
        assert before is not None  # checked; no transaction may delete a key and then put it
        if ignore_value:
            value = wire.value_of(before)
        if request.ignore_lease:
            lease = wire.lease_of(before)
    previous = writer.put(key, value, lease)
    if previous and request.prev_kv:
        return wire.length_delimited(b"\x12", store.record(previous))
    return b""


def apply_delete_range(store: Store, request: DeleteRangeRequest) -> bytes:
    """Delete a key or a range. Returns a DeleteRangeResponse without its header."""
    return _delete_range(store, store, request)


def _delete_range(store: Store, writer: Store | WriteTransaction, request: DeleteRangeRequest) -> bytes:
    previous = writer.delete_range(request.key, request.range_end)
    if not previous:
        return b""
    deleted = b"\x10" + varint(len(previous))
    if not request.prev_kv:
        return deleted
    return deleted + wire.repeated_field(b"\x1a", store.records(previous))


def apply_txn(store: Store, request: TxnRequest) -> bytes:
    """Do a transaction. Returns a TxnResponse without its header.

    Raises FutureRevision, Compacted, LeaseNotFound, KeyNotFound, and then has changed nothing. One without writes makes
    no revision, so this serves read-only transactions too.
    """
    branch = _choose(store, request)
    _check(store, branch)
    if len(branch.operations) > 1 or branch.nested:
        store.txns += 1  # etcd counts as a transaction what does more than one thing
    return _execute(store, store.begin(), branch)


def read_only_steps(store: Store, request: TxnRequest) -> Generator[None, None, bytes]:
    """A transaction of ranges alone, in slices: writes and compactions may happen between them. Returns as `apply_txn`.

    All of it is as of the revision at the first `next`, which the inner headers show; the caller takes the revision of
    the outer one before that `next`. Raises FutureRevision, Compacted from there. To be exhausted or closed.
    """
    branch = _choose(store, request)
    _check(store, branch)
    current = store.current_revision
    header = _header(store)
    mains = [store.read_revision(op.request_range.revision) for op in branch.operations]
    parts = [b"\x10\x01"] if branch.succeeded else []
    with ExitStack() as pins:
        for main in mains:
            pins.enter_context(store.pin(main))
        for op, main in zip(branch.operations, mains, strict=True):
            asked = op.request_range
            result = yield from range_at_steps(store, asked.key, asked.range_end, range_options(asked), main, current)
            body = yield from range_body_steps(result)
            parts.append(wire.length_delimited(b"\x1a", _response(b"\x0a", header, body)))
    return b"".join(parts)


class _Branch(NamedTuple):
    """The operations that a transaction does, and the branches of the transactions among them, in order."""

    succeeded: bool
    operations: Sequence[RequestOp]
    nested: list[_Branch]


def _choose(store: Store, request: TxnRequest) -> _Branch:
    succeeded = all(compare_holds(store, compare) for compare in request.compare)
    operations = request.success if succeeded else request.failure
    nested = [_choose(store, op.request_txn) for op in operations if op.HasField("request_txn")]
    return _Branch(succeeded, operations, nested)


def compare_holds(store: Store, compare: Compare) -> bool:
    """Whether a compare holds now: for its key, or for every key of its range."""
    target = compare.target
    test = _TESTS.get(compare.result)
    if test is None:  # an enum value of the future; etcd lets it hold, unless there is no value to look at
        return target != Compare.VALUE or bool(_states(store, compare.key, compare.range_end))
    read_operand = _OPERANDS.get(target)
    if read_operand is None:
        return test(0, 0)
    operand = read_operand(compare)
    states = _states(store, compare.key, compare.range_end)
    if not states:
        # An absent value is not an empty one, and has no form on the wire: such a compare never holds.
        return target != Compare.VALUE and test(_ABSENT, operand)
    return all(test(actual, operand) for actual in _actuals(store, target, states))


def _states(store: Store, key: bytes, end: bytes) -> list[tuple[bytes, KeyState]]:
    index = store.index
    if not end:
        state = index.current(key)
        return [] if state is None else [(key, state)]
    low, high = index.span(key, None if end == b"\0" else end)
    return [(name, state) for name in index.live[low:high] if (state := index.current(name)) is not None]


def _actuals(store: Store, target: int, states: list[tuple[bytes, KeyState]]) -> Iterable[Operand]:
    if target == Compare.MOD:
        return [state.mod >> SUB_BITS for _, state in states]
    if target == Compare.CREATE:
        return [state.create for _, state in states]
    if target == Compare.VERSION:
        return [state.version for _, state in states]
    if target == Compare.LEASE:
        return [store.lease_of(key) for key, _ in states]
    return map(wire.value_of, store.records([state.mod for _, state in states]))


def _check(store: Store, branch: _Branch, deletes: list[DeleteRangeRequest] | None = None) -> None:
    """`deletes`: what the transaction deletes before this branch. A put that keeps value or lease of such a key finds
    nothing to keep. Checks of shape catch most of these; etcd lets those through that delete "from a key on" and then
    panics, at every start anew, since the request is in its log by then."""
    deletes = [] if deletes is None else deletes
    nested = iter(branch.nested)
    for op in branch.operations:
        if op.HasField("request_put"):
            put = op.request_put
            check_put(store, put)
            if (put.ignore_value or put.ignore_lease) and any(_covers(each, put.key) for each in deletes):
                raise KeyNotFound
        elif op.HasField("request_delete_range"):
            deletes.append(op.request_delete_range)
        elif op.HasField("request_range"):
            _check_revision(store, op.request_range.revision)
        elif op.HasField("request_txn"):
            _check(store, next(nested), deletes)


def _covers(request: DeleteRangeRequest, key: bytes) -> bool:
    end = request.range_end
    return key == request.key if not end else request.key <= key and (end == b"\0" or key < end)


def _check_revision(store: Store, revision: int) -> None:
    """As etcd checks a range inside a transaction: here, unlike in a range of its own, -2 counts as compacted."""
    if revision == 0:
        return
    if revision > store.current_revision:
        raise FutureRevision
    if revision < store.compact_revision:
        raise Compacted


def _execute(store: Store, writer: WriteTransaction, branch: _Branch) -> bytes:
    """Run a branch. Returns a TxnResponse without header: succeeded (2), responses (3)."""
    parts = [b"\x10\x01"] if branch.succeeded else []
    nested = iter(branch.nested)
    for op in branch.operations:
        if op.HasField("request_put"):
            body = _put(store, writer, op.request_put)
            response = _response(b"\x12", _header(store), body)
        elif op.HasField("request_range"):
            request = op.request_range
            body = range_body(store.range(request.key, request.range_end, range_options(request)))
            response = _response(b"\x0a", _header(store), body)
        elif op.HasField("request_delete_range"):
            body = _delete_range(store, writer, op.request_delete_range)
            response = _response(b"\x1a", _header(store), body)
        elif op.HasField("request_txn"):
            # etcd gives a nested transaction an empty header.
            response = _response(b"\x22", b"\x0a\x00", _execute(store, writer, next(nested)))
        else:
            response = b""
        parts.append(wire.length_delimited(b"\x1a", response))
    return b"".join(parts)


def _header(store: Store) -> bytes:
    """The header of an answer inside a transaction: the revision alone, that of the transaction once it has written."""
    revision = varint(store.current_revision)
    return b"\x0a" + bytes((len(revision) + 1,)) + b"\x18" + revision


def _response(tag: bytes, header: bytes, body: bytes) -> bytes:
    """A ResponseOp: one field that holds header and body."""
    return b"".join((tag, varint(len(header) + len(body)), header, body))
