"""Where local members live: their directory, their ports, and what follows from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etcdpy.client.channels import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS: Final = 3
CLIENT: Final = "admin"
HOST: Final = "127.0.0.1"
CLIENT_PORT_DEFAULT: Final = 2379
PEER_PORT_DEFAULT: Final = 2380
PORT_STEP: Final = 10
"""From one member's ports to the next one's."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster on this machine. Paths are as given: relative ones stay so, which keeps what is printed short."""

    directory: Path
    client_port: int = CLIENT_PORT_DEFAULT
    peer_port: int = PEER_PORT_DEFAULT

    @property
    def members(self) -> list[MemberPlace]:
        """Every member, by number."""
        return [MemberPlace(self, number) for number in range(MEMBERS)]

    @property
    def pki(self) -> Path:
        """The certificates and keys."""
        return self.directory / "pki"

    @property
    def endpoints(self) -> str:
        """The URLs for clients, as etcdctl takes them."""
        return ",".join(member.endpoint for member in self.members)

    @property
    def initial_cluster(self) -> str:
        """The members as they tell each other."""
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    def pem(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of that name."""
        return self.pki / f"{name}.pem", self.pki / f"{name}-key.pem"

    @property
    def client_tls(self) -> TlsFiles:
        """What a client shows and trusts."""
        certificate, key = self.pem(CLIENT)
        return TlsFiles(self.pki / "ca.pem", certificate, key)


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """One of its members."""

    cluster: Place
    number: int

    @property
    def name(self) -> str:
        """As the cluster knows it, and as its files are named."""
        return f"controller-{self.number}"

    @property
    def data(self) -> Path:
        """The member's data."""
        return self.cluster.directory / self.name

    @property
    def log(self) -> Path:
        """What the member writes."""
        return self.cluster.directory / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """The id of the member's process while it runs."""
        return self.cluster.directory / f"{self.name}.pid"

    @property
    def client_port(self) -> int:
        """Where clients connect."""
        return self.cluster.client_port + PORT_STEP * self.number

    @property
    def peer_port(self) -> int:
        """Where the other members connect."""
        return self.cluster.peer_port + PORT_STEP * self.number

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"https://{HOST}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """The URL for members."""
        return f"https://{HOST}:{self.peer_port}"

    def flags(self) -> list[str]:
        """The flags of the member: mutual TLS towards clients and peers."""
        certificate, key = self.cluster.pem(self.name)
        peer_certificate, peer_key = self.cluster.pem(f"{self.name}-peer")
        ca = self.cluster.pki / "ca.pem"
        return [
            f"--name={self.name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            f"--trusted-ca-file={ca}",
            "--client-cert-auth",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--peer-cert-file={peer_certificate}",
            f"--peer-key-file={peer_key}",
            f"--peer-trusted-ca-file={ca}",
            "--peer-client-cert-auth",
            f"--initial-cluster={self.cluster.initial_cluster}",
        ]


def member_environment() -> dict[str, str]:
    """Ours without etcd's settings: the member is described by its flags alone, and would refuse both at once."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
