"""Each published weakness of etcd's users and roles, by name, on etcd 3.7 (which has them mended) and on etcdpy.

Where a test runs on etcdpy alone, its first line says what etcd does instead.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcdpy.proto import auth_pb2, rpc_pb2
from pki import keys
from tests.interop.test_auth import BAD_TOKEN, DENIED, NOBODY, OLD, renewed
from tests.support.certificates import TestAuthority, utc_now
from tests.support.client import Client, Refusal, refusal_of, wait_until
from tests.support.members import Member, TlsFiles
from tests.support.users import FAST_HASHES, READ, READWRITE, ROOT_PASSWORD, WRITE, As, client_of, logged_in, users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind

Op = rpc_pb2.RequestOp
PASSWORD = "correct horse battery staple"


@pytest.fixture
def member(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(kind, tmp_path_factory.mktemp(kind), flags=[FAST_HASHES, "--log-level=debug"]) as running:
        yield running


@pytest.fixture
def client(member: Member) -> Iterator[Client]:
    with Client.of(member) as connected:
        yield connected


ONLY_ETCDPY = pytest.mark.parametrize("kind", ["etcdpy"], indirect=True)
"""Where etcdpy is stricter; the test says what etcd does."""


def test_watch_from_a_key_on_with_a_grant_on_that_key_alone(client: Client) -> None:
    """GHSA-xg4h-6gfc-h4m8: READ on one key let a client watch every key from there on."""
    found = users(client, ["u"])
    found["root"].grant("u", READ, b"a")
    [u] = logged_in(found, "u")
    for end in (b"\0", b"b", b"a\0\0"):
        with client.watching(u.metadata) as stream:
            stream.create(b"a", end)
            assert "permission denied" in stream.next().cancel_reason, end


def test_watch_bypass_by_the_empty_key(client: Client) -> None:
    """A watch without a key is one of the smallest key, whatever its range end."""
    found = users(client, ["u"])
    found["root"].grant("u", READ, b"u")
    [u] = logged_in(found, "u")
    with client.watching(u.metadata) as stream:
        for end in (b"", b"\0", b"z"):
            stream.create(b"", end)
            assert "permission denied" in stream.next().cancel_reason


def test_nested_transactions_are_no_way_round(client: Client) -> None:
    """GHSA-rfx7-8w68-q57q: what stood in a nested transaction was not judged."""
    found = users(client, ["u"])
    [u] = logged_in(found, "u")
    for operation in (
        Op(request_put=rpc_pb2.PutRequest(key=b"secret")),
        Op(request_range=rpc_pb2.RangeRequest(key=b"secret")),
        Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"secret")),
    ):
        nested = operation
        for _ in range(3):
            nested = Op(request_txn=rpc_pb2.TxnRequest(success=[nested]))
            assert u.call(client.kv.Txn, rpc_pb2.TxnRequest(success=[nested])) == DENIED
            assert u.call(client.kv.Txn, rpc_pb2.TxnRequest(failure=[nested])) == DENIED


def test_prev_kv_and_leases_in_a_transaction(client: Client) -> None:
    """CVE-2026-44283: a put in a transaction showed what it replaced, and took a foreign lease."""
    found = users(client, ["u", "v"])
    found["root"].grant("u", WRITE, b"w")
    found["root"].grant("v", READWRITE, b"v")
    u, v = logged_in(found, "u", "v")
    lease = v.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)).ID
    v.put(b"v", lease=lease)
    for put in (rpc_pb2.PutRequest(key=b"w", prev_kv=True), rpc_pb2.PutRequest(key=b"w", lease=lease)):
        assert u.call(client.kv.Put, put) == DENIED
        request = rpc_pb2.TxnRequest(success=[Op(request_put=put)])
        assert u.call(client.kv.Txn, request) == DENIED
    assert not isinstance(u.put(b"w"), Refusal)


def test_lease_bypass_key_names_by_time_to_live(client: Client) -> None:
    """CVE-2023-32082: LeaseTimeToLive named the keys of a lease to whoever asked."""
    found = users(client, ["u"])
    [u] = logged_in(found, "u")
    root = found["root"]
    lease = root.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)).ID
    root.put(b"secret", lease=lease)
    assert u.ask("lease", "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)) == DENIED
    told = u.ask("lease", "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease))
    assert (told.grantedTTL, list(told.keys)) == (100, [])


def test_calls_without_a_user(client: Client) -> None:
    """GHSA-q8m4-xhhv-38mg: MemberList, Alarm, leases and compaction asked nobody who they were."""
    found = users(client, ["u"])
    [u] = logged_in(found, "u")
    nobody, root = found["nobody"], found["root"]
    lease = root.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)).ID
    root.put(b"secret", lease=lease)
    raise_alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc_pb2.NOSPACE)
    calls: list[tuple[str, str, Any]] = [
        ("cluster", "MemberList", rpc_pb2.MemberListRequest()),
        ("maintenance", "Alarm", rpc_pb2.AlarmRequest()),
        ("maintenance", "Alarm", raise_alarm),
        ("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)),
        ("lease", "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease)),
        ("lease", "LeaseLeases", rpc_pb2.LeaseLeasesRequest()),
        ("lease", "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease)),
        ("kv", "Compact", rpc_pb2.CompactionRequest(revision=1)),
        ("maintenance", "Status", rpc_pb2.StatusRequest()),
    ]
    for service, method, request in calls:
        assert nobody.ask(service, method, request) == NOBODY, method
    assert renewed(nobody, lease) == NOBODY
    assert renewed(u, lease) == DENIED
    assert u.ask("maintenance", "Alarm", raise_alarm) == DENIED
    assert list(root.ask("maintenance", "Alarm", rpc_pb2.AlarmRequest()).alarms) == []


def test_compaction_and_defragmentation_without_root(client: Client) -> None:
    found = users(client, ["u"])
    found["root"].grant("u", READWRITE, b"\0", b"\0")
    [u] = logged_in(found, "u")
    for number in range(3):
        u.put(b"k%d" % number)
    for service, method, request in (
        ("kv", "Compact", rpc_pb2.CompactionRequest(revision=3)),
        ("maintenance", "Defragment", rpc_pb2.DefragmentRequest()),
        ("maintenance", "HashKV", rpc_pb2.HashKVRequest()),
    ):
        assert u.ask(service, method, request) == DENIED
    assert u.range(b"k0", revision=2).count == 1, "nothing was compacted"
    with pytest.raises(grpc.RpcError) as caught:
        list(client.maintenance.Snapshot(rpc_pb2.SnapshotRequest(), timeout=10, metadata=u.metadata))
    assert refusal_of(caught.value) == DENIED


def test_the_token_of_a_deleted_user(client: Client) -> None:
    found = users(client, ["u"])
    found["root"].grant("u", READWRITE, b"u")
    [u] = logged_in(found, "u")
    assert not isinstance(u.put(b"u"), Refusal)
    found["root"].must("UserDelete", rpc_pb2.AuthUserDeleteRequest(name="u"))
    for answer in (u.put(b"u"), u.range(b"u"), u.ask("maintenance", "Status", rpc_pb2.StatusRequest())):
        assert answer == BAD_TOKEN
    found["root"].add_user("u", "u", "u")
    assert u.put(b"u") == BAD_TOKEN, "nor does it count for the next of that name"


def test_the_token_from_before_users_were_switched_off(client: Client) -> None:
    root = users(client)["root"]
    root.must("AuthDisable", rpc_pb2.AuthDisableRequest())
    As(client).must("AuthEnable", rpc_pb2.AuthEnableRequest())
    assert root.put(b"a") == BAD_TOKEN


def test_the_password_is_nowhere(member: Member, client: Client) -> None:
    """CVE-2021-28235 and GHSA-528j-9r78-wffx: passwords in debug output and in the write-ahead log."""
    found = users(client)
    root, nobody = found["root"], found["nobody"]
    root.add_user("u", PASSWORD)
    nobody.log_in("u", PASSWORD)
    nobody.try_log_in("u", f"{PASSWORD}, but wrong")
    root.must("UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name="u", password=f"{PASSWORD} again"))
    token = nobody.log_in("u", f"{PASSWORD} again").token
    page = member.http("GET", "/metrics").body + member.http("GET", "/debug/vars").body
    member.stop()
    assert PASSWORD.encode() not in page
    assert PASSWORD not in member.log_text()
    assert token not in member.log_text()
    held = [path for path in member.data_dir.rglob("*") if path.is_file()]
    assert held
    for path in held:
        assert PASSWORD.encode() not in path.read_bytes(), path


@ONLY_ETCDPY
def test_the_password_of_a_user_without_one_is_nowhere(member: Member, client: Client) -> None:
    """etcd writes it into its log: such a user's password is not hashed, and stays in the request."""
    root = users(client)["root"]
    options = auth_pb2.UserAddOptions(no_password=True)
    root.must("UserAdd", rpc_pb2.AuthUserAddRequest(name="u", password=PASSWORD, options=options))
    member.stop()
    for path in member.data_dir.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def test_an_old_auth_revision_after_a_restart(member: Member, client: Client) -> None:
    """etcd issue 11651: a member came back with another auth revision than its cluster and refused what others took."""
    found = users(client, ["u"])
    found["root"].grant("u", READWRITE, b"u")
    revision = found["nobody"].must("AuthStatus", rpc_pb2.AuthStatusRequest()).authRevision
    member.stop()
    member.start()
    wait_until(lambda: not isinstance(found["nobody"].ask("auth", "AuthStatus", rpc_pb2.AuthStatusRequest()), Refusal))
    status = found["nobody"].must("AuthStatus", rpc_pb2.AuthStatusRequest())
    assert (status.enabled, status.authRevision) == (True, revision)
    assert found["nobody"].put(b"u") == NOBODY
    [u] = logged_in(found, "u")
    assert not isinstance(u.put(b"u"), Refusal)
    assert u.put(b"v") == DENIED


@ONLY_ETCDPY
def test_a_watcher_ends_when_its_right_is_gone(client: Client) -> None:
    """etcd goes on to send events until the client goes."""
    found = users(client, ["u", "v"])
    root = found["root"]
    for name in ("u", "v"):
        root.grant(name, READ, b"k", b"l")
    u, v = logged_in(found, "u", "v")
    denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    with client.watching(u.metadata) as stream, client.watching(v.metadata) as other:
        for each in (stream, other):
            each.create(b"k", b"l")
            each.create(b"k2")
            each.next()
            each.next()
        root.put(b"k1")
        assert stream.next().events[0].kv.key == b"k1"
        assert other.next().events[0].kv.key == b"k1"
        root.grant("u", READ, b"k1")
        root.revoke("u", b"k", b"l")
        for watch_id in (0, 1):
            ended = stream.next()
            assert (ended.watch_id, ended.canceled, ended.cancel_reason) == (watch_id, True, denied)
        root.put(b"k2")
        assert stream.quiet_for(0.3)
        assert {other.next().watch_id, other.next().watch_id} == {0, 1}
        stream.create(b"k1")
        assert "revision of auth store is old" not in stream.next().cancel_reason
        root.must("UserDelete", rpc_pb2.AuthUserDeleteRequest(name="u"))
        assert stream.next().canceled


@ONLY_ETCDPY
def test_watchers_from_before_users_were_switched_on(client: Client) -> None:
    """etcd goes on to serve them whoever they are."""
    nobody = As(client)
    with client.watching() as stream:
        stream.create(b"k")
        stream.next()
        nobody.put(b"k")
        stream.next()
        root = nobody.enable()
        ended = stream.next()
        assert ended.canceled
        assert ended.cancel_reason == "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        root.put(b"k")
        assert stream.quiet_for(0.3)


# --- certificates ---


def without_common_name(authority: TestAuthority, directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = utc_now()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nameless")]))
        .issuer_name(authority.authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(authority.authority.key, hashes.SHA256())
    )
    cert, key_file = directory / "nameless.pem", directory / "nameless-key.pem"
    cert.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(keys.to_pem(key))
    return cert, key_file


class Certified:
    """A member with mutual TLS, and clients by the name in their certificate."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.authority = TestAuthority(directory)
        server = self.authority.issue("server", "server")
        self.server = Path(server.cert), Path(server.key)
        self.directory = directory
        self.member = Member(kind, directory, tls=self._files("root"), flags=[FAST_HASHES])
        self.clients: list[Client] = []

    def _files(self, name: str) -> TlsFiles:
        if name:
            leaf = self.authority.issue("client", f"client-{name}", cn=name)
            pair = Path(leaf.cert), Path(leaf.key)
        else:
            pair = without_common_name(self.authority, self.directory)
        return TlsFiles(Path(self.authority.path), *self.server, *pair)

    def client(self, name: str) -> As:
        connected = client_of(self.member, self._files(name))
        self.clients.append(connected)
        return As(connected)


@pytest.fixture
def certified(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    made = Certified(kind, tmp_path_factory.mktemp(kind))
    with made.member:
        yield made
        for client in made.clients:
            client.close()


def test_the_common_name_is_the_user(certified: Certified) -> None:
    root, u = certified.client("root"), certified.client("u")
    root.enable()
    root.add_role("u", (READWRITE, b"u", b"v"))
    root.add_user("u", "", "u", no_password=True)
    assert not isinstance(root.put(b"a"), Refusal)
    assert not isinstance(u.put(b"u1"), Refusal)
    assert u.range(b"u1").count == 1
    assert u.put(b"a") == DENIED
    assert u.ask("kv", "Compact", rpc_pb2.CompactionRequest(revision=1)) == DENIED
    assert u.ask("auth", "UserGet", rpc_pb2.AuthUserGetRequest(name="u")).roles == ["u"]
    with u.client.watching() as stream:
        stream.create(b"u", b"v")
        assert not stream.next().canceled
        stream.create(b"a")
        assert "permission denied" in stream.next().cancel_reason
    # A token comes before the certificate.
    by_token = As(u.client, root.log_in("root", ROOT_PASSWORD).token)
    assert not isinstance(by_token.put(b"a"), Refusal)
    assert As(u.client, "x.y").put(b"u1") == BAD_TOKEN
    # The right of the certificate's user is that of the moment: no login that could be old.
    root.revoke("u", b"u", b"v")
    assert u.put(b"u1") == DENIED


def test_a_certificate_without_a_user(certified: Certified) -> None:
    root, stranger = certified.client("root"), certified.client("stranger")
    root.enable()
    assert stranger.put(b"a") == DENIED
    assert stranger.range(b"a") == DENIED
    refused = stranger.ask("kv", "Compact", rpc_pb2.CompactionRequest(revision=1))
    assert refused == Refusal("FailedPrecondition", "etcdserver: user name not found")


def test_an_empty_common_name(certified: Certified) -> None:
    root, nameless = certified.client("root"), certified.client("")
    root.enable()
    assert nameless.put(b"a") == DENIED
    assert nameless.range(b"a") == DENIED
    for service, method, request in (
        ("kv", "Compact", rpc_pb2.CompactionRequest(revision=1)),
        ("auth", "UserList", rpc_pb2.AuthUserListRequest()),
        ("cluster", "MemberRemove", rpc_pb2.MemberRemoveRequest(ID=1)),
    ):
        assert nameless.ask(service, method, request) == NOBODY


@ONLY_ETCDPY
def test_an_empty_common_name_is_nobody_for_the_rest_too(certified: Certified) -> None:
    """etcd takes it for somebody where any user will do: leases, the members, Status."""
    root, nameless = certified.client("root"), certified.client("")
    root.enable()
    assert nameless.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=100)) == NOBODY
    assert nameless.ask("cluster", "MemberList", rpc_pb2.MemberListRequest()) == NOBODY
    assert nameless.ask("maintenance", "Status", rpc_pb2.StatusRequest()) == NOBODY


def test_the_gateways_common_name_is_no_user(certified: Certified) -> None:
    """CVE-2018-16886: through the JSON gateway everybody was the user of the gateway's own certificate."""
    root = certified.client("root")
    root.enable()
    through_gateway = As(root.client)
    through_gateway.metadata = (("grpcgateway-accept", "*/*"),)
    assert through_gateway.put(b"a") == NOBODY
    assert through_gateway.ask("auth", "UserList", rpc_pb2.AuthUserListRequest()) == NOBODY
    assert not isinstance(root.put(b"a"), Refusal)


def test_requests_under_way_when_rights_change_are_judged_by_the_new_ones(client: Client) -> None:
    """The check at the time of the request alone would let a change pass by."""
    found = users(client, ["u"])
    root = found["root"]
    root.grant("u", READWRITE, b"u")
    [u] = logged_in(found, "u")
    before: list[Any] = []
    after: list[Any] = []
    for number in range(200):
        request = rpc_pb2.PutRequest(key=b"u", value=b"%d" % number)
        under_way = client.kv.Put.future(request, metadata=u.metadata, timeout=10)
        (before if number < 100 else after).append(under_way)
        if number == 99:
            root.revoke("u", b"u")
    allowed = (None, DENIED, OLD)
    assert all(refused(each) in allowed for each in before)
    assert all(refused(each) in (DENIED, OLD) for each in after)


def refused(under_way: Any) -> Refusal | None:
    try:
        under_way.result()
    except grpc.RpcError as error:
        return refusal_of(error)
    return None
