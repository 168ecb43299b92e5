"""What the TLS flags may say: suite names as IANA and etcd write them, versions, and the errors for the rest.

Pure: nothing here opens a file. The names are those that etcd accepts, which are those of Go's TLS library; the texts
of the errors are etcd's.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


class TlsConfigError(ValueError):
    """TLS flags or files that cannot be used. One line, naming the flag or file; never holds key material."""


VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}

_SUITES_TLS13: Final = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}

_SUITES_TLS12: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}

# What etcd accepts when named, and never offers by itself.
_SUITES_WEAK: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
}

# Two names from before the standard settled, which etcd still takes.
_ALIASES: Final = {
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
}

DEFAULT_CIPHERS: Final = ":".join(_SUITES_TLS12.values())
"""What is offered for TLS 1.2 when no suite is named: the same ten as etcd."""


@dataclass(frozen=True, slots=True)
class ServerTlsConfig:
    """The TLS side of one listener, as its flags say. Empty strings and tuples mean "not given".

    `trusted_ca_file` alone already demands a client certificate (etcd's rule). `client_cert_auth` without it checks
    against the system's authorities, and tells the server to take the caller's name from the certificate.
    `endpoint` chooses the flag names that messages use.
    """

    cert_file: str
    key_file: str
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_hostnames: tuple[str, ...] = ()
    allowed_cns: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""
    endpoint: Literal["client", "peer"] = "client"
    verify_address: bool = False
    """Whether a client's certificate must name the address that it comes from (peer ports)."""

    @property
    def demands_certificate(self) -> bool:
        """Whether a client without a certificate is refused."""
        return bool(self.trusted_ca_file) or self.client_cert_auth

    def flag(self, name: str) -> str:
        """The flag that `name` (cert-file, trusted-ca-file, crl-file, cert-allowed-hostname) is on this endpoint."""
        if self.endpoint == "peer":
            return f"peer-{name}"
        if name == "cert-allowed-cn":
            return "client-transport-security.allowed-cn"  # etcd has no flag for it, only the configuration file
        return f"client-{name}" if name in ("crl-file", "cert-allowed-hostname") else name

    def check(self) -> None:
        """Raise TlsConfigError, in etcd's words, for values that contradict each other."""
        if not self.cert_file or not self.key_file:
            raise TlsConfigError(
                f"KeyFile and CertFile must both be present[key: {self.key_file}, cert: {self.cert_file}]"
            )
        if self.allowed_cns and self.allowed_hostnames:
            raise TlsConfigError(
                "AllowedCNs and AllowedHostnames are mutually exclusive "
                f"(cns={_quoted(self.allowed_cns)}, hostnames={_quoted(self.allowed_hostnames)})"
            )
        check_options(self.cipher_suites, self.min_version, self.max_version)


def check_options(cipher_suites: Sequence[str], min_version: str, max_version: str) -> None:
    """Check --cipher-suites, --tls-min-version, --tls-max-version together. Raises TlsConfigError, etcd's text."""
    lowest, highest = parse_version(min_version), parse_version(max_version)
    if highest is not None and lowest is not None and lowest > highest:
        raise TlsConfigError(f"min version ({min_version}) is greater than max version ({max_version})")
    if lowest is ssl.TLSVersion.TLSv1_3 and cipher_suites:
        raise TlsConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")
    for name in cipher_suites:
        if name not in _SUITES_TLS13 and openssl_name(name) is None:
            raise TlsConfigError(f'unexpected TLS cipher suite "{name}"')


def parse_version(text: str) -> ssl.TLSVersion | None:
    """`TLS1.2` or `TLS1.3`; None for the empty string, which leaves the choice to us."""
    if not text:
        return None
    if text not in VERSIONS:
        raise TlsConfigError(f'unexpected TLS version "{text}" (must be one of: TLS1.2, TLS1.3)')
    return VERSIONS[text]


def openssl_name(name: str) -> str | None:
    """OpenSSL's name of a TLS 1.2 suite, or None if it is not one that etcd knows."""
    return _SUITES_TLS12.get(name) or _SUITES_WEAK.get(name) or _ALIASES.get(name)


def apply_options(
    context: ssl.SSLContext, cipher_suites: Sequence[str], min_version: str, max_version: str
) -> list[str]:
    """Set versions and suites; returns the named suites that this OpenSSL cannot offer.

    TLS 1.3 suites cannot be chosen, as on etcd: naming only those means TLS 1.3 only.
    """
    lowest = parse_version(min_version) or ssl.TLSVersion.TLSv1_2
    wanted = [name for name in cipher_suites if name not in _SUITES_TLS13]
    if cipher_suites and not wanted:
        lowest = ssl.TLSVersion.TLSv1_3
    context.minimum_version = lowest
    context.maximum_version = parse_version(max_version) or ssl.TLSVersion.TLSv1_3
    if context.minimum_version > context.maximum_version:
        raise TlsConfigError("cipher-suites names only TLS1.3 suites, and tls-max-version excludes TLS1.3")
    mapped = {name: openssl_name(name) or "" for name in wanted}
    try:
        context.set_ciphers(":".join(mapped.values()) if wanted else DEFAULT_CIPHERS)
    except ssl.SSLError:
        raise TlsConfigError(f"cipher-suites: OpenSSL here offers none of {', '.join(wanted)}") from None
    offered = {cipher["name"] for cipher in context.get_ciphers()}
    return [name for name, ours in mapped.items() if ours not in offered]


def _quoted(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"
