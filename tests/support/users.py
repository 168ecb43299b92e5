"""Users and roles for tests: made with short calls, and clients that show who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.proto import auth_pb2, rpc_pb2
from tests.support.client import CALL_SECONDS_MAX, Client, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.client import Refusal
    from tests.support.members import Member, TlsFiles

READ, WRITE, READWRITE = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE
FAST_HASHES = "--bcrypt-cost=4"
ROOT_PASSWORD = "root's own"


class As:
    """Calls of one client, with the token of one user."""

    def __init__(self, client: Client, token: str = "", header: str = "token") -> None:
        self.client = client
        self.token = token
        self.metadata = ((header, token),) if token else ()

    def call(self, method: Any, request: Any) -> Any:
        """The answer or the Refusal of a unary call, by a stub's method."""
        return outcome(method, request, metadata=self.metadata)

    def ask(self, service: str, method: str, request: Any) -> Any:
        """The same by names."""
        return self.call(getattr(getattr(self.client, service), method), request)

    def put(self, key: bytes, value: bytes = b"v", **fields: Any) -> Any:
        return self.call(self.client.kv.Put, rpc_pb2.PutRequest(key=key, value=value, **fields))

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        return self.call(self.client.kv.Range, rpc_pb2.RangeRequest(key=key, range_end=range_end, **fields))

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, **fields)
        return self.call(self.client.kv.DeleteRange, request)

    def add_user(self, name: str, password: str = "", *roles: str, no_password: bool = False) -> None:
        """A user with roles, which must succeed."""
        options = auth_pb2.UserAddOptions(no_password=no_password)
        self.must("UserAdd", rpc_pb2.AuthUserAddRequest(name=name, password=password, options=options))
        for role in roles:
            self.must("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role))

    def add_role(self, name: str, *permissions: tuple[int, bytes, bytes]) -> None:
        """A role with permissions (kind, key, range_end), which must succeed."""
        self.must("RoleAdd", rpc_pb2.AuthRoleAddRequest(name=name))
        for kind, key, range_end in permissions:
            self.grant(name, kind, key, range_end)

    def grant(self, role: str, kind: int, key: bytes, range_end: bytes = b"") -> None:
        permission = auth_pb2.Permission(permType=kind, key=key, range_end=range_end)  # type: ignore[arg-type]
        self.must("RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission))

    def revoke(self, role: str, key: bytes, range_end: bytes = b"") -> None:
        request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=range_end)
        self.must("RoleRevokePermission", request)

    def must(self, method: str, request: Any) -> Any:
        """A call of the Auth service that must succeed."""
        return getattr(self.client.auth, method)(request, timeout=CALL_SECONDS_MAX, metadata=self.metadata)

    def log_in(self, name: str, password: str) -> As:
        """The same client as that user, which must succeed."""
        return As(
            self.client, self.must("Authenticate", rpc_pb2.AuthenticateRequest(name=name, password=password)).token
        )

    def try_log_in(self, name: str, password: str) -> rpc_pb2.AuthenticateResponse | Refusal:
        """What a login is told."""
        request = rpc_pb2.AuthenticateRequest(name=name, password=password)
        found: rpc_pb2.AuthenticateResponse | Refusal = self.call(self.client.auth.Authenticate, request)
        return found

    def enable(self) -> As:
        """Make root, switch users on; root."""
        self.add_user("root", ROOT_PASSWORD, "root")
        self.must("AuthEnable", rpc_pb2.AuthEnableRequest())
        return self.log_in("root", ROOT_PASSWORD)


def users(client: Client, names: Sequence[str] = ()) -> dict[str, As]:
    """Users switched on on an empty server: root, and each of `names` with its name for a password and role."""
    nobody = As(client)
    found = {"nobody": nobody, "root": nobody.enable()}
    for name in names:
        found["root"].add_role(name)
        found["root"].add_user(name, name, name)
    return found


def logged_in(found: dict[str, As], *names: str) -> list[As]:
    """Those users, with tokens that know all that was granted so far."""
    return [found["nobody"].log_in(name, name) for name in names]


def client_of(member: Member, tls: TlsFiles | None) -> Client:
    """A client that shows another certificate than the member's own."""
    return Client(member.endpoint, tls)
