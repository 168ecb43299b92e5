"""Founding members of both kinds that find each other by DNS, and by a discovery service with TLS and users."""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.certificates import TestAuthority, utc_now
from tests.support.client import Client
from tests.support.members import Kind, Member, TlsFiles
from tests.support.name_server import name_server, own_resolver
from tests.support.reference import reference_binary
from tests.support.users import FAST_HASHES, READWRITE, As, users

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.reference

OTHER: dict[Kind, Kind] = {"etcd": "etcdpy", "etcdpy": "etcd"}
DOMAIN = "cluster.test"
NAMES = ("d1", "d2", "d3")


def tls_files(authority: TestAuthority, *, days_ago: int = 0) -> TlsFiles:
    """A server's certificate and a client's; the server's may have ended some days ago."""
    issued = utc_now() - datetime.timedelta(days=days_ago)
    dns = (DOMAIN, *(f"{name}.{DOMAIN}" for name in NAMES))
    server = authority.issue("server", "server", dns=dns, ip=("127.0.0.1",), days=1 if days_ago else None, now=issued)
    shown = authority.issue("client", "client")
    return TlsFiles(*(Path(each) for each in (authority.path, server.cert, server.key, shown.cert, shown.key)))


def records(members: Sequence[Member], *, service_names: str = "", tls: bool) -> dict[tuple[str, str], list[str]]:
    """What DNS says of these members: an address each, and the services of members and clients."""
    table = {(f"{each.name}.{DOMAIN}", "A"): ["127.0.0.1"] for each in members}
    for service, ports in (
        ("etcd-server", [each.peer_port for each in members]),
        ("etcd-client", [each.client_port for each in members]),
    ):
        name = f"_{service}{'-ssl' if tls else ''}{service_names}._tcp.{DOMAIN}"
        table[name, "SRV"] = [f"0 0 {port} {each.name}.{DOMAIN}." for port, each in zip(ports, members, strict=True)]
    return table


def peer_flags(member: Member, *more: str, tls: bool) -> list[str]:
    """Flags after those of a lone founder, so that these win."""
    scheme = "https" if tls else "http"
    return [
        "--initial-cluster=",
        f"--listen-peer-urls={scheme}://127.0.0.1:{member.peer_port}",
        f"--initial-advertise-peer-urls={scheme}://{member.name}.{DOMAIN}:{member.peer_port}",
        f"--discovery-srv={DOMAIN}",
        *more,
    ]


def listed(member: Member) -> rpc_pb2.MemberListResponse:
    with Client.of(member) as client:
        return client.cluster.MemberList(rpc_pb2.MemberListRequest(linearizable=True), timeout=10)


@contextlib.contextmanager
def found(members: Sequence[Member], *, seconds_before_last: float = 0) -> Iterator[list[rpc_pb2.Member]]:
    """Start them together; the members as each of them lists them, which must be the same."""
    try:
        for member in members:
            if member is members[-1]:
                time.sleep(seconds_before_last)
            member.launch()
        for member in members:
            member.wait_ready()
        # A name comes with the first thing that its member writes.
        until = time.monotonic() + 10
        while not all(each.name for member in members for each in listed(member).members):
            assert time.monotonic() < until, listed(members[0])
            time.sleep(0.05)
        lists = [listed(member) for member in members]
        assert len({each.header.cluster_id for each in lists}) == 1
        assert len({each.header.member_id for each in lists}) == len(lists[0].members) == len(members)
        yield list(lists[0].members)
    finally:
        for member in members:
            member.kill()


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    try:
        with name_server({}, path):
            pass
    except PermissionError as reason:
        pytest.skip(str(reason))
    return path


class TestByDns:
    def test_plainly(self, kind: Kind, tmp_path: Path, resolv_conf: Path) -> None:
        kinds = (kind, OTHER[kind], kind)
        members = [
            Member(each, tmp_path / name, name=name, wrapper=own_resolver(resolv_conf))
            for each, name in zip(kinds, NAMES, strict=True)
        ]
        for member in members:
            member.flags = peer_flags(member, tls=False)
        with name_server(records(members, tls=False), resolv_conf), found(members) as listed:
            assert {each.name: list(each.peerURLs) for each in listed} == {
                each.name: [f"http://{each.name}.{DOMAIN}:{each.peer_port}"] for each in members
            }

    def test_over_tls_under_a_service_name(self, kind: Kind, tmp_path: Path, resolv_conf: Path) -> None:
        """The certificates of members name no address: who dials in is looked up by the names that they have."""
        authority = TestAuthority(tmp_path)
        tls = tls_files(authority)
        members = []
        for each, name in zip((kind, OTHER[kind], kind), NAMES, strict=True):
            member = Member(each, tmp_path / name, name=name, tls=tls, wrapper=own_resolver(resolv_conf))
            pair = authority.issue("peer", f"peer-{name}", dns=(f"{name}.{DOMAIN}",))
            member.flags = peer_flags(
                member,
                "--discovery-srv-name=blue",
                f"--peer-cert-file={pair.cert}",
                f"--peer-key-file={pair.key}",
                f"--peer-trusted-ca-file={tls.ca}",
                "--peer-client-cert-auth",
                tls=True,
            )
            members.append(member)
        with (
            name_server(records(members, service_names="-blue", tls=True), resolv_conf),
            found(members) as listed,
        ):
            assert {each.name: list(each.peerURLs) for each in listed} == {
                each.name: [f"https://{each.name}.{DOMAIN}:{each.peer_port}"] for each in members
            }
            if kind == "etcdpy":
                said = members_by_etcdctl(tls, resolv_conf)
                assert said.count(", started, ") == len(members), said

    def test_who_is_not_listed_cannot_found(self, kind: Kind, tmp_path: Path, resolv_conf: Path) -> None:
        member, stranger = (
            Member(kind, tmp_path / name, name=name, wrapper=own_resolver(resolv_conf)) for name in NAMES[:2]
        )
        stranger.flags = peer_flags(member, tls=False)
        table = {
            **records([member], tls=False),
            (f"_etcd-server._tcp.{DOMAIN}", "SRV"): [f"0 0 {stranger.peer_port} d1.{DOMAIN}."],
        }
        with name_server(table, resolv_conf):
            stranger.launch()
            assert stranger.wait_ended(20) == 1
        assert "cannot find local etcd member" in stranger.log_text()


def members_by_etcdctl(tls: TlsFiles, resolv_conf: Path) -> str:
    """What real etcdctl hears from a member that it finds by DNS, where _etcd-client-ssl lists them."""
    command = [
        *own_resolver(resolv_conf),
        str(reference_binary("etcdctl")),
        f"--discovery-srv={DOMAIN}",
        "--discovery-srv-name=blue",
        f"--cacert={tls.ca}",
        f"--cert={tls.client_cert}",
        f"--key={tls.client_key}",
        "member",
        "list",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ))
    return ran.stdout + ran.stderr


USER, PASSWORD = "finder", "finder's own"
PREFIX = b"/_etcd/registry/"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(TestAuthority(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Member]:
    flags = [FAST_HASHES, "--auth-token-ttl=3"]
    with Member("etcd", tmp_path_factory.mktemp("registry"), tls=tls, flags=flags) as member:
        with Client.of(member) as client:
            root = users(client)["root"]
            root.add_role("finder", (READWRITE, PREFIX, PREFIX[:-1] + b"0"))
            root.add_user(USER, PASSWORD, "finder")
        yield member


class TestByRegistry:
    """The discovery service is real etcd, with mutual TLS and a user who may write there and nowhere else."""

    def set_size(self, registry: Member, token: str, size: bytes) -> None:
        with Client.of(registry) as client:
            finder = As(client).log_in(USER, PASSWORD)
            answer = finder.put(PREFIX + token.encode() + b"/_config/size", size)
            assert isinstance(answer, rpc_pb2.PutResponse), answer

    def discovering(self, kind: Kind, directory: Path, name: str, registry: Member, token: str, *more: str) -> Member:
        member = Member(kind, directory / name, name=name)
        member.flags = [
            "--initial-cluster=",
            f"--discovery-endpoints={registry.client_url}",
            f"--discovery-token={token}",
            f"--discovery-user={USER}",
            f"--discovery-password={PASSWORD}",
            *more,
        ]
        return member

    def verified(self, tls: TlsFiles) -> list[str]:
        return [
            f"--discovery-cacert={tls.ca}",
            f"--discovery-cert={tls.client_cert}",
            f"--discovery-key={tls.client_key}",
        ]

    def test_with_certificates_and_a_user(self, kind: Kind, tmp_path: Path, registry: Member, tls: TlsFiles) -> None:
        """The last comes when the tokens of the others have ended."""
        token = f"users-{kind}"
        self.set_size(registry, token, b"3")
        kinds = (kind, OTHER[kind], kind)
        members = [
            self.discovering(each, tmp_path, name, registry, token, *self.verified(tls))
            for each, name in zip(kinds, NAMES, strict=True)
        ]
        with found(members, seconds_before_last=5) as listed:
            assert {each.name for each in listed} == set(NAMES)
        for member in members:
            assert member.kind == "etcd" or PASSWORD not in member.log_text(), "etcd logs its command line"

    def test_a_user_who_may_not(self, kind: Kind, tmp_path: Path, registry: Member, tls: TlsFiles) -> None:
        member = self.discovering(kind, tmp_path, "d1", registry, "users-no", *self.verified(tls))
        member.flags.append("--discovery-password=wrong")
        member.launch()
        assert member.wait_ended(20) == 1
        said = "etcdserver: authentication failed, invalid user ID or password"
        assert f"failed to join discovery cluster ({said})" in member.log_text()

    def test_a_service_that_nobody_vouches_for(
        self, kind: Kind, tmp_path: Path, registry: Member, tls: TlsFiles
    ) -> None:
        """Its certificate is of an unknown authority and names another host: it takes the flag to go there."""
        token = f"insecure-{kind}"
        self.set_size(registry, token, b"1")
        shown = self.verified(tls)[1:]
        member = self.discovering(kind, tmp_path, "d1", registry, token, *shown)
        member.flags.append(f"--discovery-endpoints=https://localhost:{registry.client_port}")
        member.launch()
        assert member.wait_ended(20) == 1
        member.flags.append("--discovery-insecure-skip-tls-verify")
        with found([member]) as listed:
            assert [each.name for each in listed] == ["d1"]
