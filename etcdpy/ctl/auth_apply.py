"""`auth apply`: users, roles and permissions as a file says, whatever there was before.

The file is YAML or JSON:

    roles:
      app: [{permission: readwrite, prefix: /app/}, {permission: read, key: /config}]
    users:
      root: {}                                     # no password: who comes with a certificate of that name
      app: {password: its-password, roles: [app]}

What it lists becomes exactly that; what it does not list stays, unless it is asked to go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.client.keys import prefix_end
from etcdpy.commandline import Command, Exit, Failure
from etcdpy.ctl.auth_answers import OPEN_END, ROOT_ROLE
from etcdpy.ctl.calls import ask
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import CallFailed, Session
from etcdpy.errors import AuthFailed, NoPasswordUser
from etcdpy.limits import AUTH_FILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT_USER: Final = "root"
_SPANS: Final = ({"key"}, {"key", "end"}, {"prefix"}, {"from"})
"""How a permission may say which keys it is for."""

Range = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class User:
    """What a user is to be; no password: who comes with a certificate alone."""

    roles: frozenset[str]
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that has been read: permissions of roles as `READ`, `WRITE` or `READWRITE` by range, and users."""

    roles: dict[str, dict[Range, str]]
    users: dict[str, User]


def parse(found: object) -> Wanted:
    """Check what a file holds. Raises Failure with every fault; none of them shows a password."""
    faults: list[str] = []
    tables = found if isinstance(found, dict) else {}
    if not isinstance(found, dict) or tables.keys() - {"roles", "users"}:
        faults.append("must hold tables: roles, users")
    given_roles, given_users = (tables.get(name) or {} for name in ("roles", "users"))
    if not isinstance(given_roles, dict) or not isinstance(given_users, dict):
        raise Failure(Exit.BAD_ARGUMENTS, "roles and users must be tables, each with a name in front")
    roles = {str(name): _permissions(str(name), given, faults) for name, given in given_roles.items()}
    users = {str(name): _user(str(name), given, faults) for name, given in given_users.items()}
    if ROOT_USER in users:
        users[ROOT_USER] = User(users[ROOT_USER].roles | {ROOT_ROLE}, users[ROOT_USER].password)
    if roles.get(ROOT_ROLE):
        faults.append("the role root may do everything: it takes no permissions")
    if faults:
        raise Failure(Exit.BAD_ARGUMENTS, "\nError: ".join(faults))
    return Wanted(roles, users)


def _permissions(role: str, given: object, faults: list[str]) -> dict[Range, str]:
    permissions: dict[Range, str] = {}
    for each in given if isinstance(given, list) else [given] if given else []:
        table = each if isinstance(each, dict) else {}
        span = {key: str(value).encode() for key, value in table.items() if key != "permission"}
        kind = str(table.get("permission", "")).upper()
        if kind not in ("READ", "WRITE", "READWRITE") or set(span) not in _SPANS:
            faults.append(
                f"role {role}: a permission is {{permission: read, write or readwrite, and one of"
                " key: K - key: K, end: E - prefix: P - from: K}"
            )
        else:
            permissions[_range(span)] = kind
    return permissions


def _range(span: dict[str, bytes]) -> Range:
    """As etcd has it; the empty key, which no key has, stands for the first one that there can be."""
    if "prefix" in span:
        return (span["prefix"], prefix_end(span["prefix"])) if span["prefix"] else (OPEN_END, OPEN_END)
    return (span["from"] or OPEN_END, OPEN_END) if "from" in span else (span["key"], span.get("end", b""))


def _user(name: str, given: object, faults: list[str]) -> User:
    table = {} if given is None else given
    if not isinstance(table, dict) or table.keys() - {"password", "roles"}:
        faults.append(f"user {name}: may have a password and roles, and nothing else")
        return User(frozenset())
    roles, password = table.get("roles") or [], table.get("password") or ""
    if not isinstance(roles, list) or not isinstance(password, str):
        faults.append(f"user {name}: its roles must be a list, and its password a text")
        return User(frozenset())
    return User(frozenset(map(str, roles)), password)


class Applying:
    """One run: compares, makes the calls that are needed, and keeps a line for each in `done`."""

    def __init__(self, session: Session, wanted: Wanted, *, dry: bool) -> None:
        self.done: list[str] = []
        self._session = session
        self._wanted = wanted
        self._dry = dry
        self.enabled: bool = ask(session, "AUTH_STATUS", _request("AuthStatusRequest")).enabled
        self._roles = set(ask(session, "ROLE_LIST", _request("AuthRoleListRequest")).roles)
        self._users = set(ask(session, "USER_LIST", _request("AuthUserListRequest")).users)
        self._kept = set(self._users)
        """Who was there before and may have another password than the one that is wanted."""

    def _do(self, line: str, call: str, request: Any) -> None:
        if not self._dry:
            ask(self._session, call, request)
        self.done.append(line)

    def roles(self) -> None:
        """Make roles, and what they permit."""
        granted = {role for user in self._wanted.users.values() for role in user.roles if role == ROOT_ROLE}
        for role in sorted(self._wanted.roles.keys() | granted):
            found: dict[Range, str] = {}
            if role not in self._roles:
                self._do(f"role {role} created", "ROLE_ADD", _request("AuthRoleAddRequest", name=role))
            elif role != ROOT_ROLE:
                found = self._permissions_of(role)
            self._permit(role, found, self._wanted.roles.get(role, {}))

    def _permissions_of(self, role: str) -> dict[Range, str]:
        from etcdpy.proto.auth_pb2 import Permission

        answer = ask(self._session, "ROLE_GET", _request("AuthRoleGetRequest", role=role))
        return {(each.key, each.range_end): Permission.Type.Name(each.permType) for each in answer.perm}

    def _permit(self, role: str, found: dict[Range, str], wanted: dict[Range, str]) -> None:
        from etcdpy.proto.auth_pb2 import Permission

        for (key, end), kind in wanted.items():
            if found.get((key, end)) != kind:
                perm = Permission(permType=Permission.Type.Value(kind), key=key, range_end=end)
                request = _request("AuthRoleGrantPermissionRequest", name=role, perm=perm)
                self._do(f"role {role}: {kind} granted on {_shown(key, end)}", "ROLE_GRANT_PERMISSION", request)
        for key, end in found.keys() - wanted.keys():
            request = _request("AuthRoleRevokePermissionRequest", role=role, key=key, range_end=end)
            self._do(f"role {role}: nothing more on {_shown(key, end)}", "ROLE_REVOKE_PERMISSION", request)

    def users(self) -> None:
        """Make users, and give them their roles."""
        for name, user in self._wanted.users.items():
            has: set[str] = set()
            if name in self._users:
                has = set(ask(self._session, "USER_GET", _request("AuthUserGetRequest", name=name)).roles)
            else:
                request = _request("AuthUserAddRequest", name=name, password=user.password)
                request.options.no_password = not user.password
                self._do(f"user {name} created", "USER_ADD", request)
            for role in sorted(user.roles - has):
                request = _request("AuthUserGrantRoleRequest", user=name, role=role)
                self._do(f"user {name}: role {role} granted", "USER_GRANT_ROLE", request)
            for role in sorted(has - user.roles):
                request = _request("AuthUserRevokeRoleRequest", name=name, role=role)
                self._do(f"user {name}: role {role} revoked", "USER_REVOKE_ROLE", request)

    def remove_others(self) -> None:
        """Delete what is not listed; root stays."""
        for name in sorted(self._users - self._wanted.users.keys() - {ROOT_USER}):
            self._do(f"user {name} deleted", "USER_DELETE", _request("AuthUserDeleteRequest", name=name))
        for role in sorted(self._roles - self._wanted.roles.keys() - {ROOT_ROLE}):
            self._do(f"role {role} deleted", "ROLE_DELETE", _request("AuthRoleDeleteRequest", role=role))

    def check_enabling(self) -> None:
        """Whether there will be a root, and who asks here may go on to ask. Raises Failure."""
        if self.enabled:
            return
        if ROOT_USER not in self._users | self._wanted.users.keys():
            raise Failure(Exit.ERROR, "users are not switched on without a user root")
        options = self._session.options
        name = options.user or certificate_name(options.certificate)
        user = self._wanted.users.get(name)
        if user is None or ROOT_ROLE not in user.roles:
            who = f"{name}, who asks here," if name else "who asks here without a name"
            raise Failure(Exit.ERROR, f"users are not switched on: {who} must be listed with the role root")

    def enable(self) -> None:
        """Switch users on."""
        if not self.enabled:
            self._do("users switched on", "AUTH_ENABLE", _request("AuthEnableRequest"))
            self.enabled = not self._dry

    def disable(self) -> None:
        """Switch users off."""
        if self.enabled:
            self._do("users switched off", "AUTH_DISABLE", _request("AuthDisableRequest"))
            self.enabled = False

    def passwords(self) -> None:
        """Change those that users cannot log in with; while users are switched off nobody can. Raises Failure."""
        for name, user in self._wanted.users.items():
            if not user.password or not self.enabled or name not in self._kept:
                continue
            try:
                ask(self._session, "AUTHENTICATE", _request("AuthenticateRequest", name=name, password=user.password))
            except CallFailed as failed:
                if NoPasswordUser.message in failed.text:
                    text = f"user {name} was made without a password; delete it first"
                    raise Failure(Exit.ERROR, text) from None
                if AuthFailed.message not in failed.text:
                    raise
                request = _request("AuthUserChangePasswordRequest", name=name, password=user.password)
                self._do(f"user {name}: password changed", "USER_CHANGE_PASSWORD", request)


def _request(kind: str, **fields: Any) -> Any:
    from etcdpy.proto import rpc_pb2

    return getattr(rpc_pb2, kind)(**fields)


def _shown(key: bytes, end: bytes) -> str:
    text = key.decode(errors="replace")
    if not end:
        return text
    if end == OPEN_END:
        return "all keys" if key == OPEN_END else f"all from {text} on"
    return f"{text}*" if prefix_end(key) == end else f"{text} to {end.decode(errors='replace')}"


def certificate_name(path: Path | None) -> str:
    """The common name of a certificate file, by which members know who comes with it; empty where there is none."""
    if path is None:
        return ""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_certificate(path.read_bytes()).subject
    except (OSError, ValueError):
        return ""  # the connection fails with the reason
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _read(path: str) -> object:
    import yaml

    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            content = file.read(AUTH_FILE_BYTES_MAX + 1)
        if len(content) > AUTH_FILE_BYTES_MAX:
            raise Failure(Exit.BAD_ARGUMENTS, f"{path}: larger than {AUTH_FILE_BYTES_MAX} bytes")
        return yaml.safe_load(content.decode())
    except OSError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        # The place alone: what stands there may be a password.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise Failure(Exit.BAD_ARGUMENTS, f"{path}: neither YAML nor JSON{where}") from None


def _lines(applying: Applying, *, remove: bool, enabled: bool | None) -> Iterator[str]:
    """Do it, in an order in which nobody who is listed is ever without what the list gives him."""
    steps = [applying.roles, applying.users]
    steps = [applying.check_enabling, *steps, applying.enable] if enabled else steps
    steps += [applying.passwords, *([applying.remove_others] if remove else [])]
    steps += [applying.disable] if enabled is False else []
    said = 0
    for step in steps:
        try:
            step()
        finally:
            yield from applying.done[said:]
            said = len(applying.done)


@click.command("apply", cls=Command, globals_=global_options, short_help="Makes users and roles as a file says")
@click.option("--enable", is_flag=True, help="switch users on, if they are off")
@click.option("--disable", is_flag=True, help="switch users off, if they are on")
@click.option("--remove", is_flag=True, help="delete users and roles that are not listed; root stays")
@click.option("--dry-run", is_flag=True, help="say what would be done, and do nothing")
@click.argument("words", nargs=-1, metavar="<file, or - for standard input>")
@click.pass_context
def apply(ctx: click.Context, enable: bool, disable: bool, remove: bool, dry_run: bool, words: tuple[str, ...]) -> None:
    """Make users, roles and permissions as a file of YAML or JSON says; a line for each change.

    Users and roles that it lists become exactly what it says. Run again it changes nothing. Who runs it stays root.

    \b
    Example:
      etcdpyctl auth apply --enable users.yml
    """
    if len(words) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, "auth apply command requires a file as its argument")
    if enable and disable:
        raise Failure(Exit.BAD_ARGUMENTS, "--enable and --disable exclude each other")
    wanted = parse(_read(words[0]))
    applying = Applying(Session(ctx), wanted, dry=dry_run)
    for line in _lines(applying, remove=remove, enabled=True if enable else False if disable else None):
        click.echo(line)
