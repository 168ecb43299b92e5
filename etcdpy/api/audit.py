"""The audit log: who changed what, or tried to. One line of JSON for each mutating call and each call about users.

    {"time":"2026-01-02T03:04:05.678901Z","user":"ann","from":"10.0.0.7:41234","method":"/etcdserverpb.KV/Put",
     "keys":[{"op":"put","key":"a"}],"outcome":"OK"}

Never values, passwords or tokens: what a line holds is taken by name, nothing else of a request is looked at. Keys are
shown, or only their digests. The handlers of the method table are wrapped, so nothing is paid while there is no log.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from etcdpy import limits
from etcdpy.api.services import SERVICE_FILES
from etcdpy.api.stand_in import StandIn
from etcdpy.errors import Code, EtcdError
from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from etcdpy.transport.calls import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from google.protobuf.message import Message

    from etcdpy.transport.calls import Call, Method, StreamCall

DIGEST_CHARS: Final = 32

_GONE: Final = "Canceled"
"""The client left, or its deadline passed, before there was an answer. A second line says what came of it."""

_SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "KV.Put": ("lease",),
    "KV.DeleteRange": (),
    "KV.Txn": (),
    "KV.Compact": ("revision",),
    "Lease.LeaseGrant": ("ID", "TTL"),
    "Lease.LeaseRevoke": ("ID",),
    "Cluster.MemberAdd": ("peerURLs", "isLearner"),
    "Cluster.MemberRemove": ("ID",),
    "Cluster.MemberUpdate": ("ID", "peerURLs"),
    "Cluster.MemberPromote": ("ID",),
    "Maintenance.Alarm": ("action", "memberID", "alarm"),
    "Maintenance.Defragment": (),
    "Maintenance.MoveLeader": ("targetID",),
    "Maintenance.Downgrade": ("action", "version"),
    "Maintenance.Snapshot": (),
    "Auth.AuthEnable": (),
    "Auth.AuthDisable": (),
    "Auth.AuthStatus": (),
    "Auth.Authenticate": ("name",),
    "Auth.UserAdd": ("name",),
    "Auth.UserGet": ("name",),
    "Auth.UserList": (),
    "Auth.UserDelete": ("name",),
    "Auth.UserChangePassword": ("name",),
    "Auth.UserGrantRole": ("user", "role"),
    "Auth.UserRevokeRole": ("name", "role"),
    "Auth.RoleAdd": ("name",),
    "Auth.RoleGet": ("role",),
    "Auth.RoleList": (),
    "Auth.RoleDelete": ("role",),
    "Auth.RoleGrantPermission": ("name",),
    "Auth.RoleRevokePermission": ("role",),
    "Lock.Lock": ("lease",),
    "Lock.Unlock": (),
    "Election.Campaign": ("lease",),
    "Election.Proclaim": (),
    "Election.Resign": (),
}
"""Every call that is logged, and the fields of its request that are shown beside keys."""

_GRANTS: Final = {0: "grant read", 1: "grant write", 2: "grant readwrite"}
"""By authpb.Permission.Type."""


@dataclass(frozen=True, slots=True)
class AuditLog:
    """`write` takes a line and never waits. `name_of` says who calls; `clock` gives the wall clock's text."""

    write: Callable[[str], None]
    name_of: Callable[[Call], str]
    stamp: Callable[[], str]
    hash_keys: bool

    def wrap(self, methods: Mapping[bytes, Method]) -> None:
        """Log the calls of a method table that change something or concern users."""
        requests = _request_types()
        for method in methods.values():
            name = f"{method.service.rpartition('.')[2]}.{method.name}"
            if name not in _SHOWN:
                continue
            kind = requests[name]
            if method.kind is Kind.UNARY:
                method.handler = self._unary(method, method.handler, kind, _SHOWN[name])
            else:
                method.handler = self._stream(method, method.handler)

    def _unary(
        self, method: Method, handler: Callable[[Any, bytes], None], kind: type[Message], shown: tuple[str, ...]
    ) -> Callable[[Call, bytes], None]:
        def audited(call: Call, body: bytes) -> None:
            try:
                request = kind.FromString(body)
            except DecodeError:
                handler(call, body)  # it says what is wrong with it, and does nothing
                return
            if _only_reads(request):
                handler(call, body)
                return
            stand_in = _AuditedCall(call, self, {**self._who(call, method), **self._what(request, shown)})
            try:
                handler(stand_in, body)
            except EtcdError as error:
                stand_in.answered(error)
                raise
            except Exception:
                stand_in.note(Code.INTERNAL.label)
                raise

        return audited

    def _stream(
        self, method: Method, handler: Callable[[StreamCall], Awaitable[None]]
    ) -> Callable[[StreamCall], Awaitable[None]]:
        async def audited(call: StreamCall) -> None:
            line = self._who(call, method)
            outcome = _GONE
            try:
                await handler(call)
                outcome = Code.OK.label
            except EtcdError as error:
                outcome = error.code.label
                raise
            finally:
                self.note(line, outcome)

        return audited

    def _who(self, call: Call, method: Method) -> dict[str, Any]:
        return {
            "time": self.stamp(),
            "user": self.name_of(call),
            "from": call.peer.address,
            "method": f"/{method.service}/{method.name}",
        }

    def _what(self, request: Any, shown: tuple[str, ...]) -> dict[str, Any]:
        # Apart from who calls: a request may have a field of the same name.
        fields = {name: _plain(getattr(request, name)) for name in shown if getattr(request, name)}
        found: dict[str, Any] = {"request": fields} if fields else {}
        changes = list(islice(_changes(request), limits.AUDIT_KEYS_MAX + 1))
        keys = [
            {"op": verb, "key": self._show(key), **({"range_end": self._show(end)} if end else {})}
            for verb, key, end in changes[: limits.AUDIT_KEYS_MAX]
        ]
        if keys:
            found["keys"] = keys
        if len(changes) > len(keys):
            found["more_keys"] = True
        return found

    def _show(self, key: bytes) -> str:
        if self.hash_keys:
            return hashlib.sha256(key).hexdigest()[:DIGEST_CHARS]
        return key[: limits.AUDIT_KEY_BYTES_MAX].decode("utf-8", "backslashreplace")

    def note(self, line: dict[str, Any], outcome: str) -> None:
        """Write a line."""
        self.write(json.dumps({**line, "outcome": outcome}, separators=(",", ":")))


class _AuditedCall(StandIn):
    """A unary call whose outcome is logged, also that of a call that is gone: it may come to be all the same."""

    __slots__ = ("_audit", "_line")

    def __init__(self, call: Call, audit: AuditLog, line: dict[str, Any]) -> None:
        super().__init__(call)
        self._audit = audit
        self._line = line

    def answered(self, error: EtcdError | None) -> None:
        """See StandIn."""
        self.note(Code.OK.label if error is None else error.code.label)

    def note(self, outcome: str) -> None:
        """Log it."""
        self._audit.note(self._line, outcome)

    def on_gone(self) -> None:
        """See StandIn."""
        self.note(_GONE)
        super().on_gone()


def _request_types() -> dict[str, type[Message]]:
    return {
        f"{service}.{method.name}": getattr(file, method.input_type.name)
        for file in SERVICE_FILES
        for service, descriptor in file.DESCRIPTOR.services_by_name.items()
        for method in descriptor.methods
    }


def _only_reads(request: Message) -> bool:
    """Whether nothing can change. A transaction that is far too long to be allowed counts as one that writes."""
    if isinstance(request, rpc_pb2.TxnRequest):
        operations = list(islice(_operations(request), limits.AUDIT_OPERATIONS_MAX))
        changes = any(not operation.HasField("request_range") for operation in operations)
        return not changes and len(operations) < limits.AUDIT_OPERATIONS_MAX
    return isinstance(request, rpc_pb2.AlarmRequest) and request.action == rpc_pb2.AlarmRequest.GET


def _operations(request: rpc_pb2.TxnRequest) -> Iterator[rpc_pb2.RequestOp]:
    """The operations of both branches, those of nested transactions in their places."""
    for operation in chain(request.success, request.failure):
        if operation.HasField("request_txn"):
            yield from _operations(operation.request_txn)
        else:
            yield operation


def _changes(request: Any) -> Iterator[tuple[str, bytes, bytes]]:
    """What may be done to which key or range: verb, key, range end."""
    match request:
        case rpc_pb2.PutRequest():
            yield "put", request.key, b""
        case rpc_pb2.DeleteRangeRequest():
            yield "delete", request.key, request.range_end
        case rpc_pb2.TxnRequest():
            for operation in islice(_operations(request), limits.AUDIT_OPERATIONS_MAX):
                if operation.HasField("request_put"):
                    yield from _changes(operation.request_put)
                elif operation.HasField("request_delete_range"):
                    yield from _changes(operation.request_delete_range)
        case lock_pb2.LockRequest():
            yield "lock", request.name, b""
        case lock_pb2.UnlockRequest():
            yield "unlock", request.key, b""
        case election_pb2.CampaignRequest():
            yield "campaign", request.name, b""
        case election_pb2.ProclaimRequest():
            yield "proclaim", request.leader.key, b""
        case election_pb2.ResignRequest():
            yield "resign", request.leader.key, b""
        case rpc_pb2.AuthRoleGrantPermissionRequest():
            verb = _GRANTS.get(request.perm.permType, "grant")
            yield verb, request.perm.key, request.perm.range_end
        case rpc_pb2.AuthRoleRevokePermissionRequest():
            yield "revoke", request.key, request.range_end


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | bool) else list(value)
