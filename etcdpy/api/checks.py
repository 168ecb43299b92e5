"""What is wrong with a request before anyone looks at the store: etcd's checks, in etcd's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from etcdpy import work_limits
from etcdpy.errors import (
    Code,
    DuplicateKey,
    EmptyKey,
    InvalidSortOption,
    KeyNotFound,
    LeaseProvided,
    StatusError,
    TooManyOps,
    ValueProvided,
)
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)

_SORT_ORDERS = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(rpc_pb2.RangeRequest.SortTarget.values())


def parse(kind: type[M], body: bytes) -> M:
    """The message in `body`. Raises StatusError (Internal, as gRPC's own libraries answer) when it is none."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise not_a_message() from error


def not_a_message() -> StatusError:
    """The answer to a body that is no message of the method's kind."""
    return StatusError(Code.INTERNAL, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raises EmptyKey or InvalidSortOption."""
    if not request.key:
        raise EmptyKey
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise InvalidSortOption


def check_range_stream(request: rpc_pb2.RangeRequest) -> None:
    """As `check_range`; a stream moreover knows neither custom orders nor revision filters."""
    check_range(request)
    order, target = request.sort_order, request.sort_target
    natural = target == rpc_pb2.RangeRequest.KEY and order == rpc_pb2.RangeRequest.ASCEND
    if order != rpc_pb2.RangeRequest.NONE and not natural:
        raise StatusError(Code.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
    if (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        raise StatusError(Code.UNIMPLEMENTED, "RangeStream does not support revision filters")


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raises EmptyKey, ValueProvided or LeaseProvided."""
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises EmptyKey."""
    if not request.key:
        raise EmptyKey


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    """The whole transaction, nested ones included: sizes, each operation, and keys written twice.

    etcd bounds each list and the depth; all lists together are bounded here as well, because short lists of short lists
    make a request of 240 KB take 50 ms to check.

    Raises TooManyOps, EmptyKey, KeyNotFound (an operation without a request), DuplicateKey, or what a single
    operation's check raises.
    """
    _check_operations(request, max_ops, _Allowance(max_ops * work_limits.TXN_OPS_TOTAL_FACTOR))
    _written(request.success)
    _written(request.failure)


class _Allowance:
    """How many comparisons and operations all of a transaction may still have."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """Raises TooManyOps."""
        self._left -= count
        if self._left < 0:
            raise TooManyOps


def _check_operations(request: rpc_pb2.TxnRequest, max_ops: int, allowance: _Allowance) -> None:
    sizes = len(request.compare), len(request.success), len(request.failure)
    longest = max(sizes)
    if longest > max_ops:
        raise TooManyOps
    allowance.take(sum(sizes))
    for compare in request.compare:
        if not compare.key:
            raise EmptyKey
    for branch in (request.success, request.failure):
        for operation in branch:
            _check_operation(operation, max_ops - longest, allowance)


def _check_operation(operation: rpc_pb2.RequestOp, max_ops: int, allowance: _Allowance) -> None:
    match operation.WhichOneof("request"):
        case "request_range":
            check_range(operation.request_range)
        case "request_put":
            check_put(operation.request_put)
        case "request_delete_range":
            check_delete(operation.request_delete_range)
        case "request_txn":
            _check_operations(operation.request_txn, max_ops, allowance)
        case _:
            raise KeyNotFound


class _Deletes:
    """The ranges that a branch deletes. Branches are short (--max-txn-ops), so a list will do."""

    def __init__(self) -> None:
        self.ranges: list[tuple[bytes, bytes]] = []

    def add(self, request: rpc_pb2.DeleteRangeRequest) -> None:
        self.ranges.append((request.key, request.range_end or request.key + b"\0"))

    def cover(self, key: bytes) -> bool:
        # As on etcd a deletion "from key on" (range end "\0") covers nothing here: its interval is taken literally.
        return any(start <= key < end for start, end in self.ranges)


def _written(operations: Iterable[rpc_pb2.RequestOp]) -> tuple[set[bytes], _Deletes]:
    """The keys put and the ranges deleted by one branch. Raises DuplicateKey when a key would be written twice.

    The two branches of a nested transaction exclude each other, so they may write the same key.
    """
    deletes, puts = _Deletes(), set[bytes]()
    operations = list(operations)
    for operation in operations:
        if operation.HasField("request_delete_range"):
            deletes.add(operation.request_delete_range)
    for operation in operations:
        if operation.HasField("request_txn"):
            _merge_nested(operation.request_txn, puts, deletes)
    for operation in operations:
        if operation.HasField("request_put"):
            key = operation.request_put.key
            if key in puts or deletes.cover(key):
                raise DuplicateKey
            puts.add(key)
    return puts, deletes


def _merge_nested(request: rpc_pb2.TxnRequest, puts: set[bytes], deletes: _Deletes) -> None:
    puts_then, deletes_then = _written(request.success)
    puts_else, deletes_else = _written(request.failure)
    for key in sorted(puts_then | puts_else):
        if key in puts or deletes.cover(key):
            raise DuplicateKey
    puts |= puts_then | puts_else
    deletes.ranges += deletes_then.ranges + deletes_else.ranges
