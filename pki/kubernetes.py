"""The bundle that Kubernetes guides use on their controllers: one certificate for the API server and all etcd members.

    ca.pem  ca-key.pem  kubernetes.pem  kubernetes-key.pem

It is simple and it is shared: who takes one host has the key of all. Certificates of their own for each member
(`issue --profile server`, `--profile peer`) are better; this is for those who follow such a guide.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from pki.authority import Request, create_root, is_address
from pki.errors import PkiError
from pki.profiles import PROFILES
from pki.renewal import why_due

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pki import keys
    from pki.store import KeyAccess, Made, Signer, Store

NAME: Final = "kubernetes"
SERVICE_ADDRESS: Final = "10.32.0.1"
"""The first address of the service network that the guides choose."""
_SERVICE_NAMES: Final = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster",
    "kubernetes.svc.cluster.local",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Controller:
    """A host that runs a member and an API server."""

    name: str
    addresses: tuple[str, ...]


def parse_controller(text: str) -> Controller:
    """`controller-0=10.240.0.10` or `controller-0=10.240.0.10,203.0.113.5`. Raises PkiError."""
    name, equals, rest = text.partition("=")
    addresses = tuple(rest.split(","))
    try:
        for address in addresses:
            ipaddress.ip_address(address)
    except ValueError:
        equals = ""
    if not name or not equals:
        raise PkiError(f'--controller "{text}" must be NAME=ADDRESS, such as controller-0=10.240.0.10')
    return Controller(name, addresses)


def ensure_bundle(
    store: Store,
    controllers: Sequence[Controller],
    access: KeyAccess,
    *,
    service_address: str = SERVICE_ADDRESS,
    extra: Sequence[str] = (),
    key_type: keys.KeyType,
    days: int | None = None,
) -> list[Made]:
    """Make what is missing, due, or made for other hosts; returns what was written. Raises PkiError."""
    request = _request(controllers, service_address, extra, key_type, days)
    request.check()
    made = []
    if not store.has("ca"):
        root = Request(PROFILES["ca"], "Kubernetes", key_type=key_type)
        issued = create_root(root, store.now)
        made.append(store.put("ca", root.profile, None, issued.certificate, issued.key, days=root.profile.days))
    if _stands(store, request):
        return made
    signer: Signer = store.signer("ca", access)
    leaf = signer.authority.issue(request, store.now)
    wanted = request.profile.days if days is None else days
    made.append(store.put(NAME, request.profile, signer, leaf.certificate, leaf.key, days=wanted, force=True))
    return made


def _request(
    controllers: Sequence[Controller],
    service_address: str,
    extra: Sequence[str],
    key_type: keys.KeyType,
    days: int | None,
) -> Request:
    addresses = [address for each in controllers for address in each.addresses]
    if len(set(addresses)) != len(addresses) or len({each.name for each in controllers}) != len(controllers):
        raise PkiError("two controllers have the same name or address")
    dns_names = [each.name for each in controllers]
    for text in extra:
        (addresses if is_address(text) else dns_names).append(text)
    return Request(
        PROFILES["peer"],
        NAME,
        organizations=("Kubernetes",),
        addresses=(*addresses, service_address, "127.0.0.1"),
        dns_names=(*dns_names, *_SERVICE_NAMES, "localhost"),
        days=days,
        key_type=key_type,
    )


def _stands(store: Store, request: Request) -> bool:
    """Whether the bundle that is there names all these hosts and no others, and is not due."""
    entry = store.inventory.current(NAME)
    if entry is None or not store.has(NAME) or entry.revoked_at or why_due(store, entry, None):
        return False
    names = store.certificates(NAME)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names) == set(request.alternative_names())
