"""Endpoints as DNS lists them: SRV records of `_etcd-client-ssl._tcp` and `_etcd-client._tcp` (DNS discovery)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    Lookup = Callable[[str], list[tuple[str, int]]]
    """Host and port of each SRV record of a name, in the order of their priority. Raises OSError."""

_SERVICES: Final = (("https", "etcd-client-ssl"), ("http", "etcd-client"))


def lookup_srv(name: str) -> list[tuple[str, int]]:
    """Ask DNS. Raises OSError."""
    import dns.exception  # here: who names endpoints needs no DNS library
    import dns.resolver

    try:
        answer = dns.resolver.resolve(name, "SRV", lifetime=limits.SRV_SECONDS)
    except dns.exception.DNSException as error:
        raise OSError(f"lookup {name}: {error}") from error
    records = sorted(answer, key=lambda record: (record.priority, -record.weight, record.target))
    return [(record.target.to_text(omit_final_dot=True), record.port) for record in records]


def record_names(domain: str, service_name: str) -> list[tuple[str, str]]:
    """The schemes of endpoints, each with the name whose SRV records list them."""
    suffix = f"-{service_name}" if service_name else ""
    return [(scheme, f"_{service}{suffix}._tcp.{domain}") for scheme, service in _SERVICES]


def client_endpoints(domain: str, service_name: str = "", lookup: Lookup = lookup_srv) -> list[str]:
    """`https://host:port` and `http://host:port`, those with TLS first. Raises OSError when neither service is there.

    `service_name` stands behind the services' names, as several clusters in one domain need it.
    """
    found: list[str] = []
    failures = []
    for scheme, name in record_names(domain, service_name):
        try:
            targets = lookup(name)
        except OSError as error:
            failures.append(str(error))
        else:
            found += [f"{scheme}://{host}:{port}" for host, port in targets]
    if len(failures) == len(_SERVICES):
        raise OSError(f"dns lookup errors: {' and '.join(failures)}")
    return found
