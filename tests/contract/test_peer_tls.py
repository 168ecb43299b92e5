"""Who may talk to the peer port over TLS, whom we dial, and certificates that change while members run."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from etcdpy import limits
from etcdpy.peer import client
from etcdpy.peer.connections import Connections, Dialer, PeerUnreachable
from etcdpy.peer.tls import PeerTls, PeerTlsConfig
from etcdpy.proto import raft_pb2
from etcdpy.raft.message import Message
from etcdpy.transport import tls_address
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig
from etcdpy.transport.tls_selfsigned import ensure_self_signed
from tests.support.certificates import TestAuthority
from tests.support.peers import Member

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.support.certificates import Leaf


class World:
    """An authority, a member's certificate, and lines that were logged about refusals."""

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.directory = directory
        self.authority = TestAuthority(directory)
        self.leaf = self.authority.issue("peer", "member")
        self._caplog = caplog

    def tls(self, leaf: Leaf | None = None, **changed: Any) -> PeerTls:
        leaf = leaf or self.leaf
        settings = {"cert_file": leaf.cert, "key_file": leaf.key, "trusted_ca_file": self.authority.path}
        return PeerTls(PeerTlsConfig(**{**settings, "client_cert_auth": True, **changed}))

    def refusals(self) -> str:
        return "\n".join(
            f"{record.message}: {vars(record)['fields'].get('error')}"
            for record in self._caplog.records
            if record.message.startswith("rejected connection")
        )


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> World:
    return World(tmp_path, caplog)


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 20))


async def ask(member: Member, tls: PeerTls | None, url: str = "") -> str:
    """The version that the member tells; raises PeerUnreachable."""
    opened = Connections(Dialer(tls.client if tls is not None else None))
    try:
        return (await client.get_version(opened, url or member.url, seconds=5)).server
    finally:
        opened.close()


def check(world: World, listening: PeerTls, dialing: PeerTls | None, refusal: str, at_dialer: str = "") -> None:
    """`refusal`: what the listening member logs; `at_dialer`: what the dialing one says. Both empty: welcome."""

    async def scenario() -> None:
        async with Member(1, tls=listening) as one:
            if not refusal and not at_dialer:
                assert await ask(one, dialing) == "3.7.3"
                return
            with pytest.raises(PeerUnreachable) as raised:
                await ask(one, dialing)
            assert at_dialer in str(raised.value)

    run(scenario())
    assert refusal in world.refusals()


def test_members_of_one_authority_are_welcome(world: World) -> None:
    check(world, world.tls(), world.tls(), "")


def test_a_stranger_without_a_certificate_is_refused_and_named(world: World) -> None:
    naked = world.tls()
    naked.client = ClientTls(ClientTlsConfig(trusted_ca_file=world.authority.path))
    check(world, world.tls(), naked, "rejected connection on peer endpoint: tls: client didn't provide a certificate")


def test_a_stranger_of_another_authority_is_refused(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = TestAuthority(elsewhere, "other").issue("peer", "stranger")
    check(world, world.tls(), world.tls(other), "certificate signed by unknown authority")


def test_we_do_not_talk_to_a_server_of_another_authority(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = TestAuthority(elsewhere, "other").issue("peer", "stranger")
    check(world, world.tls(other), world.tls(), "", "certificate verify failed")


def test_plain_text_is_refused(world: World) -> None:
    async def scenario() -> None:
        async with Member(1, tls=world.tls()) as one:
            with pytest.raises(PeerUnreachable):
                await ask(one, None, one.url.replace("https", "http"))

    run(scenario())
    assert "plain HTTP to a TLS port" in world.refusals()


def test_allowed_common_names_hold_both_ways(world: World) -> None:
    good = world.authority.issue("peer", "good", cn="etcd-a")
    restricted = world.tls(good, allowed_cns=("etcd-a", "etcd-b"))
    check(world, restricted, world.tls(good), "")
    check(world, restricted, world.tls(), "client certificate authentication failed; common name")
    check(world, world.tls(), restricted, "", "client certificate authentication failed")
    check(world, world.tls(good), restricted, "")


def test_allowed_hostnames_hold_both_ways(world: World) -> None:
    good = world.authority.issue("peer", "good", dns=("a.example", "localhost"), ip=("127.0.0.1",))
    restricted = world.tls(good, allowed_hostnames=("a.example",))
    check(world, restricted, world.tls(good), "")
    check(world, restricted, world.tls(), "client certificate authentication failed; no name")
    check(world, world.tls(), restricted, "", "client certificate authentication failed")


def test_revoked_members_are_refused(world: World) -> None:
    bad = world.authority.issue("peer", "bad")
    path = world.directory / "crl.der"
    path.write_bytes(world.authority.revocation_list(bad.serial).public_bytes(Encoding.DER))
    listening = world.tls(crl_file=str(path))
    check(world, listening, world.tls(), "")
    check(world, listening, world.tls(bad), "is revoked by peer-crl-file")


def test_a_certificate_of_its_own_for_dialing(world: World) -> None:
    server = world.authority.issue("server", "server-only")
    dialing = world.authority.issue("client", "client-only")
    split = world.tls(server, client_cert_file=dialing.cert, client_key_file=dialing.key)
    check(world, world.tls(), split, "")
    check(world, world.tls(), world.tls(server), "incompatible key usage")


# --- the address that a certificate names ---


def test_a_certificate_for_another_address_is_refused(world: World) -> None:
    elsewhere = world.authority.issue("peer", "elsewhere", ip=("10.1.2.3",))
    check(world, world.tls(), world.tls(elsewhere), "x509: certificate is valid for 10.1.2.3, not 127.0.0.1")
    check(world, world.tls(skip_client_san_verification=True), world.tls(elsewhere), "")


def test_names_are_resolved_both_ways(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def reverse(host: str) -> tuple[str, list[str], list[str]]:
        assert host == "127.0.0.1"
        return "a.members.example.", ["alias.example"], [host]

    monkeypatch.setattr("socket.gethostbyaddr", reverse)
    for name in ("a.members.example", "alias.example", "*.members.example", "localhost"):
        welcome = world.authority.issue("peer", "named", dns=(name,))
        check(world, world.tls(), world.tls(welcome), "")
    stranger = world.authority.issue("peer", "stranger", dns=("*.elsewhere.example", "nobody.invalid"))
    expected = 'tls: "127.0.0.1" does not match any of DNSNames ["*.elsewhere.example" "nobody.invalid"] (lookup nobody'
    check(world, world.tls(), world.tls(stranger), expected)


def test_nothing_is_served_before_the_name_is_resolved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def slow(*_: object) -> str:
            await gate.wait()
            return "too late"

        monkeypatch.setattr("etcdpy.transport.tls.resolved_refusal", slow)
        named = world.authority.issue("peer", "named", dns=("a.example",))
        async with Member(1, tls=world.tls()) as one:
            asked = asyncio.create_task(ask(one, world.tls(named)))
            await asyncio.sleep(0.1)
            assert not asked.done()
            gate.set()
            with pytest.raises(PeerUnreachable):
                await asked

    run(scenario())
    assert "too late" in world.refusals()


def test_an_address_counts_in_any_spelling() -> None:
    assert tls_address.remote_host("[::1]:2380") == "::1"
    assert tls_address.remote_host("10.0.0.1:5") == "10.0.0.1"
    assert tls_address.remote_host("@") == ""


# --- certificates that change ---


def test_new_certificates_serve_new_connections(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster changes its authority: the bundle first, then the certificates, without a restart."""
    monkeypatch.setattr(limits, "TLS_UNSETTLED_NS", 10**12)
    fresh_directory = tmp_path / "fresh"
    fresh_directory.mkdir()
    fresh = TestAuthority(fresh_directory, "fresh")
    leaf = fresh.issue("peer", "member")
    live = tmp_path / "live"
    live.mkdir()
    for name, source in (("cert", world.leaf.cert), ("key", world.leaf.key), ("ca", world.authority.path)):
        shutil.copy(source, live / name)

    def member_tls() -> PeerTls:
        config = PeerTlsConfig(
            cert_file=str(live / "cert"), key_file=str(live / "key"), trusted_ca_file=str(live / "ca")
        )
        return PeerTls(config)

    async def scenario() -> None:
        async with Member(1, tls=member_tls()) as one, Member(2, tls=member_tls()) as two:
            one.knows(two)
            two.knows(one)
            await one.wait_streams(two)
            (live / "ca").write_bytes(world.authority.pem + fresh.pem)
            shutil.copy(leaf.cert, live / "cert")
            shutil.copy(leaf.key, live / "key")
            (live / "ca").write_bytes(fresh.pem)
            # Streams that are open stay; what is dialed now shows and meets the new certificates alone.
            one.network.send([Message(raft_pb2.MsgHeartbeat, to=2, from_=1, term=1)])
            await two.behind.wait(lambda: two.behind.received)
            version = await client.get_version(one.network.connections, two.url, seconds=5)
            assert version.server == "3.7.3"
            with pytest.raises(PeerUnreachable):
                await ask(one, world.tls(self_signed=True))
            peer = two.network.peer(1)
            assert peer is not None
            for writer in peer.writers.values():
                assert writer._answer is not None
                writer._answer.abort()
            await two.behind.wait(lambda: not any(writer.working for writer in peer.writers.values()))
            await two.wait_streams(one)

    run(scenario())
    assert "certificate signed by unknown authority" in world.refusals()


def test_self_signed_members_talk_to_each_other(tmp_path: Path) -> None:
    def auto(name: str) -> PeerTls:
        made = ensure_self_signed(tmp_path / name, ["127.0.0.1:2380"], 1, client_usage=True)
        return PeerTls(PeerTlsConfig(cert_file=made.cert_file, key_file=made.key_file, self_signed=True))

    async def scenario() -> None:
        async with Member(1, tls=auto("one")) as one, Member(2, tls=auto("two")) as two:
            one.knows(two)
            two.knows(one)
            await one.wait_streams(two)
            await two.wait_streams(one)

    run(scenario())


def test_the_name_of_a_discovered_domain_is_expected(world: World) -> None:
    domain = world.authority.issue("peer", "domain", dns=("example.com", "localhost"), ip=("127.0.0.1",))
    check(world, world.tls(domain), world.tls(server_name="example.com"), "")
    check(world, world.tls(), world.tls(server_name="example.com"), "", "certificate verify failed")


def test_every_certificate_in_use_is_told(world: World) -> None:
    dialing = world.authority.issue("client", "client-only")
    tls = world.tls(client_cert_file=dialing.cert, client_key_file=dialing.key)
    assert [(each.file, each.role) for each in tls.certificates()] == [
        (world.leaf.cert, "server"),
        (world.authority.path, "trusted-ca"),
        (dialing.cert, "client"),
    ]
