"""What a transaction touches, those within it included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.proto import rpc_pb2

    Interval = tuple[bytes, bytes]
    """key and range_end."""


def written(request: rpc_pb2.TxnRequest) -> Iterator[Interval]:
    """Every range that one of its branches may write."""
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            yield operation.request_put.key, b""
        elif kind == "request_delete_range":
            yield operation.request_delete_range.key, operation.request_delete_range.range_end
        elif kind == "request_txn":
            yield from written(operation.request_txn)


def compared(request: rpc_pb2.TxnRequest) -> Iterator[Interval]:
    """Every range that it may look at to choose a branch."""
    yield from ((compare.key, compare.range_end) for compare in request.compare)
    for operation in (*request.success, *request.failure):
        if operation.HasField("request_txn"):
            yield from compared(operation.request_txn)
