"""Whether a peer's certificate may come from where it came from (etcd's check of the peer port).

A certificate with IP SANs must name the remote address; one with DNS SANs must have a name that the address resolves
to, or that resolves to the address. Wildcards match by suffix, and only names that the address resolves to. A
certificate without either passes. Off with --peer-skip-client-san-verification.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from etcdpy.transport import tls_refusal as refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509


def remote_host(address: str) -> str:
    """The host of `host:port` or `[host]:port`; empty for a unix socket, which has no address to check."""
    host, colon, _ = address.rpartition(":")
    return host.strip("[]") if colon else ""


def address_refusal(certificate: x509.Certificate, host: str) -> str | None:
    """Why the certificate may not come from `host`; empty if it may; None if only the names' resolution can tell."""
    dns_names, addresses = refusal.alternative_names(certificate)
    if not dns_names and not addresses:
        return ""
    if addresses and refusal.host_matches(host, (), addresses):
        return ""
    if dns_names:
        return None
    return f"x509: certificate is valid for {', '.join(addresses)}, not {host}"


async def resolved_refusal(certificate: x509.Certificate, host: str) -> str:
    """Why none of the DNS SANs stands for `host`; empty if one does."""
    dns_names, _ = refusal.alternative_names(certificate)
    names = [name for name in dns_names if not name.startswith("*.")]
    suffixes = tuple(name[1:] for name in dns_names if name.startswith("*."))
    loop = asyncio.get_running_loop()
    failure = ""
    try:
        primary, aliases, _ = await loop.run_in_executor(None, socket.gethostbyaddr, host)
        found = [name.removesuffix(".") for name in (primary, *aliases)]
        if any(name in names or (suffixes and name.endswith(suffixes)) for name in found):
            return ""
    except OSError as error:
        failure = f"lookup {host}: {error.strerror or error}"
    for name in names:
        try:
            answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            failure = f"lookup {refusal.printable(name)}: {error.strerror or error}"
            continue
        if any(answer[4][0] == host for answer in answers):
            return ""
    return f'tls: "{host}" does not match any of DNSNames {_quoted(dns_names)}' + (f" ({failure})" if failure else "")


def _quoted(names: Sequence[str]) -> str:
    return "[" + " ".join(f'"{refusal.printable(name)}"' for name in names) + "]"
