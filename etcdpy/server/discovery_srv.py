"""--discovery-srv: the founding members as DNS lists them, in SRV records of `_etcd-server-ssl._tcp` and
`_etcd-server._tcp`, each with --discovery-srv-name behind it where that is set.

A record whose address is one of this member's own peer URLs is this member; the others get numbers for names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from etcdpy import limits
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etcdpy.server.config import Config
    from etcdpy.server.url_match import Resolve
    from etcdpy.server.urls import Url

    Lookup = Callable[[str], Awaitable[list["Target"]]]
    """The SRV records of a name, in the order of their priority. Raises OSError."""

log = logs.get("embed")

_SERVICES = (("https", "etcd-server-ssl"), ("http", "etcd-server"))


class Target(NamedTuple):
    """Where one SRV record leads. Lower priorities come first; equal ones share the load by their weight."""

    host: str
    port: int
    priority: int = 0
    weight: int = 0


async def lookup_srv(name: str) -> list[Target]:
    """Ask DNS. Raises OSError."""
    import dns.asyncresolver  # here: a start without --discovery-srv needs no DNS library
    import dns.exception

    try:
        answer = await dns.asyncresolver.resolve(name, "SRV", lifetime=limits.SRV_SECONDS)
    except dns.exception.DNSException as error:
        raise OSError(f"lookup {name}: {error}") from error
    records = sorted(answer, key=lambda record: (record.priority, -record.weight, record.target))
    return [
        Target(record.target.to_text(omit_final_dot=True), record.port, record.priority, record.weight)
        for record in records
    ]


async def find_members(config: Config, resolve: Resolve, lookup: Lookup = lookup_srv) -> list[str]:
    """`name=url` for each record of both services. Raises OSError when neither gives any."""
    suffix = f"-{config.discovery_srv_name}" if config.discovery_srv_name else ""
    own = {await resolve(url.host, url.port): url for url in config.initial_advertise_peer_urls}
    found: list[str] = []
    failures = []
    for scheme, service in _SERVICES:
        problem = ""
        try:
            found += await _of_service(
                f"_{service}{suffix}._tcp.{config.discovery_srv}", scheme, config.name, own, resolve, lookup
            )
        except OSError as error:
            problem = f"error querying DNS SRV records for _{service}{suffix} {error}"
            failures.append(problem)
        log.info(
            f"get cluster for {service} SRV",
            **{
                "service-scheme": scheme,
                "service-name": service + suffix,
                "server-name": config.name,
                "discovery-srv": config.discovery_srv,
                "found-cluster": found,
                **({"error": problem} if problem else {}),
            },
        )
    if not found:
        raise OSError("; ".join(failures))
    return found


async def _of_service(
    domain: str, scheme: str, name: str, own: Mapping[str, Url], resolve: Resolve, lookup: Lookup
) -> list[str]:
    found: list[str] = []
    problem: OSError | None = None
    unnamed = 0
    for target in await lookup(domain):
        try:
            url = own.get(await resolve(target.host, target.port))
        except OSError as error:
            problem = error
            continue
        place = f"{scheme}://{target.host}:{target.port}"
        if url is None:
            found.append(f"{unnamed}={place}")
            unnamed += 1
        elif url.scheme == scheme:
            found.append(f"{name}={place}")
        else:
            problem = OSError(
                f"bootstrap at {place} from DNS for {domain} has scheme mismatch with expected peer {url}"
            )
    if not found:
        raise problem or OSError(f"{domain} has no records")
    return found
