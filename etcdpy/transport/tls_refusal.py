"""Why a handshake was refused: who came, and which file or name is at fault.

etcd logs the error text of Go's TLS library, and scripts search for it; so an explanation starts with that text and
goes on with ours. Nothing here decides anything, except the host name rule at the end.
"""

from __future__ import annotations

import ipaddress
import ssl
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from etcdpy import limits

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

    from etcdpy.transport.tls_options import ServerTlsConfig


@dataclass(frozen=True, slots=True)
class Explanation:
    """`error` is the text for the log; `quiet` says that it is no more than somebody knocking (etcd: debug level)."""

    error: str
    quiet: bool = False


# --- the certificate that was offered ---


def first_certificate(message: bytes | None) -> x509.Certificate | None:
    """The leaf in a TLS Certificate message (RFC 5246 7.4.2, RFC 8446 4.4.2), or None if there is none to read."""
    if message is None or len(message) < 10:
        return None
    # Both forms: type 1, length 3; then TLS 1.3 has a context (empty in a first handshake: one zero byte) before the
    # 3 bytes of the list's length, TLS 1.2 has not. What fits the message's length tells them apart.
    for at in (4, 5):
        if int.from_bytes(message[at : at + 3], "big") == len(message) - at - 3:
            size = int.from_bytes(message[at + 3 : at + 6], "big")
            return _parse(message[at + 6 : at + 6 + size])
    return None


def _parse(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, as Go reads it: the last one, or the empty string."""
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[-1] if names else ""


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """(DNS names, IP addresses) of the certificate, as text; both empty if the extension is missing or unreadable."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return [], []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return names.get_values_for_type(x509.DNSName), addresses


def printable(text: str) -> str:
    """A name that the client chose, made fit for one log line."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown[: limits.TLS_NAME_LOGGED_CHARS_MAX]


def describe(certificate: x509.Certificate) -> str:
    """`subject "CN=alice", serial 4d2`: who it says it is."""
    return f'subject "{printable(certificate.subject.rfc4514_string())}", serial {serial_text(certificate)}'


def serial_text(certificate: x509.Certificate) -> str:
    """The serial in hex, two digits a byte, as Go and OpenSSL print it."""
    digits = f"{certificate.serial_number:x}"
    return digits if len(digits) % 2 == 0 else "0" + digits


# --- OpenSSL's reasons ---

_UNKNOWN_AUTHORITY_CODES: Final = {2, 7, 18, 19, 20, 21, 27}
_NOT_YET_VALID, _EXPIRED, _INVALID_CA, _WRONG_PURPOSE = 9, 10, 24, 26
_TOO_WEAK_CODES: Final = {66, 67, 68}

_GO_UNVERIFIED = "tls: failed to verify certificate: x509: "

# What the client says about our certificate: OpenSSL's reason -> (Go's text, what it means).
_CLIENT_ALERTS: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": ("unknown certificate authority", "the client does not trust the issuer of"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("bad certificate", "the client does not accept"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("expired certificate", "the client says that it is expired:"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("unknown certificate", "the client does not accept"),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": ("revoked certificate", "the client says that it is revoked:"),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": ("unsupported certificate", "the client cannot use"),
    "TLSV1_ALERT_DECRYPT_ERROR": ("error decrypting message", "the client cannot verify the signature made with"),
}


def explain(
    error: BaseException,
    config: ServerTlsConfig,
    offered: x509.Certificate | None,
    authorities: Sequence[x509.Certificate],
    first_bytes: bytes,
    now: datetime.datetime,
) -> Explanation:
    """The reason of a failed handshake. `first_bytes` are the client's first five, `authorities` the CA bundle."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Explanation(_unverified(error, config, offered, authorities, now))
    # An event loop says ConnectionAbortedError when its handshake timeout runs out, ConnectionResetError for an EOF.
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return Explanation("i/o timeout; the client did not finish the TLS handshake in time")
    reason = getattr(error, "reason", None) or ""
    # Python 3.11.2 calls an EOF in the handshake a zero return, later ones an EOF.
    gone = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError | EOFError)
    if gone or reason == "UNEXPECTED_EOF_WHILE_READING":
        when = "after its first TLS record" if first_bytes else "without sending anything (a bare TCP probe?)"
        return Explanation(f"EOF; the client went away {when}", quiet=True)
    if reason in _CLIENT_ALERTS:
        go_text, meaning = _CLIENT_ALERTS[reason]
        return Explanation(f"remote error: tls: {go_text}; {meaning} {_file(config, 'cert-file')}")
    return Explanation(_protocol(reason, config, first_bytes) or printable(str(error)))


def _protocol(reason: str, config: ServerTlsConfig, first_bytes: bytes) -> str:
    not_tls = "tls: first record does not look like a TLS handshake; the client speaks"
    match reason:
        case "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return (
                f"tls: client didn't provide a certificate; no client certificate, and {_demanding(config)} demands one"
            )
        case "HTTP_REQUEST" | "HTTPS_PROXY_REQUEST":
            return f"{not_tls} plain HTTP to a TLS port"
        case "WRONG_VERSION_NUMBER" if first_bytes.startswith(b"PRI"):
            return f"{not_tls} plain HTTP/2 (gRPC without TLS) to a TLS port"
        case "WRONG_VERSION_NUMBER" if first_bytes[:1] != b"\x16":
            return f"{not_tls} plain HTTP or something else to a TLS port"
        case "UNSUPPORTED_PROTOCOL" | "VERSION_TOO_LOW" | "VERSION_TOO_HIGH" | "WRONG_VERSION_NUMBER":
            highest = config.max_version or "TLS1.3"
            return (
                "tls: client offered only unsupported versions; this port takes "
                f"tls-min-version {config.min_version or 'TLS1.2'} to tls-max-version {highest}"
            )
        case "NO_SHARED_CIPHER" | "NO_SUITABLE_SIGNATURE_ALGORITHM" | "NO_SHARED_SIGNATURE_ALGORITHMS":
            source = "cipher-suites" if config.cipher_suites else "the default suites"
            return (
                "tls: no cipher suite supported by both client and server; "
                f"see {source} and the kind of key in {_file(config, 'cert-file')}"
            )
    return ""


def _unverified(
    error: ssl.SSLCertVerificationError,
    config: ServerTlsConfig,
    offered: x509.Certificate | None,
    authorities: Sequence[x509.Certificate],
    now: datetime.datetime,
) -> str:
    code = error.verify_code
    trusted = _demanding(config)
    if code in _UNKNOWN_AUTHORITY_CODES:
        text = f"certificate signed by unknown authority; client certificate signed by unknown authority ({trusted})"
        return _GO_UNVERIFIED + text + _same_name_hint(offered, authorities)
    if code in (_EXPIRED, _NOT_YET_VALID):
        return f"{_GO_UNVERIFIED}certificate has expired or is not yet valid; {_validity(offered, authorities, now)}"
    if code == _WRONG_PURPOSE:
        return (
            f"{_GO_UNVERIFIED}certificate specifies an incompatible key usage; "
            "the client certificate, or a CA above it, is not meant for client authentication (extended key usage)"
        )
    if code == _INVALID_CA:
        return (
            f"{_GO_UNVERIFIED}invalid CA certificate; an issuer in the chain, or in {trusted}, is not a CA certificate"
        )
    if code in _TOO_WEAK_CODES:
        return f"{_GO_UNVERIFIED}key or digest too weak; OpenSSL's security level refuses it: {error.verify_message}"
    return f"{_GO_UNVERIFIED}{error.verify_message} ({trusted})"


def _same_name_hint(offered: x509.Certificate | None, authorities: Sequence[x509.Certificate]) -> str:
    if offered is None:
        return ""
    issuer = f'"{printable(offered.issuer.rfc4514_string())}"'
    if any(authority.subject == offered.issuer for authority in authorities):
        return f"; a CA named {issuer} is trusted, but this certificate is not signed with its key"
    if offered.issuer == offered.subject:
        return "; it is self-signed"
    return f"; its issuer {issuer} is not among the trusted ones and no intermediate leads to one"


def _validity(offered: x509.Certificate | None, authorities: Sequence[x509.Certificate], now: datetime.datetime) -> str:
    for owner, certificate in [("client certificate", offered)] + [("trusted CA", each) for each in authorities]:
        if certificate is None:
            continue
        if certificate.not_valid_after_utc < now:
            return f"{owner} ({describe(certificate)}) expired at {stamp(certificate.not_valid_after_utc)}"
        if certificate.not_valid_before_utc > now:
            return f"{owner} ({describe(certificate)}) not valid before {stamp(certificate.not_valid_before_utc)}"
    return "an intermediate certificate that the client sent"


def stamp(moment: datetime.datetime) -> str:
    """RFC 3339 with seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _file(config: ServerTlsConfig, name: str) -> str:
    return f"{config.flag(name)} {config.cert_file}"


def _demanding(config: ServerTlsConfig) -> str:
    if config.trusted_ca_file:
        return f"{config.flag('trusted-ca-file')} {config.trusted_ca_file}"
    return f"{'peer-' if config.endpoint == 'peer' else ''}client-cert-auth with the system's authorities"


# --- host names, as Go matches them (crypto/x509, VerifyHostname) ---

_LABEL_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "-_")


def host_matches(host: str, dns_names: Sequence[str], addresses: Sequence[str]) -> bool:
    """Whether a certificate with these names stands for `host`, a name or an address ([::1] also in brackets).

    An address matches IP SANs alone. A wildcard stands for exactly one whole label, the leftmost. A name that is not a
    well-formed host name matches only its exact self. The common name never counts.
    """
    bare = host[1:-1] if len(host) >= 3 and host[0] == "[" and host[-1] == "]" else host
    wanted = _address(bare)
    if wanted is not None:
        return any(_address(address) == wanted for address in addresses)
    lowered = _ascii_lower(host)
    well_formed = _valid_host_name(lowered, pattern=False)
    labels = lowered.removesuffix(".").split(".")
    for name in dns_names:
        if well_formed and _valid_host_name(name, pattern=True):
            if _labels_match(_ascii_lower(name).split("."), labels):
                return True
        elif _ascii_lower(name) == lowered and lowered not in ("", "."):
            return True
    return False


def _labels_match(pattern: Sequence[str], labels: Sequence[str]) -> bool:
    if len(pattern) != len(labels):
        return False
    return pattern[1:] == labels[1:] and pattern[0] in ("*", labels[0])


def _valid_host_name(host: str, *, pattern: bool) -> bool:
    if not pattern:
        host = host.removesuffix(".")
    if host in ("", "*"):
        return False
    for index, label in enumerate(host.split(".")):
        if pattern and index == 0 and label == "*":
            continue
        if not label or label[0] == "-" or not _LABEL_CHARACTERS.issuperset(label):
            return False
    return True


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:  # Go knows no zones here
            return None
        return address.ipv4_mapped or address
    return address


def _ascii_lower(text: str) -> str:
    return text.translate(_LOWER)


_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
