"""Users, roles and what each call needs, on real etcd and on etcdpy: the same codes and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import auth_pb2, rpc_pb2
from tests.support.client import Client, Refusal
from tests.support.members import Member
from tests.support.users import FAST_HASHES, READ, READWRITE, ROOT_PASSWORD, WRITE, As, logged_in, users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind

DENIED = Refusal("PermissionDenied", "etcdserver: permission denied")
NOBODY = Refusal("InvalidArgument", "etcdserver: user name is empty")
OLD = Refusal("InvalidArgument", "etcdserver: revision of auth store is old")
BAD_TOKEN = Refusal("Unauthenticated", "etcdserver: invalid auth token")
BAD_LOGIN = Refusal("InvalidArgument", "etcdserver: authentication failed, invalid user ID or password")
NOT_ENABLED = Refusal("FailedPrecondition", "etcdserver: authentication is not enabled")
MANAGEMENT = Refusal("InvalidArgument", "etcdserver: invalid auth management")
NO_PASSWORD_USER = Refusal("Unknown", "auth: authentication failed, password was given for no password user")

Op = rpc_pb2.RequestOp


@pytest.fixture
def client(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a member of its own: what users may do concerns all."""
    with (
        Member(kind, tmp_path_factory.mktemp(kind), flags=[FAST_HASHES]) as member,
        Client.of(member) as connected,
    ):
        yield connected


def precondition(text: str) -> Refusal:
    return Refusal("FailedPrecondition", f"etcdserver: {text}")


def invalid(text: str) -> Refusal:
    return Refusal("InvalidArgument", f"etcdserver: {text}")


def test_enabling_needs_the_user_root_with_its_role(client: Client) -> None:
    nobody = As(client)
    assert nobody.ask("auth", "AuthEnable", rpc_pb2.AuthEnableRequest()) == precondition("root user does not exist")
    nobody.add_user("root", "pw")
    refused = nobody.ask("auth", "AuthEnable", rpc_pb2.AuthEnableRequest())
    assert refused == precondition("root user does not have root role")
    assert nobody.try_log_in("root", "pw") == NOT_ENABLED
    nobody.must("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    status = nobody.must("AuthStatus", rpc_pb2.AuthStatusRequest())
    assert (status.enabled, status.authRevision) == (False, 3)
    nobody.must("AuthDisable", rpc_pb2.AuthDisableRequest())
    nobody.must("AuthEnable", rpc_pb2.AuthEnableRequest())
    status = nobody.must("AuthStatus", rpc_pb2.AuthStatusRequest())
    assert (status.enabled, status.authRevision) == (True, 3)
    root = nobody.log_in("root", "pw")
    root.must("AuthEnable", rpc_pb2.AuthEnableRequest())
    root.must("AuthDisable", rpc_pb2.AuthDisableRequest())
    status = nobody.must("AuthStatus", rpc_pb2.AuthStatusRequest())
    assert (status.enabled, status.authRevision) == (False, 4)
    assert nobody.put(b"a").header.revision == 2


def test_users(client: Client) -> None:
    root = users(client)["root"]
    add, get = rpc_pb2.AuthUserAddRequest, rpc_pb2.AuthUserGetRequest
    assert root.ask("auth", "UserAdd", add(password="x")) == invalid("user name is empty")
    root.add_user("b", "pw")
    root.add_user("a", "pw")
    assert root.ask("auth", "UserAdd", add(name="a", password="x")) == precondition("user name already exists")
    assert root.must("UserList", rpc_pb2.AuthUserListRequest()).users == ["a", "b", "root"]
    assert root.ask("auth", "UserGet", get(name="c")) == precondition("user name not found")
    delete, change = rpc_pb2.AuthUserDeleteRequest, rpc_pb2.AuthUserChangePasswordRequest
    assert root.ask("auth", "UserDelete", delete(name="root")) == MANAGEMENT
    assert root.ask("auth", "UserDelete", delete(name="c")) == precondition("user name not found")
    unknown = root.ask("auth", "UserChangePassword", change(name="c", password="x"))
    assert unknown == precondition("user name not found")
    long = root.ask("auth", "UserAdd", add(name="c", password="x" * 73))
    assert long == Refusal("Unknown", "bcrypt: password length exceeds 72 bytes")
    root.add_user("long", "x" * 72)
    root.log_in("long", "x" * 72)
    assert root.try_log_in("long", "x" * 71) == BAD_LOGIN
    root.must("UserDelete", delete(name="b"))
    assert root.must("UserList", rpc_pb2.AuthUserListRequest()).users == ["a", "long", "root"]


def test_passwords(client: Client) -> None:
    found = users(client, ["a"])
    root, nobody = found["root"], found["nobody"]
    a = nobody.log_in("a", "a")
    assert nobody.try_log_in("a", "b") == BAD_LOGIN
    assert nobody.try_log_in("nobody", "a") == BAD_LOGIN
    assert nobody.try_log_in("", "") == BAD_LOGIN
    change = rpc_pb2.AuthUserChangePasswordRequest
    root.must("UserChangePassword", change(name="a", password="new"))
    assert a.put(b"k") == BAD_TOKEN
    assert nobody.try_log_in("a", "a") == BAD_LOGIN
    assert nobody.log_in("a", "new").put(b"k") == DENIED
    root.must("UserChangePassword", change(name="a"))
    assert nobody.try_log_in("a", "") == BAD_LOGIN
    bad = root.ask("auth", "UserChangePassword", change(name="a", hashedPassword="no base64"))
    assert bad == NO_PASSWORD_USER
    root.add_user("bare", no_password=True)
    assert nobody.try_log_in("bare", "x") == NO_PASSWORD_USER
    assert nobody.try_log_in("bare", "") == NO_PASSWORD_USER
    root.must("UserChangePassword", change(name="bare", password="x"))
    assert nobody.try_log_in("bare", "x") == NO_PASSWORD_USER
    root.add_user("empty", "")
    assert not isinstance(nobody.try_log_in("empty", ""), Refusal)


def test_roles_and_grants(client: Client) -> None:
    root = users(client)["root"]
    assert root.ask("auth", "RoleAdd", rpc_pb2.AuthRoleAddRequest()) == invalid("role name is empty")
    root.add_role("r")
    assert root.ask("auth", "RoleAdd", rpc_pb2.AuthRoleAddRequest(name="r")) == precondition("role name already exists")
    root.add_role("q")
    assert root.must("RoleList", rpc_pb2.AuthRoleListRequest()).roles == ["q", "r"]
    grant, revoke = rpc_pb2.AuthUserGrantRoleRequest, rpc_pb2.AuthUserRevokeRoleRequest
    root.add_user("u", "pw")
    assert root.ask("auth", "UserGrantRole", grant(user="x", role="r")) == precondition("user name not found")
    assert root.ask("auth", "UserGrantRole", grant(user="u", role="x")) == precondition("role name not found")
    for role in ("r", "q", "r", "root"):
        root.must("UserGrantRole", grant(user="u", role=role))
    get = rpc_pb2.AuthUserGetRequest(name="u")
    assert root.must("UserGet", get).roles == ["q", "r", "root"]
    not_granted = precondition("role is not granted to the user")
    assert root.ask("auth", "UserRevokeRole", revoke(name="u", role="x")) == not_granted
    assert root.ask("auth", "UserRevokeRole", revoke(name="x", role="r")) == precondition("user name not found")
    assert root.ask("auth", "UserRevokeRole", revoke(name="root", role="root")) == MANAGEMENT
    root.must("UserRevokeRole", revoke(name="u", role="root"))
    delete = rpc_pb2.AuthRoleDeleteRequest
    assert root.ask("auth", "RoleDelete", delete(role="root")) == MANAGEMENT
    assert root.ask("auth", "RoleDelete", delete(role="x")) == precondition("role name not found")
    root.must("RoleDelete", delete(role="r"))
    assert root.must("UserGet", get).roles == ["q"]
    assert root.ask("auth", "RoleGet", rpc_pb2.AuthRoleGetRequest(role="root")) == precondition("role name not found")
    root.add_role("root")
    told = root.must("RoleGet", rpc_pb2.AuthRoleGetRequest(role="root")).perm
    assert list(told) == [auth_pb2.Permission(permType=READWRITE, range_end=b"\0")]


def test_permissions_of_a_role(client: Client) -> None:
    root = users(client)["root"]
    root.add_role("r")
    grant, revoke = rpc_pb2.AuthRoleGrantPermissionRequest, rpc_pb2.AuthRoleRevokePermissionRequest
    permission = auth_pb2.Permission
    assert root.ask("auth", "RoleGrantPermission", grant(name="r")) == invalid("permission not given")
    for bad in (permission(), permission(key=b"b", range_end=b"a"), permission(key=b"b", range_end=b"b")):
        assert root.ask("auth", "RoleGrantPermission", grant(name="r", perm=bad)) == MANAGEMENT
    good = permission(key=b"b")
    assert root.ask("auth", "RoleGrantPermission", grant(name="x", perm=good)) == precondition("role name not found")
    for kind, key, end in (
        (READ, b"m", b""),
        (WRITE, b"b", b"d"),
        (READ, b"b", b""),
        (READWRITE, b"a", b"\0"),
        (WRITE, b"m", b""),
        (WRITE, b"b", b"d"),
        (READWRITE, b"b", b""),
    ):
        root.grant("r", kind, key, end)
    told = root.must("RoleGet", rpc_pb2.AuthRoleGetRequest(role="r")).perm
    # A second permission that begins with the key is added again instead of being replaced, on etcd too.
    assert [(each.permType, each.key, each.range_end) for each in told] == [
        (READWRITE, b"a", b"\0"),
        (WRITE, b"b", b"d"),
        (READ, b"b", b""),
        (READWRITE, b"b", b""),
        (WRITE, b"m", b""),
    ]
    not_granted = precondition("permission is not granted to the role")
    assert root.ask("auth", "RoleRevokePermission", revoke(role="r", key=b"b", range_end=b"c")) == not_granted
    assert root.ask("auth", "RoleRevokePermission", revoke(role="x", key=b"b")) == precondition("role name not found")
    root.revoke("r", b"b")
    told = root.must("RoleGet", rpc_pb2.AuthRoleGetRequest(role="r")).perm
    assert [each.key for each in told] == [b"a", b"b", b"m"]


def test_what_ranges_a_user_may_read_and_write(client: Client) -> None:
    found = users(client, ["u"])
    root = found["root"]
    for kind, key, end in (
        (READ, b"a", b"c"),
        (READ, b"c", b"e"),
        (WRITE, b"d", b"g"),
        (READ, b"x", b""),
        (READWRITE, b"z", b"\0"),
    ):
        root.grant("u", kind, key, end)
    [u] = logged_in(found, "u")
    for key in (b"a", b"d", b"d\xff", b"x", b"z", b"\xff"):
        assert u.range(key).count == 0, key
    for key in (b"A", b"e", b"f", b"g", b"x\0", b"y"):
        assert u.range(key) == DENIED, key
    for key, end in ((b"a", b"e"), (b"b", b"d"), (b"x", b"x\0"), (b"z", b"\0"), (b"zz", b"\xff"), (b"c", b"a")):
        assert u.range(key, end).count == 0, (key, end)
    for key, end in (
        (b"a", b"f"),
        (b"a", b"\0"),
        (b"A", b"b"),
        (b"x", b"y"),
        (b"y", b"\0"),
        (b"\0", b"\0"),
        (b"g", b"a"),
    ):
        assert u.range(key, end) == DENIED, (key, end)
    assert not isinstance(u.delete(b"d", b"g"), Refusal)
    assert u.delete(b"d", b"g", prev_kv=True) == DENIED
    assert not isinstance(u.delete(b"d", b"e", prev_kv=True), Refusal)
    assert u.delete(b"c", b"e") == DENIED
    assert not isinstance(u.put(b"f"), Refusal)
    assert u.put(b"f", prev_kv=True) == DENIED
    assert not isinstance(u.put(b"d", prev_kv=True), Refusal)
    assert u.put(b"a") == DENIED
    assert not isinstance(u.put(b"\xff\xff"), Refusal)
    assert root.range(b"\0", b"\0").count == 3
    assert found["nobody"].put(b"f") == NOBODY
    assert found["nobody"].range(b"a") == NOBODY


def test_every_operation_of_a_transaction_needs_its_right(client: Client) -> None:
    found = users(client, ["u"])
    found["root"].grant("u", READ, b"r", b"s")
    found["root"].grant("u", WRITE, b"w", b"x")
    [u] = logged_in(found, "u")
    read, write = Op(request_range=rpc_pb2.RangeRequest(key=b"r1")), Op(request_put=rpc_pb2.PutRequest(key=b"w1"))
    delete = Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"w2"))
    compare = rpc_pb2.Compare(key=b"r1", target=rpc_pb2.Compare.VERSION)

    def txn(**fields: Any) -> Any:
        return u.call(client.kv.Txn, rpc_pb2.TxnRequest(**fields))

    allowed = rpc_pb2.TxnRequest(compare=[compare], success=[write], failure=[read, delete])
    assert txn(compare=[compare], success=[write], failure=[read, delete]).succeeded
    assert txn(success=[Op(request_txn=allowed)]).succeeded
    assert txn(compare=[compare], success=[read]).succeeded
    forbidden: dict[str, dict[str, Any]] = {
        "compare": {"compare": [rpc_pb2.Compare(key=b"w1")]},
        "compare with a range": {"compare": [rpc_pb2.Compare(key=b"r1", range_end=b"z")]},
        "read": {"success": [Op(request_range=rpc_pb2.RangeRequest(key=b"w1"))]},
        "range": {"failure": [Op(request_range=rpc_pb2.RangeRequest(key=b"r", range_end=b"z"))]},
        "write in the branch not taken": {"failure": [Op(request_put=rpc_pb2.PutRequest(key=b"r1"))]},
        "what was before": {"success": [Op(request_put=rpc_pb2.PutRequest(key=b"w1", prev_kv=True))]},
        "delete": {"success": [Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"r1"))]},
        "what was deleted": {"success": [Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"w", prev_kv=True))]},
        "nested": {
            "success": [Op(request_txn=rpc_pb2.TxnRequest(failure=[Op(request_put=rpc_pb2.PutRequest(key=b"r"))]))]
        },
        "nested compare": {"failure": [Op(request_txn=rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=b"w")]))]},
    }
    for name, fields in forbidden.items():
        assert txn(**fields) == DENIED, name


def test_leases_belong_to_those_who_may_write_their_keys(client: Client) -> None:
    found = users(client, ["u", "v"])
    root, nobody = found["root"], found["nobody"]
    root.grant("u", READWRITE, b"u", b"v")
    root.grant("v", READWRITE, b"v", b"w")
    u, v = logged_in(found, "u", "v")
    grant, revoke = rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseRevokeRequest
    assert nobody.ask("lease", "LeaseGrant", grant(TTL=100)) == NOBODY
    assert nobody.ask("lease", "LeaseRevoke", revoke(ID=1)) == NOBODY
    lease = u.ask("lease", "LeaseGrant", grant(TTL=100)).ID
    assert not isinstance(u.put(b"u1", lease=lease), Refusal)
    assert v.put(b"v1", lease=lease) == DENIED
    assert v.ask("lease", "LeaseRevoke", revoke(ID=lease)) == DENIED
    live = rpc_pb2.LeaseTimeToLiveRequest
    assert v.ask("lease", "LeaseTimeToLive", live(ID=lease)).grantedTTL == 100
    assert v.ask("lease", "LeaseTimeToLive", live(ID=lease, keys=True)) == DENIED
    assert u.ask("lease", "LeaseTimeToLive", live(ID=lease, keys=True)).keys == [b"u1"]
    assert nobody.ask("lease", "LeaseTimeToLive", live(ID=lease)) == NOBODY
    assert v.ask("lease", "LeaseLeases", rpc_pb2.LeaseLeasesRequest()) == DENIED
    assert [each.ID for each in u.ask("lease", "LeaseLeases", rpc_pb2.LeaseLeasesRequest()).leases] == [lease]
    assert nobody.ask("lease", "LeaseLeases", rpc_pb2.LeaseLeasesRequest()) == NOBODY
    assert root.ask("lease", "LeaseTimeToLive", live(ID=lease, keys=True)).keys == [b"u1"]
    assert not isinstance(u.ask("lease", "LeaseRevoke", revoke(ID=lease)), Refusal)
    missing = Refusal("NotFound", "etcdserver: requested lease not found")
    assert u.ask("lease", "LeaseRevoke", revoke(ID=lease)) == missing
    assert u.put(b"u1", lease=lease) == missing


def test_keeping_a_lease_alive_needs_its_keys(client: Client) -> None:
    found = users(client, ["u", "v"])
    found["root"].grant("u", READWRITE, b"u")
    u, v = logged_in(found, "u", "v")
    lease = u.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)).ID
    assert renewed(v, lease) == 100  # nobody's keys hang on it yet
    u.put(b"u", lease=lease)
    assert renewed(u, lease) == 100
    assert renewed(v, lease) == DENIED
    assert renewed(found["nobody"], lease) == NOBODY
    assert renewed(As(v.client, "no token"), lease) == BAD_TOKEN
    assert renewed(found["root"], lease) == 100


def renewed(who: As, lease: int) -> int | Refusal:
    import grpc

    from tests.support.client import CALL_SECONDS_MAX, refusal_of

    requests = iter([rpc_pb2.LeaseKeepAliveRequest(ID=lease)])
    try:
        [answer] = who.client.lease.LeaseKeepAlive(requests, timeout=CALL_SECONDS_MAX, metadata=who.metadata)
    except grpc.RpcError as error:
        return refusal_of(error)
    return int(answer.TTL)


def test_watches_are_refused_with_the_reason(client: Client) -> None:
    found = users(client, ["u"])
    found["root"].grant("u", READ, b"u", b"v")
    [u] = logged_in(found, "u")
    denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    cases = [
        (u, b"u", b"v", ""),
        (u, b"u", b"w", denied),
        (u, b"", b"", denied),
        (u, b"u", b"\0", denied),
        (found["nobody"], b"u", b"", "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"),
        (As(client, "x.y"), b"u", b"", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"),
        (found["root"], b"", b"\0", ""),
    ]
    for who, key, end, reason in cases:
        with client.watching(who.metadata) as stream:
            stream.create(key, end)
            answer = stream.next()
            assert answer.created
            assert (answer.canceled, answer.cancel_reason) == (bool(reason), reason)
            assert answer.watch_id == (-1 if reason else 0)
    with client.watching(u.metadata) as stream:
        stream.create(b"u1", start_revision=-1)
        assert "compacted" in stream.next().cancel_reason
        stream.create(b"x", b"a")
        assert stream.next().cancel_reason == denied
        stream.create(b"u2", b"u1")
        assert stream.next().cancel_reason == "mvcc: watcher range is empty"
        stream.create(b"u1")
        assert not stream.next().canceled
        found["root"].put(b"u1")
        assert stream.events(1)[0].kv.key == b"u1"


ROOT_ONLY: list[tuple[str, str, Any]] = [
    ("kv", "Compact", rpc_pb2.CompactionRequest(revision=1)),
    ("maintenance", "Defragment", rpc_pb2.DefragmentRequest()),
    ("maintenance", "Hash", rpc_pb2.HashRequest()),
    ("maintenance", "HashKV", rpc_pb2.HashKVRequest()),
    ("maintenance", "MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=5)),
    ("maintenance", "Downgrade", rpc_pb2.DowngradeRequest(version="3.6")),
    ("maintenance", "Alarm", rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE)),
    ("cluster", "MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=["http://127.0.0.1:1"], isLearner=True)),
    ("cluster", "MemberRemove", rpc_pb2.MemberRemoveRequest(ID=5)),
    ("cluster", "MemberUpdate", rpc_pb2.MemberUpdateRequest(ID=5, peerURLs=["http://127.0.0.1:1"])),
    ("cluster", "MemberPromote", rpc_pb2.MemberPromoteRequest(ID=5)),
    ("auth", "AuthEnable", rpc_pb2.AuthEnableRequest()),
    ("auth", "AuthDisable", rpc_pb2.AuthDisableRequest()),
    ("auth", "UserAdd", rpc_pb2.AuthUserAddRequest(name="x", password="x")),
    ("auth", "UserGet", rpc_pb2.AuthUserGetRequest(name="root")),
    ("auth", "UserList", rpc_pb2.AuthUserListRequest()),
    ("auth", "UserDelete", rpc_pb2.AuthUserDeleteRequest(name="u")),
    ("auth", "UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name="u", password="x")),
    ("auth", "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user="u", role="root")),
    ("auth", "UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest(name="u", role="u")),
    ("auth", "RoleAdd", rpc_pb2.AuthRoleAddRequest(name="x")),
    ("auth", "RoleGet", rpc_pb2.AuthRoleGetRequest(role="other")),
    ("auth", "RoleList", rpc_pb2.AuthRoleListRequest()),
    ("auth", "RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role="u")),
    (
        "auth",
        "RoleGrantPermission",
        rpc_pb2.AuthRoleGrantPermissionRequest(name="u", perm=auth_pb2.Permission(key=b"a")),
    ),
    ("auth", "RoleRevokePermission", rpc_pb2.AuthRoleRevokePermissionRequest(role="u", key=b"a")),
]
ANY_USER: list[tuple[str, str, Any]] = [
    ("maintenance", "Status", rpc_pb2.StatusRequest()),
    ("maintenance", "Alarm", rpc_pb2.AlarmRequest()),
    ("cluster", "MemberList", rpc_pb2.MemberListRequest()),
    ("cluster", "MemberList", rpc_pb2.MemberListRequest(linearizable=True)),
    ("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)),
    ("auth", "UserGet", rpc_pb2.AuthUserGetRequest(name="u")),
    ("auth", "RoleGet", rpc_pb2.AuthRoleGetRequest(role="u")),
]


def test_who_may_administer_and_who_may_look(client: Client) -> None:
    found = users(client, ["u"])
    [u] = logged_in(found, "u")
    bad = As(client, "no token")
    for service, method, request in ROOT_ONLY:
        assert u.ask(service, method, request) == DENIED, method
        assert found["nobody"].ask(service, method, request) == NOBODY, method
        assert bad.ask(service, method, request) == BAD_TOKEN, method
        assert found["root"].ask(service, method, request) not in (DENIED, NOBODY) or method == "AuthDisable", method
        if method == "AuthDisable":
            found["nobody"].must("AuthEnable", rpc_pb2.AuthEnableRequest())
            found["root"] = found["nobody"].log_in("root", ROOT_PASSWORD)
            [u] = logged_in(found, "u")
        if method == "UserDelete":
            found["root"].add_user("u", "u", "u")
            [u] = logged_in(found, "u")
        if method == "UserChangePassword":
            u = found["nobody"].log_in("u", "x")
            found["root"].must("UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name="u", password="u"))
            [u] = logged_in(found, "u")
        if method == "UserGrantRole":
            found["root"].must("UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest(name="u", role="root"))


def test_what_any_user_may_look_at(client: Client) -> None:
    found = users(client, ["u"])
    [u] = logged_in(found, "u")
    for service, method, request in ANY_USER:
        assert not isinstance(u.ask(service, method, request), Refusal), method
        nobodys = found["nobody"].ask(service, method, request)
        assert nobodys == NOBODY, method
        assert As(client, "no token").ask(service, method, request) == BAD_TOKEN, method
    status = found["nobody"].must("AuthStatus", rpc_pb2.AuthStatusRequest())
    assert status.enabled
    assert As(client, "no token").ask("auth", "AuthStatus", rpc_pb2.AuthStatusRequest()) == BAD_TOKEN


def test_tokens_come_in_two_headers(client: Client) -> None:
    root = users(client)["root"]
    for who in (
        As(client, root.token, "authorization"),
        As(client, f"Bearer {root.token}", "authorization"),
        As(client, f"Bearer {root.token}"),
    ):
        assert not isinstance(who.put(b"a"), Refusal)
    assert As(client, f"bearer {root.token}", "authorization").put(b"a") == BAD_TOKEN
    letters, point, index = root.token.partition(".")
    assert len(letters) == 16
    assert letters.isalpha()
    assert point
    assert index.isdigit()
    for token in (letters, f"{letters}.", f"{letters}.{index}.", f".{index}", f"{letters}.-1", f"{letters}.x", "."):
        assert As(client, token).put(b"a") == BAD_TOKEN, token


def test_reads_that_need_no_log_are_judged_as_well(client: Client) -> None:
    found = users(client, ["u"])
    found["root"].grant("u", READ, b"u")
    [u] = logged_in(found, "u")
    found["root"].put(b"secret", b"s")
    assert u.range(b"secret", serializable=True) == DENIED
    assert u.range(b"u", serializable=True).count == 0
    assert found["nobody"].range(b"secret", serializable=True) == NOBODY
    assert u.range(b"secret", count_only=True) == DENIED
    assert u.range(b"secret", b"t", keys_only=True, limit=1) == DENIED
    assert streamed(u, b"secret") == DENIED
    assert streamed(found["root"], b"secret") == 1
    assert streamed(found["nobody"], b"secret") == NOBODY
    empty = rpc_pb2.RangeRequest()
    assert u.call(client.kv.Range, empty) == invalid("key is not provided")


def streamed(who: As, key: bytes) -> int | Refusal:
    import grpc

    from tests.support.client import CALL_SECONDS_MAX, refusal_of

    request = rpc_pb2.RangeRequest(key=key)
    try:
        chunks = list(who.client.kv.RangeStream(request, timeout=CALL_SECONDS_MAX, metadata=who.metadata))
    except grpc.RpcError as error:
        return refusal_of(error)
    return sum(len(chunk.range_response.kvs) for chunk in chunks)


def test_an_expired_lease_goes_although_nobody_asks(client: Client) -> None:
    from tests.support.client import wait_until

    found = users(client, ["u"])
    found["root"].grant("u", READWRITE, b"u")
    [u] = logged_in(found, "u")
    lease = u.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=1)).ID
    u.put(b"u", lease=lease)
    wait_until(lambda: u.range(b"u").count == 0, 8)
