"""Every unary call of etcd's services by name and types, and a call that is ready to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

Request = TypeVar("Request", bound="Message")
Answer = TypeVar("Answer", bound="Message")


class Method(Generic[Request, Answer]):
    """One method: its path on the wire, its messages, and whether it may be sent again after it may have arrived."""

    __slots__ = ("answer", "path", "repeatable", "request")

    def __init__(self, path: str, request: type[Request], answer: type[Answer], *, repeatable: bool = False) -> None:
        self.path = path
        self.request = request
        self.answer = answer
        self.repeatable = repeatable
        """As etcd's own client has it: what changes nothing, and what does no harm when it is done twice."""


class Call(Generic[Answer]):
    """A request with the method it is for."""

    __slots__ = ("method", "repeatable", "request", "timeout")

    def __init__(
        self,
        method: Method[Request, Answer],
        request: Request,
        timeout: float | None = None,
        *,
        repeatable: bool | None = None,
    ) -> None:
        """`timeout`: seconds for all attempts together; None: the client's. `repeatable` overrides the method's."""
        self.method = method
        self.request = request
        self.timeout = timeout
        self.repeatable = method.repeatable if repeatable is None else repeatable


_KV: Final = "/etcdserverpb.KV"
RANGE: Final = Method(f"{_KV}/Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse, repeatable=True)
RANGE_STREAM: Final = Method(f"{_KV}/RangeStream", rpc_pb2.RangeRequest, rpc_pb2.RangeStreamResponse)
PUT: Final = Method(f"{_KV}/Put", rpc_pb2.PutRequest, rpc_pb2.PutResponse)
DELETE_RANGE: Final = Method(f"{_KV}/DeleteRange", rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse)
TXN: Final = Method(f"{_KV}/Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse)
COMPACT: Final = Method(f"{_KV}/Compact", rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse)

WATCH: Final = Method("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, rpc_pb2.WatchResponse)

_LEASE: Final = "/etcdserverpb.Lease"
LEASE_GRANT: Final = Method(
    f"{_LEASE}/LeaseGrant", rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse, repeatable=True
)
LEASE_REVOKE: Final = Method(
    f"{_LEASE}/LeaseRevoke", rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse, repeatable=True
)
LEASE_KEEP_ALIVE: Final = Method(
    f"{_LEASE}/LeaseKeepAlive", rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse, repeatable=True
)
LEASE_TIME_TO_LIVE: Final = Method(
    f"{_LEASE}/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseTimeToLiveResponse, repeatable=True
)
LEASE_LEASES: Final = Method(
    f"{_LEASE}/LeaseLeases", rpc_pb2.LeaseLeasesRequest, rpc_pb2.LeaseLeasesResponse, repeatable=True
)

_CLUSTER: Final = "/etcdserverpb.Cluster"
MEMBER_ADD: Final = Method(f"{_CLUSTER}/MemberAdd", rpc_pb2.MemberAddRequest, rpc_pb2.MemberAddResponse)
MEMBER_REMOVE: Final = Method(f"{_CLUSTER}/MemberRemove", rpc_pb2.MemberRemoveRequest, rpc_pb2.MemberRemoveResponse)
MEMBER_UPDATE: Final = Method(f"{_CLUSTER}/MemberUpdate", rpc_pb2.MemberUpdateRequest, rpc_pb2.MemberUpdateResponse)
MEMBER_LIST: Final = Method(
    f"{_CLUSTER}/MemberList", rpc_pb2.MemberListRequest, rpc_pb2.MemberListResponse, repeatable=True
)
MEMBER_PROMOTE: Final = Method(f"{_CLUSTER}/MemberPromote", rpc_pb2.MemberPromoteRequest, rpc_pb2.MemberPromoteResponse)

_MAINTENANCE: Final = "/etcdserverpb.Maintenance"
ALARM: Final = Method(f"{_MAINTENANCE}/Alarm", rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse, repeatable=True)
STATUS: Final = Method(f"{_MAINTENANCE}/Status", rpc_pb2.StatusRequest, rpc_pb2.StatusResponse, repeatable=True)
DEFRAGMENT: Final = Method(f"{_MAINTENANCE}/Defragment", rpc_pb2.DefragmentRequest, rpc_pb2.DefragmentResponse)
HASH: Final = Method(f"{_MAINTENANCE}/Hash", rpc_pb2.HashRequest, rpc_pb2.HashResponse, repeatable=True)
HASH_KV: Final = Method(f"{_MAINTENANCE}/HashKV", rpc_pb2.HashKVRequest, rpc_pb2.HashKVResponse, repeatable=True)
SNAPSHOT: Final = Method(f"{_MAINTENANCE}/Snapshot", rpc_pb2.SnapshotRequest, rpc_pb2.SnapshotResponse, repeatable=True)
MOVE_LEADER: Final = Method(
    f"{_MAINTENANCE}/MoveLeader", rpc_pb2.MoveLeaderRequest, rpc_pb2.MoveLeaderResponse, repeatable=True
)
DOWNGRADE: Final = Method(f"{_MAINTENANCE}/Downgrade", rpc_pb2.DowngradeRequest, rpc_pb2.DowngradeResponse)

_AUTH: Final = "/etcdserverpb.Auth"
AUTH_ENABLE: Final = Method(f"{_AUTH}/AuthEnable", rpc_pb2.AuthEnableRequest, rpc_pb2.AuthEnableResponse)
AUTH_DISABLE: Final = Method(f"{_AUTH}/AuthDisable", rpc_pb2.AuthDisableRequest, rpc_pb2.AuthDisableResponse)
AUTH_STATUS: Final = Method(f"{_AUTH}/AuthStatus", rpc_pb2.AuthStatusRequest, rpc_pb2.AuthStatusResponse)
AUTHENTICATE: Final = Method(f"{_AUTH}/Authenticate", rpc_pb2.AuthenticateRequest, rpc_pb2.AuthenticateResponse)
USER_ADD: Final = Method(f"{_AUTH}/UserAdd", rpc_pb2.AuthUserAddRequest, rpc_pb2.AuthUserAddResponse)
USER_GET: Final = Method(f"{_AUTH}/UserGet", rpc_pb2.AuthUserGetRequest, rpc_pb2.AuthUserGetResponse, repeatable=True)
USER_LIST: Final = Method(
    f"{_AUTH}/UserList", rpc_pb2.AuthUserListRequest, rpc_pb2.AuthUserListResponse, repeatable=True
)
USER_DELETE: Final = Method(f"{_AUTH}/UserDelete", rpc_pb2.AuthUserDeleteRequest, rpc_pb2.AuthUserDeleteResponse)
USER_CHANGE_PASSWORD: Final = Method(
    f"{_AUTH}/UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest, rpc_pb2.AuthUserChangePasswordResponse
)
USER_GRANT_ROLE: Final = Method(
    f"{_AUTH}/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest, rpc_pb2.AuthUserGrantRoleResponse
)
USER_REVOKE_ROLE: Final = Method(
    f"{_AUTH}/UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest, rpc_pb2.AuthUserRevokeRoleResponse
)
ROLE_ADD: Final = Method(f"{_AUTH}/RoleAdd", rpc_pb2.AuthRoleAddRequest, rpc_pb2.AuthRoleAddResponse)
ROLE_GET: Final = Method(f"{_AUTH}/RoleGet", rpc_pb2.AuthRoleGetRequest, rpc_pb2.AuthRoleGetResponse, repeatable=True)
ROLE_LIST: Final = Method(
    f"{_AUTH}/RoleList", rpc_pb2.AuthRoleListRequest, rpc_pb2.AuthRoleListResponse, repeatable=True
)
ROLE_DELETE: Final = Method(f"{_AUTH}/RoleDelete", rpc_pb2.AuthRoleDeleteRequest, rpc_pb2.AuthRoleDeleteResponse)
ROLE_GRANT_PERMISSION: Final = Method(
    f"{_AUTH}/RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest, rpc_pb2.AuthRoleGrantPermissionResponse
)
ROLE_REVOKE_PERMISSION: Final = Method(
    f"{_AUTH}/RoleRevokePermission", rpc_pb2.AuthRoleRevokePermissionRequest, rpc_pb2.AuthRoleRevokePermissionResponse
)
