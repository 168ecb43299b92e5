"""Where a local member lives: its directory, its ports, and what follows from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etcdpy.client.channels import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path

MEMBER: Final = "controller-0"
CLIENT: Final = "admin"
HOST: Final = "127.0.0.1"
CLIENT_PORT_DEFAULT: Final = 2379
PEER_PORT_DEFAULT: Final = 2380


@dataclass(frozen=True, slots=True)
class Place:
    """One member on this machine. Paths are as given: relative ones stay so, which keeps what is printed short."""

    directory: Path
    client_port: int = CLIENT_PORT_DEFAULT
    peer_port: int = PEER_PORT_DEFAULT

    @property
    def pki(self) -> Path:
        """The certificates and keys."""
        return self.directory / "pki"

    @property
    def data(self) -> Path:
        """The member's data."""
        return self.directory / MEMBER

    @property
    def log(self) -> Path:
        """What the member writes."""
        return self.directory / f"{MEMBER}.log"

    @property
    def pid_file(self) -> Path:
        """The id of the member's process while it runs."""
        return self.directory / f"{MEMBER}.pid"

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"https://{HOST}:{self.client_port}"

    def pem(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of that name."""
        return self.pki / f"{name}.pem", self.pki / f"{name}-key.pem"

    @property
    def client_tls(self) -> TlsFiles:
        """What a client shows and trusts."""
        certificate, key = self.pem(CLIENT)
        return TlsFiles(self.pki / "ca.pem", certificate, key)

    def member_flags(self) -> list[str]:
        """The flags of the member: mutual TLS towards clients and peers."""
        peer_url = f"https://{HOST}:{self.peer_port}"
        certificate, key = self.pem(MEMBER)
        peer_certificate, peer_key = self.pem(f"{MEMBER}-peer")
        ca = self.pki / "ca.pem"
        return [
            f"--name={MEMBER}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            f"--trusted-ca-file={ca}",
            "--client-cert-auth",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--peer-cert-file={peer_certificate}",
            f"--peer-key-file={peer_key}",
            f"--peer-trusted-ca-file={ca}",
            "--peer-client-cert-auth",
            f"--initial-cluster={MEMBER}={peer_url}",
        ]


def member_environment() -> dict[str, str]:
    """Ours without etcd's settings: the member is described by its flags alone, and would refuse both at once."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
