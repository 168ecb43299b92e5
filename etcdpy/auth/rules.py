"""What each request needs. Asked where it is applied, and where it is read; with users switched off nobody asks.

A request is judged by the whole of what it may touch: a transaction by every compare and both branches, a put that
shows what was there before by a read too, and one with a lease by all keys of that lease, since it goes with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy.auth.store import ROOT
from etcdpy.errors import AuthOldRevision, PermissionDenied, UserEmpty, UserNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.auth.identity import Identity
    from etcdpy.auth.store import AuthStore, Rights
    from etcdpy.proto import rpc_pb2


class LeaseKeys(Protocol):
    """The lessor, as far as the rules need it."""

    def keys_of(self, lease_id: int) -> Iterable[bytes]:
        """The keys attached to a lease; none when there is no such lease. Whichever is forbidden, the answer is one."""
        ...


def rights(store: AuthStore, who: Identity) -> Rights:
    """What who calls may do. Raises UserEmpty (nobody), AuthOldRevision, PermissionDenied (no such user)."""
    if not who.revision:
        raise UserEmpty
    if who.revision < store.revision:
        raise AuthOldRevision
    found = store.rights_of(who.name)
    if found is None:
        raise PermissionDenied
    return found


def check_read(store: AuthStore, who: Identity, key: bytes, range_end: bytes = b"") -> None:
    """Raises as `rights`, and PermissionDenied."""
    found = rights(store, who)
    if not found.is_root and not found.read.covers_range(key, range_end):
        raise PermissionDenied


def check_write(store: AuthStore, who: Identity, key: bytes, range_end: bytes = b"") -> None:
    """Raises as `check_read`."""
    found = rights(store, who)
    if not found.is_root and not found.write.covers_range(key, range_end):
        raise PermissionDenied


def check_admin(store: AuthStore, who: Identity) -> None:
    """Raises UserEmpty, UserNotFound, PermissionDenied. Quirk kept: the revision does not matter here."""
    if not who.name:
        raise UserEmpty
    if not store.exists(who.name):
        raise UserNotFound
    if not store.holds_role(who.name, ROOT):
        raise PermissionDenied


def may_administer(store: AuthStore, who: Identity) -> bool:
    """Whether `check_admin` lets who calls pass."""
    return store.holds_role(who.name, ROOT)


def check_put(store: AuthStore, leases: LeaseKeys, who: Identity, request: rpc_pb2.PutRequest) -> None:
    """Who may not write all keys of a lease could not revoke it, so may not attach another key to it either."""
    check_write(store, who, request.key)
    if request.lease:
        check_lease_write(store, leases, who, request.lease)
    if request.prev_kv:
        check_read(store, who, request.key)


def check_lease_write(store: AuthStore, leases: LeaseKeys, who: Identity, lease_id: int) -> None:
    """Whether who calls may write every key of a lease."""
    if may_administer(store, who):
        return
    for key in leases.keys_of(lease_id):
        check_write(store, who, key)


def check_lease_read(store: AuthStore, leases: LeaseKeys, who: Identity, lease_id: int) -> None:
    """Whether who calls may read every key of a lease."""
    if may_administer(store, who):
        return
    for key in leases.keys_of(lease_id):
        check_read(store, who, key)


def check_delete(store: AuthStore, who: Identity, request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises as `check_read`."""
    check_write(store, who, request.key, request.range_end)
    if request.prev_kv:
        check_read(store, who, request.key, request.range_end)


def check_txn(store: AuthStore, leases: LeaseKeys, who: Identity, request: rpc_pb2.TxnRequest) -> None:
    """Every compare needs a read, every operation its own right, whichever branch it stands in and however deep."""
    for compare in request.compare:
        check_read(store, who, compare.key, compare.range_end)
    for branch in (request.success, request.failure):
        for operation in branch:
            _check_operation(store, leases, who, operation)


def _check_operation(store: AuthStore, leases: LeaseKeys, who: Identity, operation: rpc_pb2.RequestOp) -> None:
    match operation.WhichOneof("request"):
        case "request_range":
            check_read(store, who, operation.request_range.key, operation.request_range.range_end)
        case "request_put":
            check_put(store, leases, who, operation.request_put)
        case "request_delete_range":
            check_delete(store, who, operation.request_delete_range)
        case "request_txn":
            check_txn(store, leases, who, operation.request_txn)
