"""The TLS between members, as the --peer-* flags say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.peer.tls import PeerTls, PeerTlsConfig
from etcdpy.transport.tls_selfsigned import self_signed_pair

if TYPE_CHECKING:
    from etcdpy.server.config import Config


def peer_tls(config: Config) -> PeerTls | None:
    """The TLS between members; None when no flag asks for it. Raises TlsConfigError, OSError."""
    cert_file, key_file = config.peer_cert_file, config.peer_key_file
    self_signed = config.peer_auto_tls and not cert_file
    if self_signed:
        hosts = [url.address for url in config.listen_peer_urls]
        cert_file, key_file = self_signed_pair(config.data_dir, "peer", hosts, config.self_signed_cert_validity)
    if not cert_file:
        return None
    return PeerTls(
        PeerTlsConfig(
            cert_file=cert_file,
            key_file=key_file,
            trusted_ca_file=config.peer_trusted_ca_file,
            client_cert_auth=config.peer_client_cert_auth,
            client_cert_file=config.peer_client_cert_file,
            client_key_file=config.peer_client_key_file,
            allowed_cns=config.peer_cert_allowed_cn,
            allowed_hostnames=config.peer_cert_allowed_hostname,
            crl_file=config.peer_crl_file,
            skip_client_san_verification=config.peer_skip_client_san_verification,
            self_signed=self_signed,
            # Certificates that a public authority signed name the domain, not the hosts that its records lead to.
            server_name="" if config.peer_trusted_ca_file else config.discovery_srv,
            cipher_suites=config.cipher_suites,
            min_version=config.tls_min_version,
            max_version=config.tls_max_version,
        )
    )
