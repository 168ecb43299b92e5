"""Where the cluster is: --endpoints, or the SRV records of a domain, of which those are taken whose certificate is good
for the domain, unless --insecure-discovery says that any will do.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from etcdpy import limits
from etcdpy.client.srv import record_names
from etcdpy.commandline import Exit, Failure
from etcdpy.server import logs
from etcdpy.server.discovery_srv import Target, lookup_srv
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Lookup = Callable[[str], Awaitable[list[Target]]]

log = logs.get("etcdmain")

_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]:([^:\[\]]*)")
_PLAIN: Final = re.compile(r"([^:\[\]]*):([^:\[\]]*)")


class Found(NamedTuple):
    """An endpoint as DNS lists it."""

    url: str
    target: Target


def split_host_port(text: str) -> tuple[str, str]:
    """Host and port of `host:port` or `[v6]:port`. Raises ValueError for anything else, as Go's net.SplitHostPort."""
    match = _BRACKETED.fullmatch(text) or _PLAIN.fullmatch(text)
    if match is None:
        raise ValueError(f"no address and port: {text}")
    return match[1], match[2]


def strip_scheme(endpoint: str) -> str:
    """`host:port` of a URL; what is none stays as it is."""
    try:
        return urlsplit(endpoint).netloc or endpoint
    except ValueError:
        return endpoint


async def discover(
    domain: str, service_name: str, *, trusted_ca: str, insecure: bool, lookup: Lookup = lookup_srv
) -> list[Found]:
    """The endpoints that DNS lists; none where no domain is given. Raises Failure, TlsConfigError."""
    if not domain:
        return []
    found: list[Found] = []
    problems = []
    names = record_names(domain, service_name)
    for scheme, name in names:
        try:
            for target in await lookup(name):
                host = f"[{target.host}]" if ":" in target.host else target.host
                found.append(Found(f"{scheme}://{host}:{target.port}", target))
        except OSError as error:
            problems.append(str(error))
    if len(problems) == len(names):
        raise Failure(Exit.ERROR, f"dns lookup errors: {' and '.join(problems)}")
    fields = {"srv-server": domain, "endpoints": [each.url for each in found]}
    log.info("discovered cluster from SRV", **fields)
    if insecure:
        return found
    log.info("validating discovered SRV endpoints", **fields)
    tls = ClientTls(ClientTlsConfig(trusted_ca_file=trusted_ca, server_name=domain))
    reasons = await asyncio.gather(*(_refusal(each, domain, tls) for each in found))
    good = [each for each, reason in zip(found, reasons, strict=True) if not reason]
    fields["endpoints"] = [each.url for each in good]
    if good == found:
        log.info("using validated discovered SRV endpoints", **fields)
    else:
        log.warn("failed to validate discovered endpoints", **fields, error=",".join(filter(None, reasons)))
    return good


async def _refusal(found: Found, domain: str, tls: ClientTls) -> str:
    """Why an endpoint is not to be used; empty where it is."""
    if not found.url.startswith("https://"):
        return f'"{found.url}" is insecure'
    try:
        async with asyncio.timeout(limits.GATEWAY_DIAL_SECONDS):
            _, writer = await asyncio.open_connection(
                found.target.host, found.target.port, ssl=tls.context(), server_hostname=domain
            )
    except (OSError, ssl.SSLError) as error:
        return f'"{found.url}" failed dial ({error})'
    writer.close()
    return ""


def targets_of(endpoints: Sequence[str]) -> list[Target]:
    """--endpoints as places to dial. Raises Failure in etcd's words for what is none."""
    targets = []
    for endpoint in endpoints:
        text = strip_scheme(endpoint)
        try:
            host, port = split_host_port(text)
        except ValueError:
            raise Failure(Exit.ERROR, f'error parsing endpoint "{text}"') from None
        digits = re.match(r"[0-9]+", port)
        targets.append(Target(host, int(digits[0]) if digits else 0))
    return targets
