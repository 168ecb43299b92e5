"""etcdserverpb.Auth: users and roles, through the log; passwords stop here.

A password is hashed before its request is proposed, and compared before a login is, on a thread of its own: neither
the log nor another member ever sees one.
"""

from __future__ import annotations

import base64
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy.api.checks import parse
from etcdpy.api.proposals import Waiting
from etcdpy.errors import AuthFailed, AuthNotEnabled, EtcdError
from etcdpy.proto import raft_internal_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from google.protobuf.message import Message

    from etcdpy.api.cluster import LinearizableReads
    from etcdpy.api.header import HeaderSource
    from etcdpy.api.proposals import Proposer
    from etcdpy.auth.store import AuthStore
    from etcdpy.transport.calls import Call

logger = logging.getLogger("etcdpy.auth")

_AS_THEY_COME: Final[dict[str, tuple[str, type[Message]]]] = {
    "AuthEnable": ("auth_enable", rpc_pb2.AuthEnableRequest),
    "AuthDisable": ("auth_disable", rpc_pb2.AuthDisableRequest),
    "AuthStatus": ("auth_status", rpc_pb2.AuthStatusRequest),
    "UserGet": ("auth_user_get", rpc_pb2.AuthUserGetRequest),
    "UserList": ("auth_user_list", rpc_pb2.AuthUserListRequest),
    "UserDelete": ("auth_user_delete", rpc_pb2.AuthUserDeleteRequest),
    "UserGrantRole": ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest),
    "UserRevokeRole": ("auth_user_revoke_role", rpc_pb2.AuthUserRevokeRoleRequest),
    "RoleAdd": ("auth_role_add", rpc_pb2.AuthRoleAddRequest),
    "RoleGet": ("auth_role_get", rpc_pb2.AuthRoleGetRequest),
    "RoleList": ("auth_role_list", rpc_pb2.AuthRoleListRequest),
    "RoleDelete": ("auth_role_delete", rpc_pb2.AuthRoleDeleteRequest),
    "RoleGrantPermission": ("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionRequest),
    "RoleRevokePermission": ("auth_role_revoke_permission", rpc_pb2.AuthRoleRevokePermissionRequest),
}
"""Methods whose request goes into the log as the client sent it: the kind of entry, and the message."""


class Passwords(Protocol):
    """bcrypt, away from the loop."""

    async def hash(self, password: str) -> bytes:
        """A new hash. Raises PasswordTooLong, TooManyRequests."""
        ...

    async def matches(self, password: str, hashed: bytes | None) -> bool:
        """Whether a hash is that of the password. Without a hash: no, after the time that finding out would take.

        Raises TooManyRequests.
        """
        ...


class AuthService:
    """`random` is one for secrets; `wall_clock` gives seconds since 1970."""

    def __init__(
        self,
        store: AuthStore,
        proposer: Proposer,
        reads: LinearizableReads,
        passwords: Passwords,
        header: HeaderSource,
        *,
        random: Random,
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._proposer = proposer
        self._reads = reads
        self._passwords = passwords
        self._header = header
        self._random = random
        self._wall_clock = wall_clock

    def handlers(self) -> dict[str, Callable[[Call, bytes], None]]:
        """The methods that need nothing but their way through the log, by name."""
        return {name: partial(self._propose, kind, message) for name, (kind, message) in _AS_THEY_COME.items()}

    def _propose(self, kind: str, message: type[Message], call: Call, body: bytes) -> None:
        request = parse(message, body)
        self._proposer.propose(Waiting(kind, request, self._proposer.encode(kind, body), call, self._header))

    async def user_add(self, call: Call, body: bytes) -> None:
        """Auth.UserAdd."""
        request = parse(rpc_pb2.AuthUserAddRequest, body)
        if not request.options.no_password:
            request.hashedPassword = await self._hashed(request.password)
        request.ClearField("password")
        self._propose("auth_user_add", type(request), call, request.SerializeToString())

    async def user_change_password(self, call: Call, body: bytes) -> None:
        """Auth.UserChangePassword."""
        request = parse(rpc_pb2.AuthUserChangePasswordRequest, body)
        if request.password:
            request.hashedPassword = await self._hashed(request.password)
        request.ClearField("password")
        self._propose("auth_user_change_password", type(request), call, request.SerializeToString())

    async def _hashed(self, password: str) -> str:
        return base64.b64encode(await self._passwords.hash(password)).decode()

    async def authenticate(self, call: Call, body: bytes) -> None:
        """Auth.Authenticate: a token for a user and its password.

        The password is compared with what this member knows; if users or roles change before the login is applied,
        once more.
        """
        request = parse(rpc_pb2.AuthenticateRequest, body)
        await self._reads.wait_linearizable()
        store = self._store
        while True:
            checked = store.revision
            await self._check_password(request.name, request.password)
            login = raft_internal_pb2.InternalAuthenticateRequest(
                name=request.name, simple_token=store.tokens.new_prefix(self._random)
            )
            revision, told = await self._proposer.run("authenticate", login)
            if checked == store.revision:
                break
            logger.info("revision when password checked became stale; retrying")
        token = store.tokens.sign(request.name, checked, self._wall_clock())
        if token:
            told = rpc_pb2.AuthenticateResponse(token=token).SerializeToString()
        call.finish(self._header.embed(revision) + told)

    async def _check_password(self, name: str, password: str) -> None:
        """Raises AuthNotEnabled, AuthFailed, NoPasswordUser."""
        hashed: bytes | None = None
        try:
            try:
                hashed = self._store.password_of(name)
            except AuthFailed:
                pass  # nobody learns from the time it takes who is a user
            if not await self._passwords.matches(password, hashed):
                if hashed is not None:
                    logger.info("invalid password", extra={"fields": {"user-name": name}})
                raise AuthFailed
        except AuthNotEnabled:
            raise
        except EtcdError as error:
            fields = {"user": name, "error": error.message}
            logger.warning("invalid authentication was requested", extra={"fields": fields})
            raise
