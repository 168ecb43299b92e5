"""Requests about users and roles drawn from a seed, and who sends each of all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy.proto import auth_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

NAMES: Final = ("u", "v")
"""Users that are there from the first request on, each with a role of its name; their password is the name."""
_USERS: Final = [*NAMES, "w", "", "root", "nobody"]
_ROLES: Final = [*NAMES, "r", "", "root", "none"]
_KEYS: Final = [b"a", b"b", b"c", b"k/", b"k/1", b"k/2", b"z", b"\0", b"", b"\xff"]
_ENDS: Final = [b"", b"", b"\0", b"c", b"k/3", b"k0", b"a", b"\xff\xff"]


class AuthGenerator:
    """Draws requests of the Auth service, by name and message. What root needs to go on is left alone."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._draws: list[tuple[int, Callable[[], tuple[str, Any]]]] = [
            (10, lambda: ("UserAdd", self._user_add())),
            (4, lambda: ("UserDelete", rpc_pb2.AuthUserDeleteRequest(name=self._pick(["w", "nobody", "root", ""])))),
            (6, lambda: ("UserGet", rpc_pb2.AuthUserGetRequest(name=self._pick(_USERS)))),
            (3, lambda: ("UserList", rpc_pb2.AuthUserListRequest())),
            (
                12,
                lambda: (
                    "UserGrantRole",
                    rpc_pb2.AuthUserGrantRoleRequest(user=self._pick(_USERS), role=self._pick([*_ROLES[:4], "none"])),
                ),
            ),
            (
                10,
                lambda: (
                    "UserRevokeRole",
                    rpc_pb2.AuthUserRevokeRoleRequest(name=self._pick(_USERS), role=self._pick(_ROLES)),
                ),
            ),
            (6, lambda: ("RoleAdd", rpc_pb2.AuthRoleAddRequest(name=self._pick(_ROLES)))),
            (4, lambda: ("RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role=self._pick(["r", "none", "root"])))),
            (8, lambda: ("RoleGet", rpc_pb2.AuthRoleGetRequest(role=self._pick(_ROLES)))),
            (3, lambda: ("RoleList", rpc_pb2.AuthRoleListRequest())),
            (40, lambda: ("RoleGrantPermission", self._grant())),
            (
                20,
                lambda: (
                    "RoleRevokePermission",
                    rpc_pb2.AuthRoleRevokePermissionRequest(
                        role=self._pick(_ROLES), key=self._pick(_KEYS), range_end=self._pick(_ENDS)
                    ),
                ),
            ),
            (3, lambda: ("AuthStatus", rpc_pb2.AuthStatusRequest())),
            (6, lambda: ("Authenticate", self._log_in())),
        ]

    def _pick(self, values: Any) -> Any:
        return self._random.choice(values)

    def next(self) -> tuple[str, Any]:
        """The next request: its method's name, its message."""
        draw = self._random.choices([draw for _, draw in self._draws], [weight for weight, _ in self._draws])[0]
        return draw()

    def sender(self) -> str:
        """Who sends a request: mostly those whose rights change all the time."""
        return str(self._random.choices([*NAMES, "root", "", "no such token"], [40, 30, 25, 3, 2])[0])

    def _user_add(self) -> rpc_pb2.AuthUserAddRequest:
        options = auth_pb2.UserAddOptions(no_password=self._random.random() < 0.3)
        return rpc_pb2.AuthUserAddRequest(name=self._pick(_USERS), password=self._pick(["", "pw"]), options=options)

    def _log_in(self) -> rpc_pb2.AuthenticateRequest:
        return rpc_pb2.AuthenticateRequest(name=self._pick(_USERS), password=self._pick(["", "pw", "u", "x"]))

    def _grant(self) -> rpc_pb2.AuthRoleGrantPermissionRequest:
        request = rpc_pb2.AuthRoleGrantPermissionRequest(name=self._pick([*NAMES, *NAMES, *_ROLES]))
        if self._random.random() < 0.97:
            request.perm.CopyFrom(
                auth_pb2.Permission(
                    permType=self._pick([0, 1, 2, 2]), key=self._pick(_KEYS), range_end=self._pick(_ENDS)
                )
            )
        return request
