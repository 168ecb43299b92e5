"""TLS for dialing: certificate and authorities as the files are at each dial, and the names a server may have."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from etcdpy.transport import tls_refusal as refusal
from etcdpy.transport.tls_files import FileSet, KeyPair, load_key_pair, parse_authorities, parse_key_pair, trust
from etcdpy.transport.tls_options import TlsConfigError, apply_options, check_options
from etcdpy.transport.tls_reload import FollowingContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTlsConfig:
    """How to dial. Empty strings and tuples mean "not given".

    `verify=False` accepts any server. `server_name` is what its certificate must name instead of the host that is
    dialed; `allowed_cns` and `allowed_hostnames` restrict it further, as etcd does between members.
    """

    cert_file: str = ""
    key_file: str = ""
    trusted_ca_file: str = ""
    verify: bool = True
    server_name: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    cipher_suites: Sequence[str] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""
    alpn: Sequence[str] = ()

    def check(self) -> None:
        """Raise TlsConfigError, in etcd's words, for values that contradict each other."""
        if bool(self.cert_file) != bool(self.key_file):
            raise TlsConfigError(
                "ClientKeyFile and ClientCertFile must both be present or both absent: "
                f"key: {self.key_file}, cert: {self.cert_file}]"
            )
        check_options(self.cipher_suites, self.min_version, self.max_version)


class ClientTls:
    """Contexts to dial with. Raises TlsConfigError if flags or files cannot be used at the start.

    A changed file is taken in at the next dial; one that cannot be used is logged and the last good one stays.
    """

    def __init__(self, config: ClientTlsConfig, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        config.check()
        self.config = config
        self._pair: FileSet[KeyPair] | None = None
        self._authorities: FileSet[tuple[x509.Certificate, ...]] | None = None
        if config.cert_file:
            self._pair = FileSet(
                [config.cert_file, config.key_file],
                lambda contents: parse_key_pair(config.cert_file, config.key_file, contents),
                wall_ns,
            )
        if config.verify and config.trusted_ca_file:
            path = config.trusted_ca_file
            self._authorities = FileSet([path], lambda contents: parse_authorities(path, contents[0]), wall_ns)
        self._context = FollowingContext((self._pair, self._authorities), self._build)

    def context(self) -> ssl.SSLContext:
        """The context for one new connection, from the files as they are now; large ones as they were a moment ago."""
        return self._context.current()

    def certificates(self) -> tuple[x509.Certificate, ...]:
        """What we show, leaf first, as at the last dial."""
        return self._pair.value.certificates if self._pair is not None else ()

    def check_server(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> None:
        """After the handshake: the names that the server's certificate may have. Raises PermissionError."""
        config = self.config
        if not config.allowed_cns and not config.allowed_hostnames:
            return
        der = ssl_object.getpeercert(True)
        leaf = x509.load_der_x509_certificate(der) if der else None
        if leaf is not None and config.allowed_cns and refusal.common_name(leaf) in config.allowed_cns:
            return
        if leaf is not None and config.allowed_hostnames:
            dns_names, addresses = refusal.alternative_names(leaf)
            if any(refusal.host_matches(host, dns_names, addresses) for host in config.allowed_hostnames):
                return
        raise PermissionError("client certificate authentication failed")

    def _build(self) -> ssl.SSLContext:
        config = self.config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        apply_options(context, config.cipher_suites, config.min_version, config.max_version)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if config.alpn:
            context.set_alpn_protocols(list(config.alpn))
        if not config.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._authorities is not None:
            trust(context, self._authorities.value)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self._pair is not None:
            load_key_pair(context, self._pair.value)
        return context
