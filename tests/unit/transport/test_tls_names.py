"""Host names as Go's TLS library matches them, and reading a client's certificate out of a TLS message."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from etcdpy.transport.tls_options import apply_options
from etcdpy.transport.tls_refusal import first_certificate, host_matches
from tests.support.certificates import TestAuthority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("host", "names", "matches"),
    [
        ("a.example.com", ["a.example.com"], True),
        ("A.Example.COM", ["a.example.com"], True),
        ("a.example.com", ["A.EXAMPLE.COM"], True),
        ("a.example.com.", ["a.example.com"], True),  # a trailing dot of the host is taken off
        ("a.example.com", ["a.example.com."], False),  # of the certificate's name it is not
        ("a.example.com", ["*.example.com"], True),
        ("b.a.example.com", ["*.example.com"], False),
        ("example.com", ["*.example.com"], False),
        ("a.example.com", ["a*.example.com"], False),
        ("a.example.com", ["a.*.com"], False),
        ("*.example.com", ["*.example.com"], True),  # not a host name, so matched to the letter
        ("a.example.com", ["*"], False),
        ("single", ["*"], False),
        ("single", ["single"], True),
        ("under_score.example.com", ["*.example.com"], True),
        ("-a.example.com", ["*.example.com"], False),
        ("a..com", ["a..com"], True),
        ("", [""], False),
        (".", ["."], False),
        ("a.example.com", [], False),
        ("\u212a.example.com", ["k.example.com"], False),  # the Kelvin sign is not lowered to k
        ("10.0.0.1", ["10.0.0.1"], False),  # an address matches addresses alone
    ],
)
def test_dns_names(host: str, names: list[str], matches: bool) -> None:
    assert host_matches(host, names, []) is matches


@pytest.mark.parametrize(
    ("host", "addresses", "matches"),
    [
        ("10.0.0.1", ["10.0.0.1"], True),
        ("10.0.0.2", ["10.0.0.1"], False),
        ("[::1]", ["::1"], True),
        ("::0:1", ["::1"], True),
        ("::ffff:10.0.0.1", ["10.0.0.1"], True),
        ("fe80::1%eth0", ["fe80::1"], False),
        ("[]", ["::1"], False),
    ],
)
def test_addresses(host: str, addresses: list[str], matches: bool) -> None:
    assert host_matches(host, ["10.0.0.1", host.strip("[]")] if "%" not in host else [], addresses) is matches


def test_every_cut_of_a_certificate_message_is_survived(tmp_path: Path) -> None:
    leaf = TestAuthority(tmp_path).issue("client", "alice").certificate
    der = leaf.public_bytes(Encoding.DER)
    entry = len(der).to_bytes(3, "big") + der
    old = len(entry).to_bytes(3, "big") + entry
    new = b"\0" + (len(entry) + 2).to_bytes(3, "big") + entry + b"\0\0"
    for body in (old, new):
        message = b"\x0b" + len(body).to_bytes(3, "big") + body
        assert first_certificate(message) == leaf
        for size in range(len(message)):
            assert first_certificate(message[:size]) is None
    assert first_certificate(b"\x0b\0\0\4\0\0\0\0") is None


def test_the_default_suites_are_those_of_etcd() -> None:
    """Ten for TLS 1.2 beside OpenSSL's three for TLS 1.3; none without forward secrecy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert apply_options(context, (), "TLS1.2", "") == []
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert sum(name.startswith("TLS_") for name in names) == 3
    assert sum(name.startswith("ECDHE-") for name in names) == len(names) - 3 == 10
