"""Every error that a client can see: its class, its gRPC code and etcd's exact text.

Clients match on these texts, so each is etcd's to the letter. What only a bug can cause is an assertion instead.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """gRPC status codes, by their canonical numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def label(self) -> str:
        """The code as Go's gRPC prints it and as metrics label it: `InvalidArgument`, `OK`, `Canceled`."""
        return _LABELS[self]


_LABELS = {code: "OK" if code is Code.OK else code.name.title().replace("_", "") for code in Code}
_LABELS[Code.CANCELLED] = "Canceled"


class EtcdError(Exception):
    """An answer that is an error. Subclasses fix `code` and `message`; nothing else of them reaches the wire."""

    code: ClassVar[Code] = Code.UNKNOWN
    message: str = ""

    def __init__(self) -> None:
        super().__init__(self.message)


class StatusError(EtcdError):
    """A status that etcd's table does not name, such as those of the gRPC library itself."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code  # type: ignore[misc]
        self.message = message
        super().__init__()


class EmptyKey(EtcdError):
    """`etcdserver: key is not provided`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key is not provided"


class KeyNotFound(EtcdError):
    """`etcdserver: key not found`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key not found"


class ValueProvided(EtcdError):
    """`etcdserver: value is provided`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: value is provided"


class LeaseProvided(EtcdError):
    """`etcdserver: lease is provided`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: lease is provided"


class TooManyOps(EtcdError):
    """`etcdserver: too many operations in txn request`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: too many operations in txn request"


class DuplicateKey(EtcdError):
    """`etcdserver: duplicate key given in txn request`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: duplicate key given in txn request"


class InvalidClientApiVersion(EtcdError):
    """`etcdserver: invalid client api version`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid client api version"


class InvalidSortOption(EtcdError):
    """`etcdserver: invalid sort option`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid sort option"


class Compacted(EtcdError):
    """`etcdserver: mvcc: required revision has been compacted`"""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(EtcdError):
    """`etcdserver: mvcc: required revision is a future revision`"""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision is a future revision"


class NoSpace(EtcdError):
    """`etcdserver: mvcc: database space exceeded`"""

    code = Code.RESOURCE_EXHAUSTED
    message = "etcdserver: mvcc: database space exceeded"


class LeaseNotFound(EtcdError):
    """`etcdserver: requested lease not found`"""

    code = Code.NOT_FOUND
    message = "etcdserver: requested lease not found"


class LeaseExists(EtcdError):
    """`etcdserver: lease already exists`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: lease already exists"


class LeaseTtlTooLarge(EtcdError):
    """`etcdserver: too large lease TTL`"""

    code = Code.OUT_OF_RANGE
    message = "etcdserver: too large lease TTL"


class WatchCanceled(EtcdError):
    """`etcdserver: watch canceled`"""

    code = Code.CANCELLED
    message = "etcdserver: watch canceled"


class MemberExists(EtcdError):
    """`etcdserver: member ID already exist`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: member ID already exist"


class PeerUrlExists(EtcdError):
    """`etcdserver: Peer URLs already exists`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: Peer URLs already exists"


class MemberNotEnoughStarted(EtcdError):
    """Quirk kept: etcd's table says FailedPrecondition, its wire says Unknown; retrying clients go by the wire."""

    code = Code.UNKNOWN
    message = "etcdserver: re-configuration failed due to not enough started members"


class MemberBadUrls(EtcdError):
    """`etcdserver: given member URLs are invalid`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: given member URLs are invalid"


class MemberNotFound(EtcdError):
    """`etcdserver: member not found`"""

    code = Code.NOT_FOUND
    message = "etcdserver: member not found"


class MemberNotLearner(EtcdError):
    """`etcdserver: can only promote a learner member`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member"


class LearnerNotReady(EtcdError):
    """`etcdserver: can only promote a learner member which is in sync with leader`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(EtcdError):
    """`etcdserver: too many learner members in cluster`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: too many learner members in cluster"


class ClusterIdMismatch(EtcdError):
    """`etcdserver: cluster ID mismatch`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster ID mismatch"


class RequestTooLarge(EtcdError):
    """`etcdserver: request is too large`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: request is too large"


class ClientRateExceeded(EtcdError):
    """A user or client asks too often a second. etcd has no such limit; the text is ours."""

    code = Code.RESOURCE_EXHAUSTED
    message = "etcdpy: too many requests a second from this user or client"


class WatchRateExceeded(EtcdError):
    """A user or client begins too many watches a second. etcd has no such limit; the text is ours."""

    code = Code.RESOURCE_EXHAUSTED
    message = "etcdpy: too many watches a second from this user or client"


class TooManyRequests(EtcdError):
    """Quirk kept: travels as Unknown, although etcd's table says ResourceExhausted."""

    code = Code.UNKNOWN
    message = "etcdserver: too many requests"


class RootUserNotFound(EtcdError):
    """`etcdserver: root user does not exist`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not exist"


class RootRoleNotFound(EtcdError):
    """`etcdserver: root user does not have root role`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not have root role"


class UserExists(EtcdError):
    """`etcdserver: user name already exists`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name already exists"


class UserEmpty(EtcdError):
    """`etcdserver: user name is empty`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: user name is empty"


class UserNotFound(EtcdError):
    """`etcdserver: user name not found`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name not found"


class RoleExists(EtcdError):
    """`etcdserver: role name already exists`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name already exists"


class RoleNotFound(EtcdError):
    """`etcdserver: role name not found`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name not found"


class RoleEmpty(EtcdError):
    """`etcdserver: role name is empty`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: role name is empty"


class AuthFailed(EtcdError):
    """`etcdserver: authentication failed, invalid user ID or password`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGiven(EtcdError):
    """`etcdserver: permission not given`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: permission not given"


class PermissionDenied(EtcdError):
    """`etcdserver: permission denied`"""

    code = Code.PERMISSION_DENIED
    message = "etcdserver: permission denied"


class RoleNotGranted(EtcdError):
    """`etcdserver: role is not granted to the user`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role is not granted to the user"


class PermissionNotGranted(EtcdError):
    """`etcdserver: permission is not granted to the role`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: permission is not granted to the role"


class AuthNotEnabled(EtcdError):
    """`etcdserver: authentication is not enabled`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: authentication is not enabled"


class InvalidAuthToken(EtcdError):
    """`etcdserver: invalid auth token`"""

    code = Code.UNAUTHENTICATED
    message = "etcdserver: invalid auth token"


class InvalidAuthManagement(EtcdError):
    """`etcdserver: invalid auth management`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid auth management"


class AuthOldRevision(EtcdError):
    """`etcdserver: revision of auth store is old`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: revision of auth store is old"


class NoLeader(EtcdError):
    """`etcdserver: no leader`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: no leader"


class NotLeader(EtcdError):
    """`etcdserver: not leader`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not leader"


class LeaderChanged(EtcdError):
    """`etcdserver: leader changed`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: leader changed"


class NotCapable(EtcdError):
    """`etcdserver: not capable`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not capable"


class Stopped(EtcdError):
    """`etcdserver: server stopped`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: server stopped"


class Timeout(EtcdError):
    """`etcdserver: request timed out`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out"


class TimeoutLeaderFailed(EtcdError):
    """`etcdserver: request timed out, possibly due to previous leader failure`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to previous leader failure"


class TimeoutConnectionLost(EtcdError):
    """`etcdserver: request timed out, possibly due to connection lost`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to connection lost"


class TimeoutAppliedIndex(EtcdError):
    """`etcdserver: request timed out, waiting for the applied index took too long`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, waiting for the applied index took too long"


class Unhealthy(EtcdError):
    """`etcdserver: unhealthy cluster`"""

    code = Code.UNAVAILABLE
    message = "etcdserver: unhealthy cluster"


class Corrupt(EtcdError):
    """`etcdserver: corrupt cluster`"""

    code = Code.DATA_LOSS
    message = "etcdserver: corrupt cluster"


class NotSupportedForLearner(EtcdError):
    """`etcdserver: rpc not supported for learner`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: rpc not supported for learner"


class BadLeaderTransferee(EtcdError):
    """`etcdserver: bad leader transferee`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: bad leader transferee"


class WrongDowngradeVersionFormat(EtcdError):
    """`etcdserver: wrong downgrade target version format`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTarget(EtcdError):
    """`etcdserver: invalid downgrade target version`"""

    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid downgrade target version"


class ClusterVersionUnavailable(EtcdError):
    """`etcdserver: cluster version not found during downgrade`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster version not found during downgrade"


class DowngradeInProgress(EtcdError):
    """`etcdserver: cluster has a downgrade job in progress`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster has a downgrade job in progress"


class NoInflightDowngrade(EtcdError):
    """`etcdserver: no inflight downgrade job`"""

    code = Code.FAILED_PRECONDITION
    message = "etcdserver: no inflight downgrade job"


class RequestCanceled(EtcdError):
    """`etcdserver: request canceled`"""

    code = Code.CANCELLED
    message = "etcdserver: request canceled"


class DeadlineExceeded(EtcdError):
    """`etcdserver: context deadline exceeded`"""

    code = Code.DEADLINE_EXCEEDED
    message = "etcdserver: context deadline exceeded"


class NeverProposed(EtcdError):
    """Quirk kept: what no leader took before the request timeout ends with the bare text of Go's context."""

    code = Code.DEADLINE_EXCEEDED
    message = "context deadline exceeded"


class LeaderTransferTimeout(EtcdError):
    """Quirk kept: travels as Unknown, since etcd's server has no code for it."""

    code = Code.UNKNOWN
    message = "etcdserver: request timed out, leader transfer took too long"


class UnknownMethod(EtcdError):
    """`etcdserver: unknown method`, for an action that a request's enum does not name."""

    code = Code.UNKNOWN
    message = "etcdserver: unknown method"


class NoPasswordUser(EtcdError):
    """Quirk kept: travels as Unknown, since etcd's server has no code for it."""

    code = Code.UNKNOWN
    message = "auth: authentication failed, password was given for no password user"


class VerifyOnly(EtcdError):
    """`auth: token signing attempted with verify-only key`. Quirk kept: travels as Unknown."""

    code = Code.UNKNOWN
    message = "auth: token signing attempted with verify-only key"


class PasswordTooLong(EtcdError):
    """Quirk kept: the text of Go's bcrypt, which takes 72 bytes."""

    code = Code.UNKNOWN
    message = "bcrypt: password length exceeds 72 bytes"
