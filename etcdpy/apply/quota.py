"""--quota-backend-bytes: what a request may add to the store, by etcd's estimates, held against what there is.

It is asked twice, as on etcd. Before a proposal: then nothing happens at all. And when the request is applied: then it
takes effect all the same, since members may have different quotas and must not have different states, but is answered
with the error, and the alarm is raised that stops what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy.errors import NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from etcdpy.apply.proposal import Outcome, Steps
    from etcdpy.apply.restricted import Handlers
    from etcdpy.proto import rpc_pb2

PUT_BYTES: Final = 256
"""What a put costs beside its key and value. etcd's estimate."""

LEASE_BYTES: Final = 64
"""What a lease costs. etcd's estimate."""

_GROWING: Final = ("put", "txn", "lease_grant")


class OverQuota(NoSpace):
    """A request went beyond the quota and was applied all the same: the alarm is due."""


class Quota:
    """`size` tells the store's size in bytes, as Status shows it. A negative limit is none."""

    def __init__(self, limit_bytes: int, size: Callable[[], int]) -> None:
        self._limit = limit_bytes
        self._size = size

    def available(self, kind: str, request: Any) -> bool:
        """Whether there is room for the request; what adds nothing always finds room."""
        cost = cost_of(kind, request)
        return not cost or self._limit < 0 or self._size() + cost < self._limit

    def is_within(self, share_bytes: int) -> bool:
        """Whether less than so many bytes are left."""
        return 0 <= self._limit <= self._size() + share_bytes

    def is_below(self, share: float) -> bool:
        """Whether less than that share of the quota is used."""
        return self._limit < 0 or self._size() < share * self._limit


def cost_of(kind: str, request: Any) -> int:
    """The bytes that a request may add; 0 for a kind that adds nothing."""
    if kind == "put":
        return PUT_BYTES + len(request.key) + len(request.value)
    if kind == "txn":
        return _cost_of_txn(request)
    return LEASE_BYTES if kind == "lease_grant" else 0


def _cost_of_txn(request: rpc_pb2.TxnRequest) -> int:
    return max(_cost_of_branch(request.success), _cost_of_branch(request.failure))


def _cost_of_branch(operations: Iterable[rpc_pb2.RequestOp]) -> int:
    total = 0
    for operation in operations:
        if operation.HasField("request_put"):
            total += cost_of("put", operation.request_put)
        elif operation.HasField("request_txn"):
            total += _cost_of_txn(operation.request_txn)
    return total


def hold(base: Handlers, quota: Quota) -> Handlers:
    """The handlers, of which those that let the store grow raise OverQuota after they have done their work."""
    return {**base, **{kind: _held(kind, base[kind], quota) for kind in _GROWING}}


def _held(kind: str, apply: Callable[[Any], Outcome | Steps], quota: Quota) -> Callable[[Any], Outcome | Steps]:
    def held(request: Any) -> Outcome | Steps:
        available = quota.available(kind, request)
        outcome = apply(request)
        if available:
            return outcome
        if not isinstance(outcome, tuple):
            return _beyond_quota(outcome)
        raise OverQuota

    return held


def _beyond_quota(steps: Steps) -> Steps:
    """What takes slices, and is answered with the error after the last."""
    yield from steps
    raise OverQuota
