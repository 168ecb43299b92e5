"""`ansible/renew-certs.yml`: new keys and certificates under running members, which take them by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts.site import PKI, changes
from tests.hosts.traffic import Traffic

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)

LIST = f"{PKI}/revoked.crl"


def fingerprints(cluster: Site) -> dict[tuple[str, int], int]:
    """The serial of what each member shows at each of its ports."""
    return {(host, port): cluster.served(host, port).serial_number for host in cluster.members for port in (2379, 2380)}


def test_what_is_due_is_renewed_and_no_member_restarts(cluster: Site) -> None:
    lab = cluster.lab
    settings: dict[str, Any] = {
        "etcdpy_renew_within": "400",  # more than the year that they have from now
        "etcdpy_topology": {"certificates": {"crl": "revoked.crl"}},
    }
    before, begun = fingerprints(cluster), cluster.begun()
    planned = cluster.play("renew-certs.yml", "--check", **settings)
    assert all(count > 0 for count in changes(planned).values()), planned
    assert fingerprints(cluster) == before
    with Traffic(lab, cluster.endpoints, cluster.client_certificates(), newcomers=True) as traffic:
        said = cluster.play("renew-certs.yml", **settings)
    assert not traffic.read_failures
    assert not traffic.told["retried"]
    assert not before.items() & fingerprints(cluster).items(), said
    assert cluster.begun() == begun
    assert "PRIVATE KEY" not in said
    assert not list((cluster.directory / "ca").glob("controller-*-key.pem")), "no key of a node has travelled"
    for host in cluster.members:
        keys = lab.on(host, "find", PKI, "-name", "*-key.pem", "-printf", "%m %u %f\n").splitlines()
        assert sorted(keys) == [f"600 etcdpy {name}-key.pem" for name in sorted(("client", host, f"{host}-peer"))]
        assert lab.on(host, "stat", "-c", "%s", LIST) != "0\n"
    again = cluster.play("renew-certs.yml")
    assert changes(again) == dict.fromkeys(cluster.members, 0), again


def test_one_host_gets_new_ones_before_they_are_due(cluster: Site) -> None:
    before = fingerprints(cluster)
    cluster.play("renew-certs.yml", "--limit=controller-1", etcdpy_renew_force=True)
    kept = before.items() & fingerprints(cluster).items()
    assert {host for (host, _), _ in kept} == {"controller-0", "controller-2"}
    assert len(kept) == 4
