"""Requests on the store: put, delete range, and transactions with compares, branches and nesting.

Each `apply_*` takes the request's protobuf message and returns the body of the response: its wire form without the
header, which is field 1 and is put in front by whoever knows the member and the term. What it did is visible in
`store.current_revision`.

A transaction runs in three passes, so that an error leaves nothing half done:

    choose    evaluate all compares, those of nested transactions too, against the state before the transaction
    check     on the chosen branches: revisions of ranges, leases of puts, keys that ignore_value / ignore_lease need
    execute   the operations in order, all writes under one main revision; reads see the writes before them

What concerns many keys is done in slices, by generators that the caller runs; a write that takes more than one is
hidden until its end (`Store.begin_in_slices`). The same generators, run in one go, do what is small.

Requests have passed the checks of shape (empty keys, too many operations, the same key put twice) before they get here.
"""

from __future__ import annotations

import operator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from etcdpy.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from etcdpy.limits import RANGE_SLICE_KEYS_MAX
from etcdpy.mvcc import record as wire
from etcdpy.mvcc.fetch import finish, record_steps
from etcdpy.mvcc.read import PLAIN, RangeOptions, Walk, range_at_steps, range_part_steps, record_part_steps
from etcdpy.mvcc.revision import SUB_BITS
from etcdpy.proto.rpc_pb2 import Compare, TxnRequest
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from etcdpy.mvcc.index import Row
    from etcdpy.mvcc.store import Store
    from etcdpy.mvcc.write import WriteTransaction
    from etcdpy.proto.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp

    Operand: TypeAlias = int | bytes
    Parts: TypeAlias = list[bytes]
    """The body of a response in pieces; joined, they are its wire form."""

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
_BYTES_AS_A_KEY: Final = 1024
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
    return b"".join(finish(_delete_range_steps(store, store.begin(), request)))


def delete_range_in_slices(store: Store, request: DeleteRangeRequest) -> Generator[None, None, Parts]:
    """The same in slices, hidden until the last; see Store.begin_in_slices."""
    transaction = store.begin_in_slices()
    parts = yield from _delete_range_steps(store, transaction, request)
    store.publish(transaction)
    return parts


def _delete_range_steps(
    store: Store, writer: WriteTransaction, request: DeleteRangeRequest
) -> Generator[None, None, Parts]:
    if request.range_end:
        previous = yield from writer.delete_range_steps(request.key, request.range_end)
    else:
        previous = writer.delete_range(request.key)
    if not previous:
        return []
    parts = [b"\x10" + varint(len(previous))]
    if request.prev_kv:
        records = yield from record_steps(store.backend, store.cache, previous, store.record_count)
        parts += yield from record_part_steps(b"\x1a", records)
    return parts


def apply_txn(store: Store, request: TxnRequest) -> bytes:
    """Do a transaction. Returns a TxnResponse without its header.

    Raises FutureRevision, Compacted, LeaseNotFound, KeyNotFound, and then has changed nothing. One without writes makes
    no revision, so this serves read-only transactions too.
    """
    return b"".join(finish(_txn_steps(store, store.begin(), request)))


def txn_in_slices(store: Store, request: TxnRequest) -> Generator[None, None, Parts]:
    """The same in slices, hidden until the last; see Store.begin_in_slices."""
    transaction = store.begin_in_slices()
    parts = yield from _txn_steps(store, transaction, request)
    store.publish(transaction)
    return parts


def _txn_steps(store: Store, transaction: WriteTransaction, request: TxnRequest) -> Generator[None, None, Parts]:
    current = store.current_revision
    branch = yield from _choose_steps(store, request, current)
    _check(store, branch, current)
    if len(branch.operations) > 1 or branch.nested:
        store.txns += 1  # etcd counts as a transaction what does more than one thing
    return (yield from _execute_steps(store, transaction, branch))


def takes_slices(store: Store, request: DeleteRangeRequest | TxnRequest) -> bool:
    """Whether a write concerns so much that it must not be done in one go."""
    if isinstance(request, TxnRequest):
        return _work_of_txn(store, request) > store.slice_keys
    return _work_of(store, request, request.prev_kv) > store.slice_keys


def _work_of_txn(store: Store, request: TxnRequest) -> int:
    """About how many keys the larger of the two ways would look at, change or give back."""
    compared = sum(
        _work_of(store, compare, compare.target == Compare.VALUE) for compare in request.compare if compare.range_end
    )
    return compared + max(_work_of_operations(store, branch) for branch in (request.success, request.failure))


def _work_of_operations(store: Store, operations: Sequence[RequestOp]) -> int:
    work = len(operations)
    for op in operations:
        if op.HasField("request_delete_range"):
            work += _work_of(store, op.request_delete_range, op.request_delete_range.prev_kv)
        elif op.HasField("request_range"):
            work += _work_of(store, op.request_range, not (op.request_range.keys_only or op.request_range.count_only))
        elif op.HasField("request_txn"):
            work += _work_of_txn(store, op.request_txn)
    return work


def _work_of(store: Store, request: DeleteRangeRequest | RangeRequest | Compare, with_records: bool) -> int:
    end = request.range_end
    if not end:
        return 1
    low, high = store.index.span(request.key, None if end == b"\0" else end)
    # Of large records so many bytes cost as much as a key does.
    return (high - low) * (1 + store.mean_record_bytes // _BYTES_AS_A_KEY) if with_records else high - low


def read_only_steps(store: Store, request: TxnRequest) -> Generator[None, None, bytes]:
    """A transaction of ranges alone, in slices: writes and compactions may happen between them. Returns as `apply_txn`.

    All of it is as of the revision at the first `next`, which the inner headers show; the caller takes the revision of
    the outer one before that `next`. Raises FutureRevision, Compacted, mostly from there. To be exhausted or closed.
    """
    current = store.current_revision
    header = _header(current)
    with ExitStack() as pins:
        pins.enter_context(store.pin(current))
        branch = yield from _choose_steps(store, request, current)
        _check(store, branch, current)
        parts = [b"\x10\x01"] if branch.succeeded else []
        asked = [op.request_range for op in branch.operations]
        mains = [max(each.revision, 0) or current for each in asked]
        for main in mains:
            pins.enter_context(store.pin(main))
        for each, main in zip(asked, mains, strict=True):
            steps = range_at_steps(store, each.key, each.range_end, range_options(each), main, current)
            body = yield from range_part_steps((yield from steps))
            parts += _response(b"\x0a", header, body)
    return b"".join(parts)


class _Branch(NamedTuple):
    """The operations that a transaction does, and the branches of the transactions among them, in order."""

    succeeded: bool
    operations: Sequence[RequestOp]
    nested: list[_Branch]


def _choose_steps(store: Store, request: TxnRequest, main: int) -> Generator[None, None, _Branch]:
    """Evaluate all compares at a revision that is the current one, or pinned."""
    succeeded = True
    for compare in request.compare:
        if compare.range_end:
            succeeded = yield from _range_compare_steps(store, compare, main)
        else:
            succeeded = compare_holds(store, compare, main)
        if not succeeded:
            break
    operations = request.success if succeeded else request.failure
    nested: list[_Branch] = []
    for inner in (op.request_txn for op in operations if op.HasField("request_txn")):
        nested += ((yield from _choose_steps(store, inner, main)),)
    return _Branch(succeeded, operations, nested)


def compare_holds(store: Store, compare: Compare, main: int) -> bool:
    """Whether a compare holds for its one key at a revision."""
    index = store.index
    state = index.current(compare.key) if main == store.head_revision else index.at(compare.key, main)
    if state is None:
        return _holds_of_nothing(compare)
    return _holds(store, compare, [(compare.key, *state)], main)


def _range_compare_steps(store: Store, compare: Compare, main: int) -> Generator[None, None, bool]:
    """Whether a compare holds for every key of its range."""
    end = compare.range_end
    walk = Walk(store, compare.key, None if end == b"\0" else end, main, PLAIN)
    cursor: bytes | None = compare.key
    nothing = True
    while cursor is not None:
        rows, cursor = walk.slice(cursor, min(RANGE_SLICE_KEYS_MAX, store.slice_keys))
        if rows:
            nothing = False
            if not _holds(store, compare, rows, main):
                return False
        if cursor is not None:
            yield
    return not nothing or _holds_of_nothing(compare)


def _holds_of_nothing(compare: Compare) -> bool:
    """Where no key is. An absent value is not an empty one, and has no form on the wire: such a compare never holds."""
    if compare.target == Compare.VALUE:
        return False
    test, read_operand = _TESTS.get(compare.result), _OPERANDS.get(compare.target)
    if test is None:  # an enum value of the future; etcd lets it hold, unless there is no value to look at
        return True
    return test(_ABSENT, 0 if read_operand is None else read_operand(compare))


def _holds(store: Store, compare: Compare, rows: list[Row], main: int) -> bool:
    test, read_operand = _TESTS.get(compare.result), _OPERANDS.get(compare.target)
    if test is None:
        return True
    if read_operand is None:
        return test(0, 0)
    operand = read_operand(compare)
    return all(test(actual, operand) for actual in _actuals(store, compare.target, rows, main))


def _actuals(store: Store, target: int, rows: list[Row], main: int) -> Iterable[Operand]:
    if target == Compare.MOD:
        return [mod >> SUB_BITS for _, mod, _, _ in rows]
    if target == Compare.CREATE:
        return [create for _, _, create, _ in rows]
    if target == Compare.VERSION:
        return [version for _, _, _, version in rows]
    if target == Compare.LEASE and main == store.head_revision:
        return [store.lease_of(key) for key, _, _, _ in rows]
    part_of = wire.lease_of if target == Compare.LEASE else wire.value_of
    return map(part_of, store.records([mod for _, mod, _, _ in rows]))


def _check(store: Store, branch: _Branch, current: int, deletes: list[DeleteRangeRequest] | None = None) -> None:
    """`current` is the revision before the transaction.

    `deletes`: what the transaction deletes before this branch. A put that keeps value or lease of such a key finds
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
            _check_revision(store, op.request_range.revision, current)
        elif op.HasField("request_txn"):
            _check(store, next(nested), current, deletes)


def _covers(request: DeleteRangeRequest, key: bytes) -> bool:
    end = request.range_end
    return key == request.key if not end else request.key <= key and (end == b"\0" or key < end)


def _check_revision(store: Store, revision: int, current: int) -> None:
    """As etcd checks a range inside a transaction: here, unlike in a range of its own, -2 counts as compacted."""
    if revision == 0:
        return
    if revision > current:
        raise FutureRevision
    if revision < store.compact_revision:
        raise Compacted


def _execute_steps(store: Store, writer: WriteTransaction, branch: _Branch) -> Generator[None, None, Parts]:
    """Run a branch. Returns a TxnResponse without header: succeeded (2), responses (3)."""
    parts = [b"\x10\x01"] if branch.succeeded else []
    nested = iter(branch.nested)
    for op in branch.operations:
        if op.HasField("request_put"):
            body = [_put(store, writer, op.request_put)]
            parts += _response(b"\x12", _header(store.head_revision), body)
        elif op.HasField("request_range"):
            body = yield from _inner_range_steps(store, op.request_range)
            parts += _response(b"\x0a", _header(store.head_revision), body)
        elif op.HasField("request_delete_range"):
            body = yield from _delete_range_steps(store, writer, op.request_delete_range)
            parts += _response(b"\x1a", _header(store.head_revision), body)
        elif op.HasField("request_txn"):
            # etcd gives a nested transaction an empty header.
            body = yield from _execute_steps(store, writer, next(nested))
            parts += _response(b"\x22", b"\x0a\x00", body)
        else:
            parts.append(b"\x1a\x00")
        yield
    return parts


def _inner_range_steps(store: Store, request: RangeRequest) -> Generator[None, None, Parts]:
    """A range that sees what its transaction has written before it."""
    head = store.head_revision
    main = request.revision if request.revision > 0 else head
    steps = range_at_steps(store, request.key, request.range_end, range_options(request), main, head)
    return (yield from range_part_steps((yield from steps)))


def _header(revision: int) -> bytes:
    """The header of an answer inside a transaction: the revision alone, that of the transaction once it has written."""
    encoded = varint(revision)
    return b"\x0a" + bytes((len(encoded) + 1,)) + b"\x18" + encoded


def _response(tag: bytes, header: bytes, body: Parts) -> Parts:
    """An element of `responses`: a ResponseOp with one field, which holds header and body."""
    size = len(header) + sum(map(len, body))
    head = tag + varint(size)
    return [b"\x1a" + varint(len(head) + size) + head + header, *body]
