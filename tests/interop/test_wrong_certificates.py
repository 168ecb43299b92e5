"""Whoever comes with the wrong certificate is refused on the client port and on the peer port, and the log says why.

Real etcd stands beside: what it refuses, it says in the words that ours begin with. `docs/tls.md` has the table.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Leaf, TestAuthority, client, utc_now
from tests.support.client import wait_until
from tests.support.members import Kind, Member, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "tls.md"
DOORS: Final = ("client", "peer")
GOOD: Final[dict[str, Any]] = {"cn": "alice", "dns": ("alice.example",), "ip": ("127.0.0.1",)}
YEAR: Final = datetime.timedelta(days=400)
SUITE: Final = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"


class World:
    """An authority, another one, and the certificates that members and their visitors show."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = TestAuthority(directory, now=utc_now() - YEAR)
        elsewhere = directory / "elsewhere"
        elsewhere.mkdir()
        self.other = TestAuthority(elsewhere, "other")
        self.member = self.authority.issue("peer", "m1")
        self.shown = (directory / "shown.pem", directory / "shown-key.pem")
        self.show(self.member)
        self.good = {door: self.issue(door, f"good-{door}") for door in DOORS}
        self.revoked = {door: self.issue(door, f"revoked-{door}") for door in DOORS}
        self.crl = directory / "revoked.crl"
        serials = [leaf.serial for leaf in self.revoked.values()]
        self.crl.write_bytes(self.authority.revocation_list(*serials).public_bytes(Encoding.DER))

    def issue(self, profile: str, name: str, *, by: TestAuthority | None = None, **changed: Any) -> Leaf:
        return (by or self.authority).issue(profile, name, **{**GOOD, **changed})

    def show(self, leaf: Leaf) -> None:
        """From now on the member of the file shows this one, to clients and to members."""
        for source, target in zip((leaf.cert, leaf.key), self.shown, strict=True):
            target.write_bytes(Path(source).read_bytes())


@dataclass(frozen=True, slots=True)
class Wrong:
    """A kind of visitor. `etcd` is how real etcd begins its reason, `ours` what we say beyond that."""

    kind: str
    etcd: str
    ours: str
    leaf: Callable[[World, str], Leaf | None]
    by: str = "flags"
    """Which of the two members refuses it: the one that goes by flags, or the one by a configuration file."""
    doors: tuple[str, ...] = DOORS
    change: Callable[[ssl.SSLContext], None] = lambda _: None


def old_protocol(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1


def weak_ciphers(context: ssl.SSLContext) -> None:
    """One without encryption, and one that is good enough for OpenSSL but stands not in --cipher-suites."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-NULL-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")


UNVERIFIED: Final = "tls: failed to verify certificate: x509: "
WRONG: Final = (
    Wrong("no certificate", "tls: client didn't provide a certificate", "demands one", lambda *_: None),
    Wrong(
        "another authority",
        f"{UNVERIFIED}certificate signed by unknown authority",
        'its issuer "CN=test other" is not among the trusted ones',
        lambda world, door: world.issue(door, f"strange-{door}", by=world.other),
    ),
    Wrong(
        "expired",
        f"{UNVERIFIED}certificate has expired or is not yet valid",
        "expired at",
        lambda world, door: world.issue(door, f"old-{door}", days=30, now=utc_now() - YEAR / 2),
    ),
    Wrong(
        "not yet valid",
        f"{UNVERIFIED}certificate has expired or is not yet valid",
        "not valid before",
        lambda world, door: world.issue(door, f"early-{door}", now=utc_now() + YEAR),
    ),
    Wrong(
        "revoked",
        "transport: certificate serial",
        "is revoked by",
        lambda world, door: world.revoked[door],
    ),
    Wrong(
        "a server's certificate",
        f"{UNVERIFIED}certificate specifies an incompatible key usage",
        "not meant for client authentication",
        lambda world, door: world.issue("server", f"serving-{door}"),
    ),
    Wrong(
        "common name not allowed",
        "client certificate authentication failed",
        'common name "mallory" is not in',
        lambda world, door: world.issue(door, f"mallory-{door}", cn="mallory"),
        by="file",
    ),
    Wrong(
        "host name not allowed",
        "client certificate authentication failed",
        "no name in the client certificate is allowed by",
        lambda world, door: world.issue(door, f"unnamed-{door}", dns=("mallory.example",)),
    ),
    Wrong(
        "an address that it does not name",
        "x509: certificate is valid for 10.1.2.3, not 127.0.0.1",
        "",
        lambda world, door: world.issue(door, f"away-{door}", dns=(), ip=("10.1.2.3",)),
        by="file",
        doors=("peer",),
    ),
    Wrong(
        "TLS 1.1",
        "tls: client offered only unsupported versions",
        "this port takes tls-min-version TLS1.2",
        lambda world, door: world.good[door],
        change=old_protocol,
    ),
    Wrong(
        "a weak cipher",
        "tls: no cipher suite supported by both client and server",
        "see cipher-suites",
        lambda world, door: world.good[door],
        change=weak_ciphers,
    ),
)
CASES: Final = [pytest.param(wrong, door, id=f"{wrong.kind}-{door}") for wrong in WRONG for door in wrong.doors]


class Guarded(Member):
    """A member whose two ports ask for certificates. They allow host names, or, by a file, common names."""

    def __init__(self, kind: Kind, world: World, name: str) -> None:
        good, cert, key = world.good["client"], Path(world.member.cert), Path(world.member.key)
        files = TlsFiles(Path(world.authority.path), cert, key, Path(good.cert), Path(good.key))
        super().__init__(kind, world.directory, name=name, tls=files)
        if name.endswith("file"):
            self.flags = [f"--config-file={self.written(world)}"]
            return
        self.flags = [f"--client-crl-file={world.crl}", f"--peer-crl-file={world.crl}", f"--cipher-suites={SUITE}"]
        self.flags += [f"--{door}-cert-allowed-hostname=alice.example" for door in DOORS]

    @property
    def peer_url(self) -> str:
        return f"https://127.0.0.1:{self.peer_port}"

    def peer_flags(self) -> list[str]:
        assert self.tls is not None
        return [
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.name}={self.peer_url}",
            f"--peer-cert-file={self.tls.server_cert}",
            f"--peer-key-file={self.tls.server_key}",
            f"--peer-trusted-ca-file={self.tls.ca}",
            "--peer-client-cert-auth",
        ]

    def written(self, world: World) -> Path:
        """The same as a configuration file, which allows common names on the client port, as no flag does."""
        cert, key = map(str, world.shown)
        security = {"cert-file": cert, "key-file": key, "client-cert-auth": True}
        security |= {"trusted-ca-file": world.authority.path, "allowed-cn": ["alice"]}
        settings = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": f"{self.name}={self.peer_url}",
            "client-transport-security": security,
            "peer-transport-security": security,
        }
        path = self.directory / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def knock(self, door: str, context: ssl.SSLContext) -> tuple[str, bytes]:
        """Who asked for /version, and the answer; none where the connection was refused."""
        port = self.client_port if door == "client" else self.peer_port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            address = "{}:{}".format(*plain.getsockname())
            try:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                    secure.sendall(b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    return address, secure.recv(65_536)
            except (ssl.SSLError, ConnectionError):
                return address, b""

    def refusal_of(self, door: str, address: str) -> str:
        """Why it refused whoever came from that address, as its log says."""
        found: list[str] = []

        def logged() -> bool:
            lines = (json.loads(line) for line in self.log_text().splitlines() if f'"{address}"' in line)
            message = f"rejected connection on {door} endpoint"
            found[:] = [line["error"] for line in lines if (line["msg"], line["remote-addr"]) == (message, address)]
            return bool(found)

        wait_until(logged, 10)
        assert len(found) == 1, found
        return found[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def guarded(kind: Kind, world: World) -> Iterator[dict[str, Guarded]]:
    """The two members of one kind, by how they were configured."""
    members = {by: Guarded(kind, world, f"{kind}-{by}") for by in ("flags", "file")}
    with contextlib.ExitStack() as running:
        for member in members.values():
            running.callback(member.stop)
            member.launch()
        for member in members.values():
            member.wait_ready()
        yield members


@pytest.mark.parametrize("door", DOORS)
def test_the_right_certificate_is_let_in(guarded: dict[str, Guarded], world: World, door: str) -> None:
    for member in guarded.values():
        _, answer = member.knock(door, client(world.authority.path, world.good[door]))
        assert answer.startswith(b"HTTP/1.1 200"), answer


@pytest.mark.parametrize(("wrong", "door"), CASES)
def test_a_wrong_one_is_refused_and_the_log_says_why(
    guarded: dict[str, Guarded], world: World, wrong: Wrong, door: str
) -> None:
    member = guarded[wrong.by]
    context = client(world.authority.path, wrong.leaf(world, door))
    wrong.change(context)
    address, answer = member.knock(door, context)
    assert answer == b""
    reason = member.refusal_of(door, address)
    assert reason.startswith(wrong.etcd), reason
    if member.kind == "etcdpy":
        assert wrong.ours in reason


@dataclass(frozen=True, slots=True)
class WrongServer:
    """What a member shows, and how the refusal of whoever dialed it begins and goes on in its log."""

    kind: str
    etcd: str
    ours: str
    leaf: Callable[[World], Leaf]


WRONG_SERVERS: Final = (
    WrongServer(
        "a server of another authority",
        "remote error: tls: unknown certificate authority",
        "does not trust the issuer of",
        lambda world: world.issue("peer", "foreign", by=world.other),
    ),
    WrongServer(
        "an expired server",
        "remote error: tls: expired certificate",
        "says that it is expired",
        lambda world: world.issue("peer", "stale", days=30, now=utc_now() - YEAR / 2),
    ),
    WrongServer(
        "a server that is not yet valid",
        "remote error: tls: bad certificate",
        "does not accept",
        lambda world: world.issue("peer", "unripe", now=utc_now() + YEAR),
    ),
    WrongServer(
        "a client's certificate as server",
        "remote error: tls: unsupported certificate",
        "cannot use",
        lambda world: world.issue("client", "calling"),
    ),
    WrongServer(
        "a server by another name",
        "remote error: tls: bad certificate",
        "does not accept",
        lambda world: world.issue("peer", "elsewhere", dns=("elsewhere.example",), ip=("10.1.2.3",)),
    ),
)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", WRONG_SERVERS, ids=lambda wrong: wrong.kind)
def test_a_member_with_a_wrong_one_is_refused_and_its_log_says_so(
    guarded: dict[str, Guarded], world: World, wrong: WrongServer, door: str
) -> None:
    member = guarded["file"]
    context = client(world.authority.path, world.good[door])
    if member.kind == "etcd":
        # Go cannot read what OpenSSL says under TLS 1.3 once it has seen the certificate: "bad record MAC".
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    world.show(wrong.leaf(world))
    try:
        address, answer = member.knock(door, context)
    finally:
        world.show(world.member)
    assert answer == b""
    reason = member.refusal_of(door, address)
    assert reason.startswith(wrong.etcd), reason
    if member.kind == "etcdpy":
        assert wrong.ours in reason
        assert str(world.shown[0]) in reason


def test_the_page_has_a_line_for_each() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    told = {row[0]: row[1] for row in rows if len(row) > 1}
    for wrong in (*WRONG, *WRONG_SERVERS):
        assert wrong.etcd in told[wrong.kind], wrong.kind
        assert wrong.ours in told[wrong.kind], wrong.kind
