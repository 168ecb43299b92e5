"""What an alarm forbids, laid over the table of handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from etcdpy.apply.quota import cost_of
from etcdpy.errors import Corrupt, NoSpace
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.apply.alarms import AlarmStore
    from etcdpy.apply.proposal import Outcome, Steps

    Handlers: TypeAlias = dict[str, Callable[[Any], Outcome | Steps]]

_KEYS_AND_LEASES = ("put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke")


def restrict(base: Handlers, alarms: AlarmStore) -> Handlers:
    """The handlers that are in force under the active alarms.

    NOSPACE on any member stops what makes the store grow; CORRUPT stops everything that concerns keys and leases.
    """
    handlers = dict(base)
    if alarms.get(rpc_pb2.NOSPACE):
        handlers["put"] = handlers["lease_grant"] = _no_space
        handlers["txn"] = _without_puts(base["txn"])
    if alarms.get(rpc_pb2.CORRUPT):
        for kind in _KEYS_AND_LEASES:
            handlers[kind] = _corrupt
    return handlers


def _no_space(_request: Any) -> Outcome:
    raise NoSpace


def _corrupt(_request: Any) -> Outcome:
    raise Corrupt


def _without_puts(apply_txn: Callable[[Any], Outcome | Steps]) -> Callable[[Any], Outcome | Steps]:
    def capped(request: rpc_pb2.TxnRequest) -> Outcome | Steps:
        if cost_of("txn", request):
            raise NoSpace
        return apply_txn(request)

    return capped
