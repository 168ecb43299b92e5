"""Why TLS to an endpoint fails, by file, name and date.

gRPC says no more than that a connection failed. Once a call has, each endpoint is dialled again here, step by step:
the files of our own, the server's certificate, what the server says to ours.
"""

from __future__ import annotations

import datetime
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from etcdpy.client.channels import target_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from etcdpy.ctl.options import Options

DIAL_SECONDS_MAX: Final = 1.0
"""For each of the two connections at the most: the command has waited long enough already."""
NAMES_SHOWN_MAX: Final = 10

# OpenSSL's X509_V_ERR_*
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME: Final = frozenset({62, 63, 64})
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})


def explain(options: Options, endpoint: str) -> list[str]:
    """What is wrong with TLS to an endpoint, a sentence each; nothing where it is well, or where nobody listens."""
    target, secure = target_of(endpoint)
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    if target.startswith("unix:") or not port.isdecimal():
        return []
    dialled = _Dialled(host, int(port), target)
    try:
        if secure is False or (secure is None and not options.uses_tls):
            return list(_speaks_tls(dialled))
        own = list(_own_files(options))
        return own or list(_handshake(options, dialled))
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class _Dialled:
    host: str
    port: int
    target: str

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), DIAL_SECONDS_MAX)


def _speaks_tls(dialled: _Dialled) -> Iterator[str]:
    if _certificate_of(dialled) is not None:
        yield f"{dialled.target} speaks TLS: write https://{dialled.target}, and name its CA by --cacert"


def _certificate_of(dialled: _Dialled) -> x509.Certificate | None:
    """What the server shows, whatever it is worth."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(ssl.SSLError, ValueError), dialled.connect() as plain, context.wrap_socket(plain) as secured:
        shown = secured.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown) if shown else None
    return None


# --- our own files ---


def _own_files(options: Options) -> Iterator[str]:
    if options.trusted_ca is not None and not _certificates(options.trusted_ca):
        yield f"{options.trusted_ca} holds no certificate"
    if options.certificate is None or options.key is None:
        return
    own = _certificates(options.certificate)
    if not own:
        yield f"{options.certificate} holds no certificate"
        return
    yield from _validity(f"{options.certificate}: the client certificate {_subject(own[0])}", own[0])
    usages = _usages(own[0])
    if usages and ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        yield f"{options.certificate}: {_subject(own[0])} is no certificate for clients: its usages lack clientAuth"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(options.certificate, options.key, password=_no_password)
    except ssl.SSLError:
        yield f"{options.key} is not the key of {options.certificate}, or cannot be read without a password"


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    return ""


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return []


def _usages(certificate: x509.Certificate) -> Sequence[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        return []


def _validity(what: str, certificate: x509.Certificate) -> Iterator[str]:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_before_utc > now:
        yield f"{what} is not valid before {_date(certificate.not_valid_before_utc)}: is a clock wrong?"
    if certificate.not_valid_after_utc <= now:
        yield f"{what} expired at {_date(certificate.not_valid_after_utc)}"


def _date(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _subject(certificate: x509.Certificate) -> str:
    return _printable(certificate.subject.rfc4514_string()) or "without a subject"


def _printable(text: str) -> str:
    """Names are the server's to choose, and end up on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- the server ---


def _handshake(options: Options, dialled: _Dialled) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if options.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.trusted_ca is not None:
        context.load_verify_locations(options.trusted_ca)
    else:
        context.load_default_certs()
    if options.certificate is not None and options.key is not None:
        context.load_cert_chain(options.certificate, options.key, password=_no_password)
    name = dialled.host
    try:
        with dialled.connect() as plain, context.wrap_socket(plain, server_hostname=name) as secured:
            # In TLS 1.3 a server refuses our certificate after our side of the handshake. Nothing is sent: what is not
            # read when it closes would take its alert along.
            secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        yield from _untrusted(options, dialled, name, error)
    except ssl.SSLError as error:
        yield from _refused(options, dialled, error.reason or "")


def _untrusted(options: Options, dialled: _Dialled, name: str, error: ssl.SSLCertVerificationError) -> Iterator[str]:
    shown = _certificate_of(dialled)
    if shown is None:
        yield f"{dialled.target}: {error.verify_message}"
        return
    what = f"{dialled.target}: its certificate {_subject(shown)}"
    trusted = _certificates(options.trusted_ca) if options.trusted_ca is not None else []
    told: list[str] = []
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        told = [*_validity(what, shown)]
        told = told or [line for each in trusted for line in _validity(f"{options.trusted_ca}: {_subject(each)}", each)]
    elif error.verify_code in _UNKNOWN_ISSUER:
        told = [f"{what} {_issuer_fault(options.trusted_ca, trusted, shown)}"]
    elif error.verify_code in _WRONG_NAME:
        told = [f"{what} does not name {name}: it names {_names(shown)}"]
    yield from told or [f"{what}: {error.verify_message}"]


def _issuer_fault(path: Path | None, trusted: Sequence[x509.Certificate], shown: x509.Certificate) -> str:
    issuer = _printable(shown.issuer.rfc4514_string())
    if path is None:
        return f"was signed by {issuer}, which this system does not trust: name its CA by --cacert"
    for each in trusted:
        if each.subject == shown.issuer and not _signed(each, shown):
            return f"was not signed by {path}: there is {issuer} in it, with another key. Was the CA made anew?"
    return f"was signed by {issuer}, which is not in {path}: there is {', '.join(map(_subject, trusted))}"


def _signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "nothing (a common name alone does not count)"
    names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return _printable(", ".join(names[:NAMES_SHOWN_MAX])) + more


def _refused(options: Options, dialled: _Dialled, reason: str) -> Iterator[str]:
    """What the server's alert means; of other ends of a handshake there is nothing to say."""
    if reason in _NO_TLS:
        yield f"{dialled.target} speaks no TLS: write http://{dialled.target}"
    elif "ALERT" in reason and options.certificate is None:
        yield f"{dialled.target} wants a client certificate: name one by --cert and --key"
    elif "ALERT" in reason and options.certificate is not None:
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        own = _certificates(options.certificate)[0]
        issuer = _printable(own.issuer.rfc4514_string())
        yield (
            f"{dialled.target} refused the client certificate {options.certificate} ({_subject(own)}, signed by "
            f"{issuer}): {alert}. Is that CA in the server's --trusted-ca-file?"
        )
