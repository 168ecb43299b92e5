"""Handshakes: who is let in, who is refused, and what the log says about it."""

from __future__ import annotations

import datetime
import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from etcdpy import limits
from etcdpy.transport.tls import PeerRefused, ServerTls, ServerTlsConfig, TlsConfigError, client_context
from tests.support.certificates import Handshake, Leaf, TestAuthority, client, feed, shake_hands, utc_now

if TYPE_CHECKING:
    from pathlib import Path

LOGGER = "etcdpy.transport.tls"
ADDRESS = "192.0.2.7:40000"


class World:
    """A CA, a server certificate, a client certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = TestAuthority(directory)
        self.server = self.ca.issue("server", "server")
        self.alice = self.ca.issue("client", "alice", dns=("alice.example.com",), ip=("10.0.0.5",))

    def tls(self, *, now: Any = time.time, **options: Any) -> ServerTls:
        config = {"cert_file": self.server.cert, "key_file": self.server.key, "trusted_ca_file": self.ca.path}
        return ServerTls(ServerTlsConfig(**{**config, **options}), now=now)

    def handshake(self, tls: ServerTls, leaf: Leaf | None, *, ca: str | None = None) -> Handshake:
        return shake_hands(tls.context(), client(ca or self.ca.path, leaf))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields = vars(record)["fields"]
    assert isinstance(fields, dict)
    return fields


def refused(tls: ServerTls, error: BaseException | None, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of the line that this refusal logs."""
    assert error is not None
    caplog.clear()
    tls.log_refused(ADDRESS, error)
    (record,) = caplog.records
    assert record.getMessage() == "rejected connection on client endpoint"
    assert fields_of(record)["remote-addr"] == ADDRESS
    return {"level": record.levelname, **fields_of(record)}


def check(tls: ServerTls, pair: Handshake) -> PeerRefused | None:
    assert pair.server_error is None
    try:
        tls.check_peer(pair.server)
    except PeerRefused as error:
        return error
    return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_trusted_client_is_let_in_over_h2(world: World, version: ssl.TLSVersion) -> None:
    tls = world.tls()
    mine = client(world.ca.path, world.alice)
    mine.minimum_version = mine.maximum_version = version
    mine.set_alpn_protocols(["h2", "http/1.1"])
    pair = shake_hands(tls.context(), mine)
    assert (pair.server_error, pair.client_error) == (None, None)
    assert check(tls, pair) is None
    assert pair.server.selected_alpn_protocol() == "h2"
    pair.client.write(b"question")
    assert pair.server.read(100) == b"question"
    pair.server.write(b"answer")
    assert pair.client.read(100) == b"answer"
    certificate = pair.server.getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "alice"),),)


def test_a_client_of_http_1_alone_goes_on_without_alpn(world: World) -> None:
    mine = client(world.ca.path, world.alice)
    mine.set_alpn_protocols(["http/1.1"])
    pair = shake_hands(world.tls().context(), mine)
    assert pair.server_error is None
    assert pair.server.selected_alpn_protocol() is None


def test_without_a_ca_no_certificate_is_asked_for(world: World) -> None:
    tls = world.tls(trusted_ca_file="")
    assert check(tls, world.handshake(tls, None)) is None


def test_the_ca_file_alone_demands_a_certificate(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, None).server_error, caplog)
    assert fields["error"].startswith("tls: client didn't provide a certificate; no client certificate")
    assert f"trusted-ca-file {world.ca.path}" in fields["error"]
    assert (fields["level"], fields["server-name"]) == ("WARNING", "localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_unknown_authority_is_named_with_the_client(
    world: World, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    mallory = TestAuthority(tmp_path, "other-ca").issue("client", "mallory", dns=("m.example.com",))
    tls = world.tls()
    mine = client(world.ca.path, mallory)
    mine.maximum_version = version
    fields = refused(tls, shake_hands(tls.context(), mine).server_error, caplog)
    assert fields["error"].startswith(
        "tls: failed to verify certificate: x509: certificate signed by unknown authority; "
        f"client certificate signed by unknown authority (trusted-ca-file {world.ca.path})"
    )
    assert 'issuer "CN=test other-ca" is not among' in fields["error"]
    assert (fields["subject"], fields["serial"]) == ("CN=mallory", f"{mallory.serial:x}")
    assert fields["dns-names"] == ["m.example.com"]


def test_an_authority_made_anew_under_its_old_name_is_recognised(
    world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "old"
    elsewhere.mkdir()
    old = TestAuthority(elsewhere).issue("client", "bob")
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, old).server_error, caplog)
    assert 'a CA named "CN=test ca" is trusted, but this certificate is not signed with its key' in fields["error"]


def test_an_expired_client_certificate(world: World, caplog: pytest.LogCaptureFixture) -> None:
    past = utc_now() - datetime.timedelta(minutes=2, days=1)
    old = world.ca.issue("client", "old", days=1, now=past)
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, old).server_error, caplog)
    assert fields["error"].startswith(
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid; client certificate"
    )
    assert f"expired at {old.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}" in fields["error"]
    assert f"serial {old.serial:x}" in fields["error"]


def test_a_server_certificate_does_not_serve_as_client(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, world.server).server_error, caplog)
    assert "x509: certificate specifies an incompatible key usage" in fields["error"]


def test_an_intermediate_in_the_bundle_is_trusted_as_it_stands(world: World, tmp_path: Path) -> None:
    below = TestAuthority(tmp_path, "below", above=world.ca)
    tls = world.tls(trusted_ca_file=below.path)
    assert check(tls, world.handshake(tls, below.issue("client", "carol"))) is None
    assert world.handshake(tls, world.alice).server_error is not None


def test_a_chain_through_an_intermediate(world: World, tmp_path: Path) -> None:
    below = TestAuthority(tmp_path, "below", above=world.ca)
    tls = world.tls()
    assert check(tls, world.handshake(tls, below.issue("client", "carol"))) is None


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_revoked_client(world: World, caplog: pytest.LogCaptureFixture, encoding: Encoding) -> None:
    crl = world.directory / "crl"
    crl.write_bytes(world.ca.revocation_list(7, world.alice.serial).public_bytes(encoding))
    tls = world.tls(crl_file=str(crl))
    fields = refused(tls, check(tls, world.handshake(tls, world.alice)), caplog)
    assert fields["error"] == (
        f"transport: certificate serial {world.alice.serial:x} revoked; "
        f"serial {world.alice.serial:x} is revoked by client-crl-file {crl}"
    )
    assert fields["subject"] == "CN=alice"
    assert check(tls, world.handshake(tls, world.ca.issue("client", "bob"))) is None


def test_a_revoked_intermediate_takes_its_clients_along(world: World, tmp_path: Path) -> None:
    below = TestAuthority(tmp_path, "below", above=world.ca)
    crl = world.directory / "crl"
    crl.write_bytes(world.ca.revocation_list(below.authority.certificate.serial_number).public_bytes(Encoding.DER))
    tls = world.tls(crl_file=str(crl))
    assert check(tls, world.handshake(tls, below.issue("client", "carol"))) is not None


@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [
        (("alice.example.com",), True),
        (("other", "ALICE.example.com."), True),
        (("10.0.0.5",), True),
        (("10.0.0.6", "bob.example.com"), False),
        (("alice",), False),  # the common name does not count
    ],
)
def test_allowed_hostnames(
    world: World, caplog: pytest.LogCaptureFixture, allowed: tuple[str, ...], let_in: bool
) -> None:
    tls = world.tls(allowed_hostnames=allowed)
    error = check(tls, world.handshake(tls, world.alice))
    assert (error is None) == let_in
    if error is not None:
        text = refused(tls, error, caplog)["error"]
        assert text.startswith("client certificate authentication failed; ")
        assert f"client-cert-allowed-hostname {','.join(allowed)}" in text


def test_allowed_common_names(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls(allowed_cns=("bob", "alice"))
    assert check(tls, world.handshake(tls, world.alice)) is None
    tls = world.tls(allowed_cns=("bob",))
    error = check(tls, world.handshake(tls, world.alice))
    assert 'common name "alice" is not in client-transport-security.allowed-cn' in refused(tls, error, caplog)["error"]


def test_a_client_that_does_not_trust_us(world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    stranger = TestAuthority(tmp_path, "other-ca")
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, world.alice, ca=stranger.path).server_error, caplog)
    assert fields["error"] == (
        "remote error: tls: unknown certificate authority; "
        f"the client does not trust the issuer of cert-file {world.server.cert}"
    )


@pytest.mark.parametrize(
    ("sent", "spoken"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "plain HTTP to a TLS port"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain HTTP/2 (gRPC without TLS)"),
        (b"hello world, who is there\r\n", "plain HTTP or something else"),
    ],
)
def test_plain_speech_on_a_tls_port(world: World, caplog: pytest.LogCaptureFixture, sent: bytes, spoken: str) -> None:
    tls = world.tls()
    fields = refused(tls, feed(tls.context(), sent).server_error, caplog)
    assert fields["error"].startswith("tls: first record does not look like a TLS handshake; ")
    assert spoken in fields["error"]


def test_a_bare_probe_is_no_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls()
    for error in (feed(tls.context(), b"", end=True).server_error, ConnectionResetError(104, "reset"), EOFError()):
        fields = refused(tls, error, caplog)
        assert fields["level"] == "DEBUG"
        assert fields["error"].startswith("EOF; ")


def test_a_handshake_out_of_time_names_nobody_and_warns(world: World, caplog: pytest.LogCaptureFixture) -> None:
    fields = refused(world.tls(), TimeoutError(), caplog)
    assert fields["level"] == "WARNING"
    assert fields["error"].startswith("i/o timeout")


def test_versions(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls(min_version="TLS1.3")
    mine = client(world.ca.path, world.alice)
    mine.maximum_version = ssl.TLSVersion.TLSv1_2
    fields = refused(tls, shake_hands(tls.context(), mine).server_error, caplog)
    assert fields["error"].startswith("tls: client offered only unsupported versions")
    assert "tls-min-version TLS1.3" in fields["error"]
    lowered = world.tls(max_version="TLS1.2")
    assert world.handshake(lowered, world.alice).server.version() == "TLSv1.2"


def test_cipher_suites(world: World, caplog: pytest.LogCaptureFixture) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    tls = world.tls(cipher_suites=(suite,), max_version="TLS1.2")
    cipher = world.handshake(tls, world.alice).server.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    mine = client(world.ca.path, world.alice)
    mine.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    fields = refused(tls, shake_hands(tls.context(), mine).server_error, caplog)
    assert fields["error"].startswith("tls: no cipher suite supported by both client and server; see cipher-suites")


def test_what_is_refused_is_bounded_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    moment = 0.0
    config = ServerTlsConfig(world.server.cert, world.server.key)
    tls = ServerTls(config, clock=lambda: moment)
    caplog.clear()
    for _ in range(limits.TLS_REFUSALS_LOGGED_BURST + 30):
        tls.log_refused(ADDRESS, TimeoutError())
    assert len(caplog.records) == limits.TLS_REFUSALS_LOGGED_BURST
    moment = 1.0
    tls.log_refused(ADDRESS, EOFError())  # has a budget of its own
    assert "refusals-not-logged" not in fields_of(caplog.records[-1])
    tls.log_refused(ADDRESS, TimeoutError())
    assert fields_of(caplog.records[-1])["refusals-not-logged"] == 30


def test_a_hostile_name_stays_on_one_short_line(world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    stranger = TestAuthority(tmp_path, "other-ca")
    nasty = stranger.issue("client", "nasty", dns=("x" * 63 + ".example.com",), cn="a" * 60)
    tls = world.tls()
    fields = refused(tls, world.handshake(tls, nasty).server_error, caplog)
    assert all("\n" not in str(value) for value in fields.values())
    assert len(fields["subject"]) <= limits.TLS_NAME_LOGGED_CHARS_MAX


# --- no resumption past a check ---


def test_no_session_tickets(world: World) -> None:
    tls = world.tls()
    mine = client(world.ca.path, world.alice)
    pair = shake_hands(tls.context(), mine)
    pair.server.write(b"x")
    pair.client.read(1)
    assert pair.client.session is None or not pair.client.session.has_ticket


def test_a_resumed_session_is_checked_again_and_dies_with_its_files(world: World) -> None:
    crl = world.directory / "crl"
    crl.write_bytes(world.ca.revocation_list(7).public_bytes(Encoding.DER))
    moment = time.time()
    tls = world.tls(crl_file=str(crl), max_version="TLS1.2", now=lambda: moment)
    mine = client(world.ca.path, world.alice)
    first = shake_hands(tls.context(), mine)
    again = shake_hands(tls.context(), mine, session=first.client.session)
    assert again.server.session_reused  # OpenSSL's cache, which Python cannot turn off
    assert check(tls, again) is None
    moment = world.alice.certificate.not_valid_after_utc.timestamp() + 1
    late = check(tls, again)
    assert late is not None
    assert "expired at" in late.text
    moment = time.time()
    crl.write_bytes(world.ca.revocation_list(7, world.alice.serial).public_bytes(Encoding.DER))
    third = shake_hands(tls.context(), mine, session=first.client.session)
    assert not third.server.session_reused
    assert check(tls, third) is not None


def test_cached_sessions_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_SESSIONS_CACHED_MAX", 3)
    tls = world.tls(max_version="TLS1.2")
    context = tls.context()
    alive = [world.handshake(tls, world.alice) for _ in range(5)]
    assert len(alive) == 5
    assert tls.context() is not context
    assert context.session_stats()["number"] <= 4


# --- configuration ---


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"key_file": ""}, "KeyFile and CertFile must both be present[key: , cert: {cert}]"),
        ({"cipher_suites": ("TLS_NULL",)}, 'unexpected TLS cipher suite "TLS_NULL"'),
        (
            {"cipher_suites": ("TLS_RSA_WITH_AES_128_CBC_SHA",), "min_version": "TLS1.3"},
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            {"min_version": "TLS1.3", "max_version": "TLS1.2"},
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        ({"min_version": "TLS1.1"}, 'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)'),
        (
            {"allowed_cns": ("a",), "allowed_hostnames": ("b", "c")},
            'AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b" "c"])',
        ),
        ({"crl_file": "/nowhere/crl"}, "/nowhere/crl: no such file or directory"),
        ({"trusted_ca_file": "{key}"}, "{key}: holds no PEM certificate"),
        ({"key_file": "{other_key}"}, "{other_key}: the key does not belong to the certificate in {cert}"),
    ],
)
def test_configuration_errors(world: World, options: dict[str, Any], text: str) -> None:
    known = {"cert": world.server.cert, "key": world.server.key, "other_key": world.alice.key}
    given = {name: value.format(**known) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(TlsConfigError) as caught:
        world.tls(**given)
    assert str(caught.value) == text.format(**known)


def test_suites_of_tls_1_3_alone_mean_tls_1_3_alone(world: World) -> None:
    tls = world.tls(cipher_suites=("TLS_AES_128_GCM_SHA256",))
    assert tls.context().minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_suite_that_openssl_lacks_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    world.tls(cipher_suites=("TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"))
    (record,) = caplog.records
    assert fields_of(record)["cipher-suites"] == ["TLS_RSA_WITH_RC4_128_SHA"]


def test_allowed_names_without_a_ca_are_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    world.tls(trusted_ca_file="", allowed_hostnames=("x",))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_peer_listeners_name_peer_flags(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tls = world.tls(endpoint="peer")
    error = world.handshake(tls, None).server_error
    assert error is not None
    tls.log_refused(ADDRESS, error)
    assert caplog.records[-1].getMessage() == "rejected connection on peer endpoint"
    assert f"peer-trusted-ca-file {world.ca.path}" in fields_of(caplog.records[-1])["error"]


# --- the way out ---


def test_client_context_meets_our_listener(world: World) -> None:
    tls = world.tls()
    mine = client_context(cert_file=world.alice.cert, key_file=world.alice.key, trusted_ca_file=world.ca.path)
    pair = shake_hands(tls.context(), mine)
    assert (pair.client_error, check(tls, pair)) == (None, None)
    with pytest.raises(TlsConfigError, match="must both be present or both absent"):
        client_context(cert_file=world.alice.cert)
    assert shake_hands(world.tls(trusted_ca_file="").context(), client_context(verify=False)).client_error is None
