"""Users, roles and what they may do: replicated through the log, stored with the keys, the same on every member.

    user --holds--> roles --grant--> permissions (READ, WRITE, READWRITE) on a key or a range
    rights of a user = all of them merged, made when somebody asks and kept until something changes

Every change counts the auth revision up. A request carries the revision that its sender was judged by; a change in
between makes it too old, and the client asks again. User and role `root` exist by name: who holds the role may do all.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Final

from etcdpy.auth.identity import Identity
from etcdpy.auth.intervals import IntervalSet, interval_of, is_valid_permission
from etcdpy.backend import AUTH_BUCKET
from etcdpy.errors import (
    AuthFailed,
    AuthNotEnabled,
    InvalidAuthManagement,
    NoPasswordUser,
    PermissionNotGiven,
    PermissionNotGranted,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    RootRoleNotFound,
    RootUserNotFound,
    UserEmpty,
    UserExists,
    UserNotFound,
)
from etcdpy.limits import AUTH_SIGNERS_KEPT
from etcdpy.proto import auth_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from etcdpy.auth.tokens import TokenProvider
    from etcdpy.backend import Backend

logger = logging.getLogger("etcdpy.auth")

ROOT: Final = "root"
"""The name of the user that must be there, and of the role that may do everything."""

_ENABLED_KEY: Final = AUTH_BUCKET + b"auth\0authEnabled"
_REVISION_KEY: Final = AUTH_BUCKET + b"auth\0authRevision"
_USERS: Final = AUTH_BUCKET + b"authUsers\0"
_ROLES: Final = AUTH_BUCKET + b"authRoles\0"
_READING: Final = (auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE)
_WRITING: Final = (auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE)
_FIRST_REVISION: Final = 1
"""What a store without a record has: etcd's members write it as soon as they begin."""


class Rights:
    """What one user may do, by all roles together."""

    __slots__ = ("is_root", "read", "write")

    def __init__(self, is_root: bool, read: IntervalSet, write: IntervalSet) -> None:
        self.is_root = is_root
        self.read = read
        self.write = write

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rights):
            return NotImplemented
        return (self.is_root, self.read, self.write) == (other.is_root, other.read, other.write)

    __hash__ = None  # type: ignore[assignment]


class AuthStore:
    """All users and roles. Owned by the core loop; changed by applied entries alone."""

    def __init__(self, backend: Backend, tokens: TokenProvider) -> None:
        self._backend = backend
        self.tokens = tokens
        self.enabled = False
        """Whether users must show who they are."""
        self.revision = _FIRST_REVISION
        self._users: dict[str, auth_pb2.User] = {}
        self._roles: dict[str, auth_pb2.Role] = {}
        self._rights: dict[str, Rights | None] = {}
        self._identities: dict[str, Identity] = {}
        self._signers: dict[bytes, Identity] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Told after each change, in the place among the entries where it counts."""

    def restore(self) -> None:
        """Read what is stored, in place of what was known. Nobody is told.

        Tokens stay if nothing has changed. Where something has, as in a state from another member, nobody can tell here
        whose password was another in between, or who was gone; so all log in again. etcd's tokens stay.
        """
        backend, before = self._backend, self.revision
        self.enabled = backend.get(_ENABLED_KEY) == b"\x01"
        stored = backend.get(_REVISION_KEY)
        self.revision = int.from_bytes(stored, "big") if stored else _FIRST_REVISION
        users = (auth_pb2.User.FromString(record) for record in self._records(_USERS))
        roles = (auth_pb2.Role.FromString(record) for record in self._records(_ROLES))
        self._users = {user.name.decode(): user for user in users}
        self._roles = {role.name.decode(): role for role in roles}
        self._forget_conclusions()
        if not self.enabled or self.revision != before:
            self.tokens.disable()
        if self.enabled:
            self.tokens.enable()

    def _records(self, prefix: bytes) -> Iterable[bytes]:
        return [record for _, record in self._backend.scan(prefix, prefix[:-1] + b"\x01")]

    def _forget_conclusions(self) -> None:
        self._rights.clear()
        self._identities.clear()
        self._signers.clear()

    # --- who may what ---

    def rights_of(self, name: str) -> Rights | None:
        """What a user may do; None when there is no such user. Made once between two changes."""
        try:
            return self._rights[name]
        except KeyError:
            pass
        user = self._users.get(name)
        if user is None:
            return None  # not kept: the names of those who are not there are anybody's choice
        rights = self._rights[name] = self._merge(user)
        return rights

    def _merge(self, user: auth_pb2.User) -> Rights:
        read: list[tuple[bytes, bytes]] = []
        write: list[tuple[bytes, bytes]] = []
        for name in user.roles:
            role = self._roles.get(name)
            for permission in role.keyPermission if role is not None else ():
                if not permission.key:
                    continue  # none can be granted any more; on etcd such an interval is empty
                interval = interval_of(permission.key, permission.range_end)
                if permission.permType in _READING:
                    read.append(interval)
                if permission.permType in _WRITING:
                    write.append(interval)
        return Rights(ROOT in user.roles, IntervalSet(read), IntervalSet(write))

    def exists(self, name: str) -> bool:
        """Whether there is such a user."""
        return name in self._users

    def holds_role(self, name: str, role: str) -> bool:
        """Whether there is such a user with that role."""
        user = self._users.get(name)
        return user is not None and role in user.roles

    def identity(self, name: str) -> Identity:
        """That user as of now."""
        found = self._identities.get(name)
        if found is None:
            found = Identity(name, self.revision)
            if name in self._users:
                found.rights = self.rights_of(name)
                self._identities[name] = found
        return found

    def signer(self, stamp: bytes) -> Identity:
        """Whom a log entry's stamp names. Kept, since most entries have one of few."""
        found = self._signers.get(stamp)
        if found is None:
            if len(self._signers) >= AUTH_SIGNERS_KEPT:
                self._signers.clear()
            found = self._signers[stamp] = Identity.from_stamp(stamp)
            if found.revision == self.revision:
                found.rights = self.rights_of(found.name)
        return found

    # --- switching on and off ---

    def enable(self) -> None:
        """From now on who calls must show it. Raises RootUserNotFound, RootRoleNotFound. The revision stays."""
        if self.enabled:
            logger.info("authentication is already enabled; ignored auth enable request")
            return
        root = self._users.get(ROOT)
        if root is None:
            raise RootUserNotFound
        if ROOT not in root.roles:
            raise RootRoleNotFound
        self._backend.put(_ENABLED_KEY, b"\x01")
        self.enabled = True
        self.tokens.enable()
        self._forget_conclusions()
        logger.info("enabled authentication")
        self.on_change()

    def disable(self) -> None:
        """From now on everybody may do everything. No error where it is so already."""
        if not self.enabled:
            return
        self._backend.put(_ENABLED_KEY, b"\x00")
        self.enabled = False
        self.tokens.disable()
        self._commit()
        logger.info("disabled authentication")

    def _commit(self) -> None:
        """Something has changed: count it, and forget what was concluded before."""
        self.revision += 1
        self._backend.put(_REVISION_KEY, self.revision.to_bytes(8, "big"))
        self._forget_conclusions()
        self.on_change()

    # --- logging in ---

    def password_of(self, name: str) -> bytes:
        """The hash that a login must match. Raises AuthNotEnabled, AuthFailed, NoPasswordUser."""
        if not self.enabled:
            raise AuthNotEnabled
        user = self._users.get(name)
        if user is None:
            raise AuthFailed
        if user.options.no_password:
            raise NoPasswordUser
        return user.password

    def log_in(self, name: str, prefix: str, index: int, now: float) -> str:
        """A login whose password was checked by the member that was asked. Raises AuthNotEnabled, AuthFailed."""
        if not self.enabled:
            raise AuthNotEnabled
        user = self._users.get(name)
        if user is None or user.options.no_password:
            raise AuthFailed
        return self.tokens.assign(name, prefix, index, now)

    # --- users ---

    @property
    def users(self) -> list[str]:
        """All names, in the order of their bytes."""
        return sorted(self._users)

    def roles_of(self, name: str) -> list[str]:
        """The roles of a user. Raises UserNotFound."""
        return list(self._user(name).roles)

    def _user(self, name: str) -> auth_pb2.User:
        user = self._users.get(name)
        if user is None:
            raise UserNotFound
        return user

    def _put_user(self, name: str, user: auth_pb2.User) -> None:
        self._users[name] = user
        self._backend.put(_USERS + name.encode(), user.SerializeToString())

    def add_user(self, name: str, hashed_password: str, *, no_password: bool) -> None:
        """Raises UserEmpty, UserExists, NoPasswordUser (a hash that is no base64)."""
        if not name:
            raise UserEmpty
        if name in self._users:
            raise UserExists
        password = b"" if no_password else _from_base64(hashed_password)
        options = auth_pb2.UserAddOptions(no_password=no_password)
        self._put_user(name, auth_pb2.User(name=name.encode(), password=password, options=options))
        self._commit()
        _log("added a user", user_name=name)

    def delete_user(self, name: str) -> None:
        """Raises InvalidAuthManagement, UserNotFound."""
        if self.enabled and name == ROOT:
            logger.error("cannot delete 'root' user", extra={"fields": {"user-name": name}})
            raise InvalidAuthManagement
        roles = self.roles_of(name)
        del self._users[name]
        self._backend.delete(_USERS + name.encode())
        self.tokens.forget_user(name)
        self._commit()
        _log("deleted a user", user_name=name, user_roles=roles)

    def change_password(self, name: str, hashed_password: str) -> None:
        """Raises UserNotFound, NoPasswordUser (a hash that is no base64). A user without a password keeps none."""
        user = self._user(name)
        password = b"" if user.options.no_password else _from_base64(hashed_password)
        changed = auth_pb2.User()
        changed.CopyFrom(user)
        changed.password = password
        self._put_user(name, changed)
        self.tokens.forget_user(name)
        self._commit()
        _log("changed a password of a user", user_name=name, user_roles=list(user.roles))

    def grant_role(self, name: str, role: str) -> None:
        """Raises UserNotFound, RoleNotFound. A role that is held already is no error; `root` need not be stored."""
        user = self._user(name)
        if role != ROOT and role not in self._roles:
            raise RoleNotFound
        if role in user.roles:
            fields = {"user-name": name, "user-roles": list(user.roles), "duplicate-role-name": role}
            logger.warning("ignored grant role request to a user", extra={"fields": fields})
            return
        self._set_roles(name, sorted((*user.roles, role)))
        self._commit()
        _log("granted a role to a user", user_name=name, user_roles=self.roles_of(name), added_role_name=role)

    def revoke_role(self, name: str, role: str) -> None:
        """Raises InvalidAuthManagement, UserNotFound, RoleNotGranted."""
        if self.enabled and name == ROOT and role == ROOT:
            fields = {"user-name": name, "role-name": role}
            logger.error("'root' user cannot revoke 'root' role", extra={"fields": fields})
            raise InvalidAuthManagement
        before = self.roles_of(name)
        if role not in before:
            raise RoleNotGranted
        after = [each for each in before if each != role]
        self._set_roles(name, after)
        self._commit()
        _log(
            "revoked a role from a user",
            user_name=name,
            old_user_roles=before,
            new_user_roles=after,
            revoked_role_name=role,
        )

    def _set_roles(self, name: str, roles: list[str]) -> None:
        changed = auth_pb2.User()
        changed.CopyFrom(self._users[name])
        del changed.roles[:]
        changed.roles.extend(roles)
        self._put_user(name, changed)

    # --- roles ---

    @property
    def roles(self) -> list[str]:
        """All names, in the order of their bytes."""
        return sorted(self._roles)

    def permissions_of(self, name: str) -> list[auth_pb2.Permission]:
        """What a role grants; of `root`, everything. Raises RoleNotFound."""
        role = self._role(name)
        if name == ROOT:
            return [auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, range_end=b"\0")]
        return list(role.keyPermission)

    def _role(self, name: str) -> auth_pb2.Role:
        role = self._roles.get(name)
        if role is None:
            raise RoleNotFound
        return role

    def _put_role(self, name: str, permissions: Iterable[auth_pb2.Permission]) -> None:
        role = self._roles[name] = auth_pb2.Role(name=name.encode(), keyPermission=permissions)
        self._backend.put(_ROLES + name.encode(), role.SerializeToString())

    def add_role(self, name: str) -> None:
        """Raises RoleEmpty, RoleExists."""
        if not name:
            raise RoleEmpty
        if name in self._roles:
            raise RoleExists
        self._put_role(name, ())
        self._commit()
        _log("created a role", role_name=name)

    def delete_role(self, name: str) -> None:
        """Take a role away, from its users too. Raises InvalidAuthManagement, RoleNotFound."""
        if self.enabled and name == ROOT:
            logger.error("cannot delete 'root' role", extra={"fields": {"role-name": name}})
            raise InvalidAuthManagement
        self._role(name)
        del self._roles[name]
        self._backend.delete(_ROLES + name.encode())
        for user in self.users:
            held = list(self._users[user].roles)
            if name in held:
                self._set_roles(user, [each for each in held if each != name])
        self._commit()
        _log("deleted a role", role_name=name)

    def grant_permission(self, name: str, permission: auth_pb2.Permission | None) -> None:
        """Raises PermissionNotGiven, InvalidAuthManagement, RoleNotFound. On the same range the kind is replaced."""
        if permission is None:
            raise PermissionNotGiven
        key, end = permission.key, permission.range_end
        if not is_valid_permission(key, end):
            raise InvalidAuthManagement
        granted = [auth_pb2.Permission.FromString(each.SerializeToString()) for each in self._role(name).keyPermission]
        # Quirk kept: of several permissions that begin with the key etcd looks at the first alone.
        first = next((each for each in granted if each.key >= key), None)
        if first is not None and (first.key, first.range_end) == (key, end):
            first.permType = permission.permType
        else:
            granted.append(auth_pb2.Permission(permType=permission.permType, key=key, range_end=end))
            granted.sort(key=lambda each: each.key)
        self._put_role(name, granted)
        self._commit()
        kinds = auth_pb2.Permission.Type
        kind = kinds.Name(permission.permType) if permission.permType in kinds.values() else ""
        _log("granted/updated a permission to a user", user_name=name, permission_name=kind)  # no keys in the log

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """Raises RoleNotFound, PermissionNotGranted (none on exactly that range)."""
        before = list(self._role(name).keyPermission)
        after = [each for each in before if (each.key, each.range_end) != (key, range_end)]
        if len(after) == len(before):
            raise PermissionNotGranted
        self._put_role(name, after)
        self._commit()
        _log("revoked a permission on range", role_name=name)


def _from_base64(hashed_password: str) -> bytes:
    """What Go's decoder makes of it: strict, but for line breaks. An entry from before etcd 3.5 has a password in its
    place; no member of a cluster with this one can have written that, and nobody can log in with an empty hash."""
    try:
        return base64.b64decode(hashed_password.replace("\r", "").replace("\n", "").encode(), validate=True)
    except (binascii.Error, ValueError):
        raise NoPasswordUser from None


def _log(message: str, **fields: object) -> None:
    logger.info(message, extra={"fields": {name.replace("_", "-"): value for name, value in fields.items()}})
