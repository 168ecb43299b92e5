"""TLS between members: the listener's side and the dialing side, out of the same flags."""

from __future__ import annotations

from dataclasses import dataclass

from etcdpy.transport.tls import LoadedCertificate, ServerTls, loaded
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig
from etcdpy.transport.tls_options import ServerTlsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTlsConfig:
    """The --peer-* flags. Empty strings and tuples mean "not given".

    `self_signed` says that the pair was made by --peer-auto-tls: nobody's identity is verified then. `server_name`
    (the domain of --discovery-srv) is what the others' certificates must name instead of their address.
    """

    cert_file: str
    key_file: str
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    client_cert_file: str = ""
    client_key_file: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    crl_file: str = ""
    skip_client_san_verification: bool = False
    self_signed: bool = False
    server_name: str = ""
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""


class PeerTls:
    """Both sides. Raises TlsConfigError if flags or files cannot be used at the start.

    Files that change take effect at the next handshake of their side, the authorities too (etcd reads those once).
    """

    def __init__(self, config: PeerTlsConfig) -> None:
        self.config = config
        self.server = ServerTls(
            ServerTlsConfig(
                cert_file=config.cert_file,
                key_file=config.key_file,
                trusted_ca_file=config.trusted_ca_file,
                client_cert_auth=config.client_cert_auth,
                crl_file=config.crl_file,
                allowed_hostnames=config.allowed_hostnames,
                allowed_cns=config.allowed_cns,
                cipher_suites=config.cipher_suites,
                min_version=config.min_version,
                max_version=config.max_version,
                endpoint="peer",
                verify_address=not config.skip_client_san_verification,
            )
        )
        self._separate = separate = bool(config.client_cert_file or config.client_key_file)
        self.client = ClientTls(
            ClientTlsConfig(
                cert_file=config.client_cert_file if separate else config.cert_file,
                key_file=config.client_key_file if separate else config.key_file,
                trusted_ca_file=config.trusted_ca_file,
                verify=not config.self_signed,
                server_name=config.server_name,
                allowed_cns=() if config.self_signed else config.allowed_cns,
                allowed_hostnames=() if config.self_signed else config.allowed_hostnames,
                cipher_suites=config.cipher_suites,
                min_version=config.min_version,
                max_version=config.max_version,
            )
        )

    def certificates(self) -> list[LoadedCertificate]:
        """Every certificate in use, for the expiry gauge."""
        found = self.server.certificates()
        if self._separate:
            found += [loaded(self.config.client_cert_file, "client", each) for each in self.client.certificates()]
        return found
