"""What is signed: usages, names, serials, validity, and chains that Python's TLS accepts in every role."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import keys
from pki.authority import Authority, Issued, Request, create_root, new_serial
from pki.errors import PkiError
from pki.profiles import PROFILES, profile_named
from pki.reading import days_left, verifies
from tests.support.certificates import TestAuthority, client, shake_hands

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def ca(days: int = 3650, key_type: keys.KeyType = keys.KeyType.ECDSA_P256) -> Authority:
    made = create_root(Request(PROFILES["ca"], "test CA", days=days, key_type=key_type), NOW)
    return Authority(made.certificate, made.key)


def issue(profile: str, authority: Authority | None = None, **options: Any) -> Issued:
    request: dict[str, Any] = {"profile": PROFILES[profile], "common_name": "m1", **options}
    if PROFILES[profile].needs_host and "dns_names" not in options:
        request["dns_names"] = ("m1.example.com",)
    return (authority or ca()).issue(Request(**request), NOW)


@pytest.mark.parametrize(
    ("profile", "usages"), [("server", [SERVER]), ("peer", [SERVER, CLIENT]), ("client", [CLIENT]), ("ca", None)]
)
def test_usages_of_each_role(profile: str, usages: list[x509.ObjectIdentifier] | None) -> None:
    extensions = issue(profile).certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.ca is (usages is None)
    key_usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert key_usage.critical
    assert key_usage.value.digital_signature
    assert key_usage.value.key_cert_sign is key_usage.value.crl_sign is (usages is None)
    assert not key_usage.value.key_encipherment
    if usages is None:
        with pytest.raises(x509.ExtensionNotFound):
            extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    else:
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages


def test_rsa_may_encipher_keys() -> None:
    made = issue("server", key_type=keys.KeyType.RSA_2048)
    assert made.certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment


def test_key_identifiers_link_the_chain() -> None:
    authority = ca()
    leaf = issue("client", authority).certificate.extensions
    above = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert leaf.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == above.digest
    assert leaf.get_extension_for_class(x509.SubjectKeyIdentifier).value != above


def test_serials_are_159_random_bits() -> None:
    assert new_serial(lambda size: b"\xff" * size) == 2**159 - 1
    assert new_serial(lambda size: b"\x00" * size) == 2**158
    serials = {issue("client").certificate.serial_number for _ in range(5)}
    assert len(serials) == 5


def test_validity_is_backdated_and_a_year() -> None:
    certificate = issue("client").certificate
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=365)
    assert days_left(certificate, NOW) == 365
    assert days_left(certificate, NOW + datetime.timedelta(days=366)) == -1


def test_nothing_outlives_its_ca() -> None:
    authority = ca(days=30)
    assert issue("client", authority).certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    late = NOW + datetime.timedelta(days=29)
    made = authority.issue(Request(PROFILES["client"], "x"), late).certificate
    assert made.not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("key_type", [each for each in keys.KeyType if each is not keys.KeyType.RSA_4096])
def test_every_kind_of_key_signs_and_handshakes(key_type: keys.KeyType, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    now = datetime.datetime.now(datetime.UTC)
    made = create_root(Request(PROFILES["ca"], "CA", key_type=key_type), now)
    leaf = Authority(made.certificate, made.key).issue(
        Request(PROFILES["peer"], "m1", dns_names=("localhost",), key_type=key_type), now
    )
    root, both = tmp_path / "ca.pem", tmp_path / "both.pem"
    root.write_bytes(made.certificate.public_bytes(Encoding.PEM))
    both.write_bytes(leaf.certificate.public_bytes(Encoding.PEM) + keys.to_pem(leaf.key))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    server.load_verify_locations(root)
    server.verify_mode = ssl.CERT_REQUIRED
    mine = client(str(root))
    mine.load_cert_chain(both)
    mine.verify_flags |= ssl.VERIFY_X509_STRICT
    pair = shake_hands(server, mine)
    assert (pair.client_error, pair.server_error) == (None, None)


def test_an_intermediate_signs_leaves_and_no_further_ca(tmp_path: Path) -> None:
    root = TestAuthority(tmp_path)
    below = TestAuthority(tmp_path, "below", above=root)
    leaf = below.issue("server", "m1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(leaf.cert, leaf.key)
    assert shake_hands(server, client(root.path)).client_error is None
    with pytest.raises(PkiError, match="this CA may sign no further CA"):
        below.authority.issue(Request(PROFILES["ca"], "deeper"), datetime.datetime.now(datetime.UTC))


def test_a_wrong_role_is_refused_by_tls(tmp_path: Path) -> None:
    ca_on_disk = TestAuthority(tmp_path)
    as_server = ca_on_disk.issue("client", "alice", dns=("localhost",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(as_server.cert, as_server.key)
    assert isinstance(shake_hands(server, client(ca_on_disk.path)).client_error, ssl.SSLCertVerificationError)


@pytest.mark.parametrize(
    ("profile", "options", "text"),
    [
        ("server", {"dns_names": ()}, "a server certificate needs at least one --ip or --dns"),
        ("peer", {"dns_names": ()}, "a peer certificate needs at least one --ip or --dns"),
        ("server", {"addresses": ("10.0.0.300",)}, '--ip "10.0.0.300" is not an IP address'),
        ("server", {"addresses": ("10.0.0.0/8",)}, '--ip "10.0.0.0/8" is not an IP address'),
        ("server", {"dns_names": ("10.0.0.1",)}, '--dns "10.0.0.1" is an IP address; use --ip'),
        ("server", {"dns_names": ("a..b",)}, '--dns "a..b" is not a host name'),
        ("server", {"dns_names": ("a.*.b",)}, "is not a host name"),
        ("server", {"dns_names": ("*",)}, "is not a host name"),
        ("server", {"dns_names": ("a b",)}, "is not a host name"),
        ("server", {"dns_names": ("x" * 64,)}, "is not a host name"),
        ("server", {"dns_names": ("m\u00fcller.example",)}, "is not a host name"),
        ("server", {"dns_names": ("https://m1",)}, "is not a host name"),
        ("client", {"common_name": ""}, "must have 1 to 64 characters"),
        ("client", {"common_name": "x" * 65}, "must have 1 to 64 characters"),
        ("client", {"common_name": "a\nb"}, "cannot be printed"),
        ("client", {"days": 0}, "--days must be between 1 and 36500, not 0"),
        ("client", {"days": 40_000}, "--days must be between"),
        ("client", {"organizations": ("",)}, "must have 1 to 64 characters"),
    ],
)
def test_what_must_not_be_signed(profile: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(PkiError) as caught:
        issue(profile, **options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_and_organizations_are_kept_once_each() -> None:
    made = issue(
        "server", addresses=("10.0.0.1", "::1", "10.0.0.1"), dns_names=("*.a.b", "c", "c"), organizations=("x", "y")
    )
    names = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.a.b", "c"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert made.certificate.subject.rfc4514_string() == "CN=m1,O=y,O=x"


def test_an_authority_that_cannot_sign_says_so() -> None:
    good, other = ca(), ca()
    good.check(NOW, "ca.pem")
    leaf = issue("client", good)
    for authority, at, text in (
        (Authority(good.certificate, other.key), NOW, "the CA key does not belong to this certificate"),
        (Authority(leaf.certificate, leaf.key), NOW, "not a CA certificate, so it cannot sign others"),
        (good, NOW + datetime.timedelta(days=3651), "the CA expired at 2036-02-27T12:00:00Z"),
    ):
        with pytest.raises(PkiError) as caught:
            authority.check(at, "ca.pem")
        assert str(caught.value) == f"ca.pem: {text}"


def test_unknown_profile() -> None:
    with pytest.raises(PkiError, match=r'unknown profile "node" \(there are ca, server, peer, client\)'):
        profile_named("node")


def test_verifies_finds_the_issuer_by_its_key() -> None:
    one, two = ca(), ca()
    leaf = issue("client", two).certificate
    assert verifies(leaf, [one.certificate, two.certificate]) is two.certificate
    assert verifies(leaf, [one.certificate]) is None
    assert leaf.signature_hash_algorithm is not None
    assert leaf.signature_hash_algorithm.name == hashes.SHA256.name


# --- keys ---


def test_an_encrypted_key_comes_back_with_its_passphrase_alone() -> None:
    key = keys.KeyType.ECDSA_P256.generate()
    pem = keys.to_pem(key, b"correct horse")
    assert keys.is_encrypted(pem)
    again = keys.from_pem(pem, b"correct horse", "ca-key.pem")
    assert again.private_numbers() == key.private_numbers()  # type: ignore[union-attr]
    with pytest.raises(PkiError, match=r"^ca-key.pem: wrong passphrase$"):
        keys.from_pem(pem, b"battery staple", "ca-key.pem")
    with pytest.raises(PkiError, match="the key is encrypted"):
        keys.from_pem(pem, None, "ca-key.pem")
    with pytest.raises(PkiError, match="holds no PEM private key"):
        keys.from_pem(b"nonsense", None, "ca-key.pem")


def test_no_key_in_a_repr() -> None:
    authority = ca()
    assert "key=" not in repr(authority)
    assert "key=" not in repr(issue("client", authority))
