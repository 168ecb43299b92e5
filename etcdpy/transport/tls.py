"""TLS of one listener: fresh certificates at every handshake, the checks OpenSSL does not do, and refusals explained.

    tls = ServerTls(ServerTlsConfig(cert_file=..., key_file=..., trusted_ca_file=...))
    ssl_object = tls.context().wrap_bio(incoming, outgoing, server_side=True)      # for each new connection
    ssl_object.do_handshake() ...
    tls.check_peer(ssl_object)                                                     # raises PeerRefused
    tls.log_refused(address, error)                                                # whatever either of them raised

A context is built when a file changed and never altered, so a session can be resumed only under the very certificates,
authorities and revocations that it was made under; a changed file makes every client do a full handshake.
"""

from __future__ import annotations

import datetime
import logging
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from etcdpy import limits
from etcdpy.transport import tls_refusal as refusal
from etcdpy.transport.tls_address import address_refusal, remote_host, resolved_refusal
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig
from etcdpy.transport.tls_files import (
    FileSet,
    load_key_pair,
    parse_authorities,
    parse_certificates,
    parse_key_pair,
    parse_revocation_list,
    read_bounded,
    trust,
)
from etcdpy.transport.tls_handshake import Handshake, WatchedContext, note_server_name, watch
from etcdpy.transport.tls_options import ServerTlsConfig, TlsConfigError, apply_options, check_options
from etcdpy.transport.tls_reload import FollowingContext
from etcdpy.transport.tls_selfsigned import SelfSigned, ensure_self_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

__all__ = [
    "LoadedCertificate",
    "PeerRefused",
    "SelfSigned",
    "ServerTls",
    "ServerTlsConfig",
    "TlsConfigError",
    "certificate_expiry",
    "check_options",
    "client_context",
    "ensure_self_signed",
]

logger = logging.getLogger("etcdpy.transport.tls")


class PeerRefused(ssl.SSLError):
    """A handshake that OpenSSL finished and our own rules do not accept; the text says who and why."""

    def __init__(self, text: str, certificate: x509.Certificate | None = None) -> None:
        super().__init__(1, text)
        self.text = text
        self.certificate = certificate

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """One certificate in use. `role` is "server", "server-chain" or "trusted-ca"; `not_after` is in Unix seconds."""

    file: str
    role: str
    subject: str
    not_after: float


class _Budget:
    """A token bucket for log lines: `take` says whether to log, and how many were left out since the last one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = float(limits.TLS_REFUSALS_LOGGED_BURST)
        self._filled_at = clock()
        self._left_out = 0

    def take(self) -> int | None:
        now = self._clock()
        gained = (now - self._filled_at) * limits.TLS_REFUSALS_LOGGED_PER_SECOND
        self._tokens = min(float(limits.TLS_REFUSALS_LOGGED_BURST), self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            self._left_out += 1
            return None
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class ServerTls:
    """The TlsSource of a listener. Raises TlsConfigError if flags or files cannot be used at the start.

    Not thread-safe: it belongs to the loop. `now` is the wall clock in
    seconds, `wall_ns` that of file stamps, `clock` the monotonic one that limits logging.
    """

    def __init__(
        self,
        config: ServerTlsConfig,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        config.check()
        self.config = config
        self._now = now
        self._warnings = _Budget(clock)
        self._knocks = _Budget(clock)
        self._pair = FileSet(
            [config.cert_file, config.key_file],
            lambda contents: parse_key_pair(config.cert_file, config.key_file, contents),
            wall_ns,
        )
        self._authorities: FileSet[tuple[x509.Certificate, ...]] | None = None
        if config.trusted_ca_file:
            path = config.trusted_ca_file
            self._authorities = FileSet([path], lambda contents: parse_authorities(path, contents[0]), wall_ns)
        self._revoked = None
        if config.crl_file:
            self._revoked = FileSet(
                [config.crl_file], lambda contents: parse_revocation_list(config.crl_file, contents[0]), wall_ns
            )
        self._context = FollowingContext((self._pair, self._authorities, self._revoked), self._build)
        self._report_start()

    # --- TlsSource ---

    def context(self) -> ssl.SSLContext:
        """The context for one new connection, from the files as they are now; large ones as they were a moment ago."""
        return self._context.current(sessions_max=limits.TLS_SESSIONS_CACHED_MAX)

    def check_peer(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> None:
        """After the handshake: the CRL, the allowed names, and validity once more. Raises PeerRefused.

        etcd compares every certificate of the chain with the CRL by serial, and only the leaf with the names.
        """
        if not self.config.demands_certificate:
            return
        leaf = _leaf(ssl_object)
        if leaf is None:
            raise _refused("tls: client didn't provide a certificate", ssl_object, None)
        chain = [leaf, *_issuers(ssl_object)]
        # A resumed TLS 1.2 session was verified up to five minutes ago, so the time is looked at again here.
        moment = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        if leaf.not_valid_after_utc < moment:
            text = f"client certificate expired at {refusal.stamp(leaf.not_valid_after_utc)}"
            raise _refused(f"x509: certificate has expired or is not yet valid; {text}", ssl_object, leaf)
        if self._revoked is not None:
            for certificate in chain:
                if certificate.serial_number in self._revoked.value.serials:
                    serial = refusal.serial_text(certificate)
                    raise _refused(
                        f"transport: certificate serial {serial} revoked; serial {serial} is revoked by "
                        f"{self.config.flag('crl-file')} {self.config.crl_file}",
                        ssl_object,
                        leaf,
                    )
        reason = self._name_refusal(leaf)
        if reason:
            raise _refused(f"client certificate authentication failed; {reason}", ssl_object, leaf)

    def check_address(
        self, ssl_object: ssl.SSLObject | ssl.SSLSocket, address: str
    ) -> Coroutine[None, None, None] | None:
        """Whether the client's certificate may come from `address`; the rest of the check if names must be resolved.

        Both this call and the coroutine raise PeerRefused. Only peer ports check this, as on etcd.
        """
        host = remote_host(address)
        leaf = _leaf(ssl_object) if self.config.verify_address and host else None
        if leaf is None:
            return None
        reason = address_refusal(leaf, host)
        if reason is None:
            return self._check_names(ssl_object, leaf, host)
        if reason:
            raise _refused(reason, ssl_object, leaf)
        return None

    async def _check_names(self, ssl_object: ssl.SSLObject | ssl.SSLSocket, leaf: x509.Certificate, host: str) -> None:
        reason = await resolved_refusal(leaf, host)
        if reason:
            raise _refused(reason, ssl_object, leaf)

    def log_refused(self, address: str, error: BaseException, ssl_object: object = None) -> None:
        """Log a connection that did not get through, as etcd does, with who it was and what to mend.

        `error` is what the handshake or `check_peer` raised, or TimeoutError when the time was up (then `ssl_object`
        lets the line name the client). Bounded in rate; a client that only knocked is logged at debug level.
        """
        handshake = getattr(error, "handshake", ssl_object)
        if not isinstance(handshake, Handshake):
            handshake = None
        offered = refusal.first_certificate(handshake.certificate_message) if handshake is not None else None
        if isinstance(error, PeerRefused):
            why = refusal.Explanation(error.text)
            offered = error.certificate
        else:
            moment = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
            known = self._authorities.value if self._authorities is not None else ()
            first_bytes = handshake.first_bytes if handshake is not None else b""
            why = refusal.explain(error, self.config, offered, known, first_bytes, moment)
        level = logging.DEBUG if why.quiet else logging.WARNING
        if not logger.isEnabledFor(level):
            return
        left_out = (self._knocks if why.quiet else self._warnings).take()
        if left_out is None:
            return
        fields: dict[str, object] = {
            "remote-addr": address,
            "server-name": handshake.server_name if handshake is not None else "",
        }
        if offered is not None:
            fields |= _names(offered)
        fields["error"] = why.error
        if left_out:
            fields["refusals-not-logged"] = left_out
        logger.log(level, "rejected connection on %s endpoint", self.config.endpoint, extra={"fields": fields})

    # --- for the server ---

    def certificates(self) -> list[LoadedCertificate]:
        """Every certificate in use, from the files as they are now: for the expiry gauge."""
        self._context.current()
        pair = self._pair.value.certificates
        rows = [loaded(self.config.cert_file, "server", pair[0])]
        rows += [loaded(self.config.cert_file, "server-chain", certificate) for certificate in pair[1:]]
        if self._authorities is not None:
            path = self.config.trusted_ca_file
            rows += [loaded(path, "trusted-ca", certificate) for certificate in self._authorities.value]
        return rows

    # --- inside ---

    def _build(self) -> ssl.SSLContext:
        context, quiet = WatchedContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._prepare(context)
        self._prepare(quiet)
        load_key_pair(context, self._pair.value)
        if self.config.demands_certificate:
            # The quiet one too: Python reads there whether getpeercert() may tell.
            context.verify_mode = quiet.verify_mode = ssl.CERT_REQUIRED
            # Go trusts whatever is in the bundle, an intermediate as well as a root.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if self._authorities is not None:
                trust(context, self._authorities.value)
            else:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.quiet = quiet
        context.sslobject_class = Handshake
        context.sni_callback = note_server_name
        if hasattr(context, "_msg_callback"):  # not public in Python; without it a refused client stays nameless
            context._msg_callback = watch
        return context

    def _prepare(self, context: ssl.SSLContext) -> None:
        context.options |= (
            ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        )
        context.num_tickets = 0
        # A client that offers only http/1.1 goes on without ALPN, as on etcd. Members speak HTTP/1.1 alone.
        context.set_alpn_protocols(["http/1.1" if self.config.endpoint == "peer" else "h2"])
        config = self.config
        self._unavailable = apply_options(context, config.cipher_suites, config.min_version, config.max_version)

    def _report_start(self) -> None:
        if self._unavailable:
            fields = {"cipher-suites": self._unavailable}
            logger.warning("OpenSSL here does not offer some of the cipher suites", extra={"fields": fields})
        if not self.config.demands_certificate and (self.config.allowed_cns or self.config.allowed_hostnames):
            flag = self.config.flag("cert-allowed-cn" if self.config.allowed_cns else "cert-allowed-hostname")
            needed = {"flag": flag, "needs": self.config.flag("trusted-ca-file")}
            logger.warning("no client certificate is asked for, so none is checked", extra={"fields": needed})

    def _name_refusal(self, leaf: x509.Certificate) -> str:
        config = self.config
        if config.allowed_cns:
            name = refusal.common_name(leaf)
            if name not in config.allowed_cns:
                return f'common name "{refusal.printable(name)}" is not in {config.flag("cert-allowed-cn")}'
        if config.allowed_hostnames:
            dns_names, addresses = refusal.alternative_names(leaf)
            if not any(refusal.host_matches(host, dns_names, addresses) for host in config.allowed_hostnames):
                flag = config.flag("cert-allowed-hostname")
                return f"no name in the client certificate is allowed by {flag} {','.join(config.allowed_hostnames)}"
        return ""


def _refused(text: str, ssl_object: object, certificate: x509.Certificate | None) -> PeerRefused:
    error = PeerRefused(text, certificate)
    error.handshake = ssl_object  # type: ignore[attr-defined]
    return error


def _leaf(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> x509.Certificate | None:
    der = ssl_object.getpeercert(True)
    return x509.load_der_x509_certificate(der) if der else None


def _issuers(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> list[x509.Certificate]:
    """The rest of the verified chain; empty for a resumed session, and where Python does not tell."""
    inner = getattr(ssl_object, "_sslobj", None)
    chain = inner.get_verified_chain() if inner is not None and hasattr(inner, "get_verified_chain") else None
    return [x509.load_der_x509_certificate(each.public_bytes(_OPENSSL_DER)) for each in (chain or [])[1:]]


_OPENSSL_DER = 2  # _ssl.ENCODING_DER


def _names(certificate: x509.Certificate) -> dict[str, object]:
    dns_names, addresses = refusal.alternative_names(certificate)
    return {
        "ip-addresses": addresses,
        "dns-names": [refusal.printable(name) for name in dns_names],
        "subject": refusal.printable(certificate.subject.rfc4514_string()),
        "serial": refusal.serial_text(certificate),
    }


def loaded(path: str, role: str, certificate: x509.Certificate) -> LoadedCertificate:
    """A certificate of a file as the gauge shows it."""
    subject = certificate.subject.rfc4514_string()
    return LoadedCertificate(path, role, subject, certificate.not_valid_after_utc.timestamp())


def certificate_expiry(path: str, role: str) -> list[LoadedCertificate]:
    """The certificates of any other PEM file, such as --client-cert-file, for the gauge. Raises TlsConfigError."""
    return [loaded(path, role, certificate) for certificate in parse_certificates(path, read_bounded(path))]


def client_context(
    *,
    cert_file: str = "",
    key_file: str = "",
    trusted_ca_file: str = "",
    verify: bool = True,
    cipher_suites: Sequence[str] = (),
    min_version: str = "TLS1.2",
    max_version: str = "",
    alpn: Sequence[str] = ("h2",),
) -> ssl.SSLContext:
    """A context to dial with, such as --client-cert-file for the server's calls to itself. Raises TlsConfigError.

    `verify=False` accepts any server, which is right only for a server that dials its own address. The files are read
    now; make a new context for each connection to follow changes.
    """
    config = ClientTlsConfig(
        cert_file=cert_file,
        key_file=key_file,
        trusted_ca_file=trusted_ca_file,
        verify=verify,
        cipher_suites=cipher_suites,
        min_version=min_version,
        max_version=max_version,
        alpn=alpn,
    )
    return ClientTls(config).context()
