"""The requests about users and roles, as the applier's table has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from etcdpy.apply.proposal import Outcome
    from etcdpy.apply.restricted import Handlers
    from etcdpy.auth.store import AuthStore


class AuthRequests:
    """`place` gives the index of the entry that is being applied, `now` the core loop's clock, which tokens live by.

    Quirk kept: a simple token has the index of the entry before its own, for that is what etcd's members count as
    applied while they apply it; a token must be the same on all members of a cluster.
    """

    def __init__(
        self, auth: AuthStore, revision: Callable[[], int], place: Callable[[], int], now: Callable[[], float]
    ) -> None:
        self._auth = auth
        self._revision = revision
        self._place = place
        self._now = now

    def handlers(self) -> Handlers:
        """By kind of request. Each raises what the store's method raises."""
        auth = self._auth
        return {
            "auth_enable": self._done(lambda _: auth.enable()),
            "auth_disable": self._done(lambda _: auth.disable()),
            "auth_status": self._told(self._status),
            "authenticate": self._told(self._authenticate),
            "auth_user_add": self._done(
                lambda asked: auth.add_user(asked.name, asked.hashedPassword, no_password=asked.options.no_password)
            ),
            "auth_user_delete": self._done(lambda asked: auth.delete_user(asked.name)),
            "auth_user_change_password": self._done(
                lambda asked: auth.change_password(asked.name, asked.hashedPassword)
            ),
            "auth_user_grant_role": self._done(lambda asked: auth.grant_role(asked.user, asked.role)),
            "auth_user_revoke_role": self._done(lambda asked: auth.revoke_role(asked.name, asked.role)),
            "auth_user_get": self._told(lambda asked: rpc_pb2.AuthUserGetResponse(roles=auth.roles_of(asked.name))),
            "auth_user_list": self._told(lambda _: rpc_pb2.AuthUserListResponse(users=auth.users)),
            "auth_role_add": self._done(lambda asked: auth.add_role(asked.name)),
            "auth_role_delete": self._done(lambda asked: auth.delete_role(asked.role)),
            "auth_role_grant_permission": self._done(self._grant_permission),
            "auth_role_revoke_permission": self._done(
                lambda asked: auth.revoke_permission(asked.role, asked.key, asked.range_end)
            ),
            "auth_role_get": self._told(
                lambda asked: rpc_pb2.AuthRoleGetResponse(perm=auth.permissions_of(asked.role))
            ),
            "auth_role_list": self._told(lambda _: rpc_pb2.AuthRoleListResponse(roles=auth.roles)),
        }

    def _done(self, change: Callable[[Any], None]) -> Callable[[Any], Outcome]:
        """A request that is answered by its header alone."""

        def handler(request: Any) -> Outcome:
            change(request)
            return self._revision(), b""

        return handler

    def _told(self, answer: Callable[[Any], Message]) -> Callable[[Any], Outcome]:
        def handler(request: Any) -> Outcome:
            return self._revision(), answer(request).SerializeToString()

        return handler

    def _status(self, _request: rpc_pb2.AuthStatusRequest) -> Message:
        return rpc_pb2.AuthStatusResponse(enabled=self._auth.enabled, authRevision=self._auth.revision)

    def _authenticate(self, request: Any) -> Message:
        token = self._auth.log_in(request.name, request.simple_token, self._place() - 1, self._now())
        return rpc_pb2.AuthenticateResponse(token=token)

    def _grant_permission(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> None:
        self._auth.grant_permission(request.name, request.perm if request.HasField("perm") else None)
