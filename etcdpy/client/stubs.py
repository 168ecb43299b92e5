"""One typed stub a gRPC service, built from the service descriptors.

The generated message modules carry the services' descriptors; what protoc's gRPC plugin would write beside them is a
few lines of code here. A class declares its calls for type checkers, and a test holds the declarations to the
descriptors. Calls keep the names they have on the wire, as in every gRPC stub: `KV(channel).Range(request, timeout=1)`.

A failed call raises `grpc.RpcError`; `error.code()` and `error.details()` are etcd's code and text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf import descriptor_pool, message_factory

# Needed at run time as well: these imports register the services in the descriptor pool.
from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2  # noqa: TC001

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import MethodDescriptor
    from grpc import StreamStreamMultiCallable as StreamStream
    from grpc import UnaryStreamMultiCallable as UnaryStream
    from grpc import UnaryUnaryMultiCallable as UnaryUnary


class Stub:
    """The calls of one service on one channel; subclasses name the service and declare the calls."""

    service: ClassVar[str] = ""
    """The service's full name, such as `etcdserverpb.KV`."""

    def __init_subclass__(cls, service: str) -> None:
        cls.service = service

    def __init__(self, channel: grpc.Channel) -> None:
        descriptor = descriptor_pool.Default().FindServiceByName(self.service)
        for method in descriptor.methods:
            setattr(self, method.name, _callable(channel, self.service, method))


def _callable(channel: grpc.Channel, service: str, method: MethodDescriptor) -> Any:
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    return make(
        f"/{service}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )


class KV(Stub, service="etcdserverpb.KV"):
    """`etcdserverpb.KV`."""

    Range: UnaryUnary[rpc_pb2.RangeRequest, rpc_pb2.RangeResponse]
    RangeStream: UnaryStream[rpc_pb2.RangeRequest, rpc_pb2.RangeStreamResponse]
    Put: UnaryUnary[rpc_pb2.PutRequest, rpc_pb2.PutResponse]
    DeleteRange: UnaryUnary[rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse]
    Txn: UnaryUnary[rpc_pb2.TxnRequest, rpc_pb2.TxnResponse]
    Compact: UnaryUnary[rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse]


class Watch(Stub, service="etcdserverpb.Watch"):
    """`etcdserverpb.Watch`."""

    Watch: StreamStream[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


class Lease(Stub, service="etcdserverpb.Lease"):
    """`etcdserverpb.Lease`."""

    LeaseGrant: UnaryUnary[rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse]
    LeaseRevoke: UnaryUnary[rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse]
    LeaseKeepAlive: StreamStream[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse]
    LeaseTimeToLive: UnaryUnary[rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseTimeToLiveResponse]
    LeaseLeases: UnaryUnary[rpc_pb2.LeaseLeasesRequest, rpc_pb2.LeaseLeasesResponse]


class Cluster(Stub, service="etcdserverpb.Cluster"):
    """`etcdserverpb.Cluster`."""

    MemberAdd: UnaryUnary[rpc_pb2.MemberAddRequest, rpc_pb2.MemberAddResponse]
    MemberRemove: UnaryUnary[rpc_pb2.MemberRemoveRequest, rpc_pb2.MemberRemoveResponse]
    MemberUpdate: UnaryUnary[rpc_pb2.MemberUpdateRequest, rpc_pb2.MemberUpdateResponse]
    MemberList: UnaryUnary[rpc_pb2.MemberListRequest, rpc_pb2.MemberListResponse]
    MemberPromote: UnaryUnary[rpc_pb2.MemberPromoteRequest, rpc_pb2.MemberPromoteResponse]


class Maintenance(Stub, service="etcdserverpb.Maintenance"):
    """`etcdserverpb.Maintenance`."""

    Alarm: UnaryUnary[rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse]
    Status: UnaryUnary[rpc_pb2.StatusRequest, rpc_pb2.StatusResponse]
    Defragment: UnaryUnary[rpc_pb2.DefragmentRequest, rpc_pb2.DefragmentResponse]
    Hash: UnaryUnary[rpc_pb2.HashRequest, rpc_pb2.HashResponse]
    HashKV: UnaryUnary[rpc_pb2.HashKVRequest, rpc_pb2.HashKVResponse]
    Snapshot: UnaryStream[rpc_pb2.SnapshotRequest, rpc_pb2.SnapshotResponse]
    MoveLeader: UnaryUnary[rpc_pb2.MoveLeaderRequest, rpc_pb2.MoveLeaderResponse]
    Downgrade: UnaryUnary[rpc_pb2.DowngradeRequest, rpc_pb2.DowngradeResponse]


class Auth(Stub, service="etcdserverpb.Auth"):
    """`etcdserverpb.Auth`."""

    AuthEnable: UnaryUnary[rpc_pb2.AuthEnableRequest, rpc_pb2.AuthEnableResponse]
    AuthDisable: UnaryUnary[rpc_pb2.AuthDisableRequest, rpc_pb2.AuthDisableResponse]
    AuthStatus: UnaryUnary[rpc_pb2.AuthStatusRequest, rpc_pb2.AuthStatusResponse]
    Authenticate: UnaryUnary[rpc_pb2.AuthenticateRequest, rpc_pb2.AuthenticateResponse]
    UserAdd: UnaryUnary[rpc_pb2.AuthUserAddRequest, rpc_pb2.AuthUserAddResponse]
    UserGet: UnaryUnary[rpc_pb2.AuthUserGetRequest, rpc_pb2.AuthUserGetResponse]
    UserList: UnaryUnary[rpc_pb2.AuthUserListRequest, rpc_pb2.AuthUserListResponse]
    UserDelete: UnaryUnary[rpc_pb2.AuthUserDeleteRequest, rpc_pb2.AuthUserDeleteResponse]
    UserChangePassword: UnaryUnary[rpc_pb2.AuthUserChangePasswordRequest, rpc_pb2.AuthUserChangePasswordResponse]
    UserGrantRole: UnaryUnary[rpc_pb2.AuthUserGrantRoleRequest, rpc_pb2.AuthUserGrantRoleResponse]
    UserRevokeRole: UnaryUnary[rpc_pb2.AuthUserRevokeRoleRequest, rpc_pb2.AuthUserRevokeRoleResponse]
    RoleAdd: UnaryUnary[rpc_pb2.AuthRoleAddRequest, rpc_pb2.AuthRoleAddResponse]
    RoleGet: UnaryUnary[rpc_pb2.AuthRoleGetRequest, rpc_pb2.AuthRoleGetResponse]
    RoleList: UnaryUnary[rpc_pb2.AuthRoleListRequest, rpc_pb2.AuthRoleListResponse]
    RoleDelete: UnaryUnary[rpc_pb2.AuthRoleDeleteRequest, rpc_pb2.AuthRoleDeleteResponse]
    RoleGrantPermission: UnaryUnary[rpc_pb2.AuthRoleGrantPermissionRequest, rpc_pb2.AuthRoleGrantPermissionResponse]
    RoleRevokePermission: UnaryUnary[rpc_pb2.AuthRoleRevokePermissionRequest, rpc_pb2.AuthRoleRevokePermissionResponse]


class Lock(Stub, service="v3lockpb.Lock"):
    """`v3lockpb.Lock`."""

    Lock: UnaryUnary[lock_pb2.LockRequest, lock_pb2.LockResponse]
    Unlock: UnaryUnary[lock_pb2.UnlockRequest, lock_pb2.UnlockResponse]


class Election(Stub, service="v3electionpb.Election"):
    """`v3electionpb.Election`."""

    Campaign: UnaryUnary[election_pb2.CampaignRequest, election_pb2.CampaignResponse]
    Proclaim: UnaryUnary[election_pb2.ProclaimRequest, election_pb2.ProclaimResponse]
    Leader: UnaryUnary[election_pb2.LeaderRequest, election_pb2.LeaderResponse]
    Observe: UnaryStream[election_pb2.LeaderRequest, election_pb2.LeaderResponse]
    Resign: UnaryUnary[election_pb2.ResignRequest, election_pb2.ResignResponse]
