"""How answers about roles look; those about users are sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.client.keys import prefix_end
from etcdpy.ctl.answers import Answer, header_fields
from etcdpy.ctl.calls import ask
from etcdpy.ctl.gotext import quote
from etcdpy.proto import rpc_pb2
from etcdpy.proto.auth_pb2 import Permission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.ctl.answers import Line
    from etcdpy.ctl.session import Session

ROOT_ROLE: Final = "root"
OPEN_END: Final = b"\0"
"""A range_end that stands for no end."""


def shown_range(key: bytes, end: bytes) -> bytes:
    """`[a, b)`; etcd writes no bracket behind an open end."""
    return b"[%s, <open ended>" % key if end == OPEN_END else b"[%s, %s)" % (key, end)


def _shown(permission: Permission) -> bytes:
    key, end = permission.key, permission.range_end
    if not end:
        return b"\t" + key
    whole = b" (prefix %s)" % key if key and prefix_end(key) == end else b""
    return b"\t" + shown_range(key, end) + whole


class RoleAnswer(Answer[rpc_pb2.AuthRoleGetResponse]):
    """`role get`."""

    def __init__(self, message: rpc_pb2.AuthRoleGetResponse, role: str) -> None:
        super().__init__(message)
        self._role = role

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """What may be read, and what may be written."""
        permissions = list(self.message.perm)
        if self._role == ROOT_ROLE and not permissions:
            # The server keeps no permissions for it, because it may do all.
            permissions = [Permission(permType=Permission.READWRITE, range_end=OPEN_END)]
        yield f"Role {self._role}"
        for title, kind in (("KV Read:", Permission.READ), ("KV Write:", Permission.WRITE)):
            yield title
            yield from (_shown(each) for each in permissions if each.permType in (kind, Permission.READWRITE))

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Every permission."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for each in self.message.perm:
            yield f'"PermType" :  {Permission.Type.Name(each.permType)}'
            yield f'"Key" : {quote(each.key)}'
            yield f'"RangeEnd" : {quote(each.range_end)}'


class RolesAnswer(Answer[rpc_pb2.AuthRoleListResponse]):
    """`role list`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A line a role."""
        yield from self.message.roles

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """All in one line."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield '"Roles" :' + "".join(f" {quote(role)}" for role in self.message.roles)


def role_answer(session: Session, name: str) -> RoleAnswer:
    """Ask for a role. Raises Failure."""
    return RoleAnswer(ask(session, "ROLE_GET", rpc_pb2.AuthRoleGetRequest(role=name)), name)
