"""What can be asked of a cluster: each function makes the call, and a client makes it happen.

`client.put("a", "b")` is `client.do(op.put("a", "b"))`. The same functions name the operations of a transaction:
`op.txn(when=[op.version("a") == 0], then=[op.put("a", "b")])`. Options have the names of the fields of etcd's messages;
answers are etcd's messages. `timeout` is seconds for all attempts together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from etcdpy.client import call
from etcdpy.client.call import Call
from etcdpy.client.keys import Key, as_bytes, key_range
from etcdpy.proto import auth_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Unpack


class RangeFields(TypedDict, total=False):
    """What a read may be told beside its keys; etcd's RangeRequest says what each field means."""

    limit: int
    revision: int
    sort_order: rpc_pb2.RangeRequest.SortOrder.ValueType
    sort_target: rpc_pb2.RangeRequest.SortTarget.ValueType
    serializable: bool
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int


class PutFields(TypedDict, total=False):
    """What a put may be told beside key and value; etcd's PutRequest says what each field means."""

    lease: int
    prev_kv: bool
    ignore_value: bool
    ignore_lease: bool


# --- keys ---


def get(
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    timeout: float | None = None,
    **fields: Unpack[RangeFields],
) -> Call[rpc_pb2.RangeResponse]:
    """Read a key, a range `[key, range_end)`, all keys that begin with `key`, or all from it on."""
    if range_end or prefix or from_key:
        start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
        return Call(call.RANGE, rpc_pb2.RangeRequest(key=start, range_end=end, **fields), timeout)
    return Call(call.RANGE, rpc_pb2.RangeRequest(key=as_bytes(key), **fields), timeout)


def put(
    key: Key, value: Key = b"", *, timeout: float | None = None, **fields: Unpack[PutFields]
) -> Call[rpc_pb2.PutResponse]:
    """Set a key."""
    return Call(call.PUT, rpc_pb2.PutRequest(key=as_bytes(key), value=as_bytes(value), **fields), timeout)


def delete(
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    prev_kv: bool = False,
    timeout: float | None = None,
) -> Call[rpc_pb2.DeleteRangeResponse]:
    """Delete a key, or the keys of a range as `get` understands it."""
    start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    request = rpc_pb2.DeleteRangeRequest(key=start, range_end=end, prev_kv=prev_kv)
    return Call(call.DELETE_RANGE, request, timeout)


def compact(revision: int, *, physical: bool = False, timeout: float | None = None) -> Call[rpc_pb2.CompactionResponse]:
    """Forget what was superseded at that revision; `physical`: answer when the space is free."""
    return Call(call.COMPACT, rpc_pb2.CompactionRequest(revision=revision, physical=physical), timeout)


# --- transactions ---


def txn(
    when: Iterable[rpc_pb2.Compare] = (),
    then: Iterable[Call[Any]] = (),
    otherwise: Iterable[Call[Any]] = (),
    *,
    timeout: float | None = None,
) -> Call[rpc_pb2.TxnResponse]:
    """Do `then` if all comparisons hold, `otherwise` if not, in one step. Operations may be transactions themselves.

    Raises TypeError for a call that cannot be part of a transaction.
    """
    request = rpc_pb2.TxnRequest(
        compare=when, success=[_request_op(part) for part in then], failure=[_request_op(part) for part in otherwise]
    )
    return Call(call.TXN, request, timeout)


def _request_op(part: Call[Any]) -> rpc_pb2.RequestOp:
    request = part.request
    if isinstance(request, rpc_pb2.RangeRequest):
        return rpc_pb2.RequestOp(request_range=request)
    if isinstance(request, rpc_pb2.PutRequest):
        return rpc_pb2.RequestOp(request_put=request)
    if isinstance(request, rpc_pb2.DeleteRangeRequest):
        return rpc_pb2.RequestOp(request_delete_range=request)
    if isinstance(request, rpc_pb2.TxnRequest):
        return rpc_pb2.RequestOp(request_txn=request)
    raise TypeError(f"{type(request).__name__} cannot be part of a transaction")


class Subject:
    """What a transaction compares: `version("a") == 0` is a comparison, and so are `!=`, `<` and `>`."""

    __slots__ = ("_end", "_field", "_key", "_target")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, target: str, field: str, key: Key, range_end: Key, *, prefix: bool) -> None:
        self._target = rpc_pb2.Compare.CompareTarget.Value(target)
        self._field = field
        self._key, self._end = key_range(key, range_end, prefix=prefix)

    def __eq__(self, other: object) -> rpc_pb2.Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.EQUAL, other)

    def __ne__(self, other: object) -> rpc_pb2.Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.NOT_EQUAL, other)

    def __lt__(self, other: Any) -> rpc_pb2.Compare:
        return self._compare(rpc_pb2.Compare.LESS, other)

    def __gt__(self, other: Any) -> rpc_pb2.Compare:
        return self._compare(rpc_pb2.Compare.GREATER, other)

    def _compare(self, result: rpc_pb2.Compare.CompareResult.ValueType, other: Any) -> rpc_pb2.Compare:
        compare = rpc_pb2.Compare(target=self._target, key=self._key, range_end=self._end, result=result)
        setattr(compare, self._field, as_bytes(other) if self._field == "value" else other)
        return compare


def value(key: Key, range_end: Key = b"", *, prefix: bool = False) -> Subject:
    """The value of a key, or of every key of a range; without the key no comparison with it holds."""
    return Subject("VALUE", "value", key, range_end, prefix=prefix)


def version(key: Key, range_end: Key = b"", *, prefix: bool = False) -> Subject:
    """How often the key was set since it was created; 0 where there is none."""
    return Subject("VERSION", "version", key, range_end, prefix=prefix)


def create_revision(key: Key, range_end: Key = b"", *, prefix: bool = False) -> Subject:
    """The revision that created the key; 0 where there is none."""
    return Subject("CREATE", "create_revision", key, range_end, prefix=prefix)


def mod_revision(key: Key, range_end: Key = b"", *, prefix: bool = False) -> Subject:
    """The revision that set the key last; 0 where there is none."""
    return Subject("MOD", "mod_revision", key, range_end, prefix=prefix)


def lease_of(key: Key, range_end: Key = b"", *, prefix: bool = False) -> Subject:
    """The id of the key's lease; 0 where it has none."""
    return Subject("LEASE", "lease", key, range_end, prefix=prefix)


# --- leases ---


def grant(ttl: int, lease_id: int = 0, *, timeout: float | None = None) -> Call[rpc_pb2.LeaseGrantResponse]:
    """A lease of `ttl` seconds; nobody keeps it alive. The server chooses an id where none is given."""
    return Call(call.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=ttl, ID=lease_id), timeout)


def revoke(lease_id: int, *, timeout: float | None = None) -> Call[rpc_pb2.LeaseRevokeResponse]:
    """End a lease, which deletes its keys."""
    return Call(call.LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=lease_id), timeout)


def time_to_live(
    lease_id: int, *, keys: bool = False, timeout: float | None = None
) -> Call[rpc_pb2.LeaseTimeToLiveResponse]:
    """What is left of a lease, in seconds, and its keys if asked for; TTL -1 where there is none."""
    return Call(call.LEASE_TIME_TO_LIVE, rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys), timeout)


def leases(*, timeout: float | None = None) -> Call[rpc_pb2.LeaseLeasesResponse]:
    """The ids of all leases."""
    return Call(call.LEASE_LEASES, rpc_pb2.LeaseLeasesRequest(), timeout)


# --- members ---


def member_list(*, linearizable: bool = True, timeout: float | None = None) -> Call[rpc_pb2.MemberListResponse]:
    """The members of the cluster."""
    return Call(call.MEMBER_LIST, rpc_pb2.MemberListRequest(linearizable=linearizable), timeout)


def member_add(
    peer_urls: Iterable[str], *, learner: bool = False, timeout: float | None = None
) -> Call[rpc_pb2.MemberAddResponse]:
    """Add a member, to be started afterwards; a learner has no vote until it is promoted."""
    return Call(call.MEMBER_ADD, rpc_pb2.MemberAddRequest(peerURLs=peer_urls, isLearner=learner), timeout)


def member_remove(member_id: int, *, timeout: float | None = None) -> Call[rpc_pb2.MemberRemoveResponse]:
    """Take a member out of the cluster."""
    return Call(call.MEMBER_REMOVE, rpc_pb2.MemberRemoveRequest(ID=member_id), timeout)


def member_update(
    member_id: int, peer_urls: Iterable[str], *, timeout: float | None = None
) -> Call[rpc_pb2.MemberUpdateResponse]:
    """Give a member other peer URLs."""
    return Call(call.MEMBER_UPDATE, rpc_pb2.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls), timeout)


def member_promote(member_id: int, *, timeout: float | None = None) -> Call[rpc_pb2.MemberPromoteResponse]:
    """Give a learner its vote."""
    return Call(call.MEMBER_PROMOTE, rpc_pb2.MemberPromoteRequest(ID=member_id), timeout)


# --- maintenance ---


def status(*, timeout: float | None = None) -> Call[rpc_pb2.StatusResponse]:
    """How the member is that answers; see `Client.at` for a certain one."""
    return Call(call.STATUS, rpc_pb2.StatusRequest(), timeout)


def alarms(*, timeout: float | None = None) -> Call[rpc_pb2.AlarmResponse]:
    """The alarms that are raised."""
    return Call(call.ALARM, rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET), timeout)


def disarm(
    member_id: int = 0,
    alarm: rpc_pb2.AlarmType.ValueType = rpc_pb2.NONE,
    *,
    timeout: float | None = None,
) -> Call[rpc_pb2.AlarmResponse]:
    """Take back an alarm of a member."""
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=alarm)
    return Call(call.ALARM, request, timeout)


def defragment(*, timeout: float | None = None) -> Call[rpc_pb2.DefragmentResponse]:
    """Give free space back to the file system, on the member that answers."""
    return Call(call.DEFRAGMENT, rpc_pb2.DefragmentRequest(), timeout)


def hash_kv(revision: int = 0, *, timeout: float | None = None) -> Call[rpc_pb2.HashKVResponse]:
    """The digest of all keys up to a revision; 0: the latest."""
    return Call(call.HASH_KV, rpc_pb2.HashKVRequest(revision=revision), timeout)


def move_leader(member_id: int, *, timeout: float | None = None) -> Call[rpc_pb2.MoveLeaderResponse]:
    """Hand the leadership over; only the leader can."""
    return Call(call.MOVE_LEADER, rpc_pb2.MoveLeaderRequest(targetID=member_id), timeout)


def downgrade(
    action: rpc_pb2.DowngradeRequest.DowngradeAction.ValueType, version: str = "", *, timeout: float | None = None
) -> Call[rpc_pb2.DowngradeResponse]:
    """Check, begin or cancel the way to the release before; `version` as in `3.6`."""
    return Call(call.DOWNGRADE, rpc_pb2.DowngradeRequest(action=action, version=version), timeout)


# --- users and roles ---


def auth_enable(*, timeout: float | None = None) -> Call[rpc_pb2.AuthEnableResponse]:
    """Switch users on; there must be a user `root` with the role `root`."""
    return Call(call.AUTH_ENABLE, rpc_pb2.AuthEnableRequest(), timeout)


def auth_disable(*, timeout: float | None = None) -> Call[rpc_pb2.AuthDisableResponse]:
    """Switch users off."""
    return Call(call.AUTH_DISABLE, rpc_pb2.AuthDisableRequest(), timeout)


def auth_status(*, timeout: float | None = None) -> Call[rpc_pb2.AuthStatusResponse]:
    """Whether users are on."""
    return Call(call.AUTH_STATUS, rpc_pb2.AuthStatusRequest(), timeout)


def authenticate(name: str, password: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthenticateResponse]:
    """Log in; a client that was given user and password does so by itself."""
    return Call(call.AUTHENTICATE, rpc_pb2.AuthenticateRequest(name=name, password=password), timeout)


def user_add(
    name: str, password: str = "", *, no_password: bool = False, timeout: float | None = None
) -> Call[rpc_pb2.AuthUserAddResponse]:
    """Make a user; `no_password`: one that only a client certificate can be."""
    options = auth_pb2.UserAddOptions(no_password=no_password)
    return Call(call.USER_ADD, rpc_pb2.AuthUserAddRequest(name=name, password=password, options=options), timeout)


def user_get(name: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthUserGetResponse]:
    """The roles of a user."""
    return Call(call.USER_GET, rpc_pb2.AuthUserGetRequest(name=name), timeout)


def user_list(*, timeout: float | None = None) -> Call[rpc_pb2.AuthUserListResponse]:
    """The names of all users."""
    return Call(call.USER_LIST, rpc_pb2.AuthUserListRequest(), timeout)


def user_delete(name: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthUserDeleteResponse]:
    """Delete a user."""
    return Call(call.USER_DELETE, rpc_pb2.AuthUserDeleteRequest(name=name), timeout)


def user_change_password(
    name: str, password: str, *, timeout: float | None = None
) -> Call[rpc_pb2.AuthUserChangePasswordResponse]:
    """Give a user another password; its tokens end."""
    return Call(call.USER_CHANGE_PASSWORD, rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password), timeout)


def user_grant_role(user: str, role: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthUserGrantRoleResponse]:
    """Give a user a role."""
    return Call(call.USER_GRANT_ROLE, rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role), timeout)


def user_revoke_role(name: str, role: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthUserRevokeRoleResponse]:
    """Take a role from a user."""
    return Call(call.USER_REVOKE_ROLE, rpc_pb2.AuthUserRevokeRoleRequest(name=name, role=role), timeout)


def role_add(name: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthRoleAddResponse]:
    """Make a role."""
    return Call(call.ROLE_ADD, rpc_pb2.AuthRoleAddRequest(name=name), timeout)


def role_get(role: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthRoleGetResponse]:
    """The permissions of a role."""
    return Call(call.ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role), timeout)


def role_list(*, timeout: float | None = None) -> Call[rpc_pb2.AuthRoleListResponse]:
    """The names of all roles."""
    return Call(call.ROLE_LIST, rpc_pb2.AuthRoleListRequest(), timeout)


def role_delete(role: str, *, timeout: float | None = None) -> Call[rpc_pb2.AuthRoleDeleteResponse]:
    """Delete a role, and take it from all users."""
    return Call(call.ROLE_DELETE, rpc_pb2.AuthRoleDeleteRequest(role=role), timeout)


def role_grant_permission(
    role: str,
    permission: auth_pb2.Permission.Type.ValueType,
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    timeout: float | None = None,
) -> Call[rpc_pb2.AuthRoleGrantPermissionResponse]:
    """Let a role read or write a key, or the keys of a range as `get` understands it."""
    start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    granted = auth_pb2.Permission(permType=permission, key=start, range_end=end)
    return Call(call.ROLE_GRANT_PERMISSION, rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=granted), timeout)


def role_revoke_permission(
    role: str,
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    timeout: float | None = None,
) -> Call[rpc_pb2.AuthRoleRevokePermissionResponse]:
    """Take back a permission; the range must be exactly one that was granted."""
    start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=start, range_end=end)
    return Call(call.ROLE_REVOKE_PERMISSION, request, timeout)
