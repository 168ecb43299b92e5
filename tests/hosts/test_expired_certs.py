"""`ansible/expired-certs.yml`: certificates have expired everywhere, and nobody lets anybody in."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest

from pki.authority import Request, create_root
from pki.profiles import PROFILES
from pki.renewal import reissue
from pki.store import NO_KEY, Store
from tests.hosts.lab import LabError
from tests.hosts.site import CTL, PKI, changes
from tests.hosts.traffic import Traffic
from tests.support.certificates import utc_now

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)

AGO = datetime.timedelta(seconds=30)


def let_expire(cluster: Site) -> None:
    """All certificates have been of no use for half a minute."""
    certify_as_of(cluster, *(utc_now() - AGO - datetime.timedelta(days=PROFILES[kind].days) for kind in ("ca", "peer")))


def certify_as_of(cluster: Site, began: datetime.datetime, certified: datetime.datetime) -> None:
    """Put an authority that began then into place on all hosts, and certificates of its from then for their keys."""
    directory = cluster.directory / "ca"
    request = Request(PROFILES["ca"], "etcd CA")
    store = Store(directory, began)
    root = create_root(request, store.now)
    store.put("ca", request.profile, None, root.certificate, root.key, days=request.profile.days, force=True)
    store = Store(directory, certified)
    signer = store.signer("ca", NO_KEY)
    for entry in tuple(store.inventory.entries):
        if entry.profile != "ca" and not entry.replaced_at and store.has(entry.name):
            reissue(store, entry, signer)
    for host in cluster.members:
        for name, there in (("ca", "ca"), (host, host), (f"{host}-peer", f"{host}-peer"), (f"{host}-client", "client")):
            pem = (directory / f"{name}.pem").read_text()
            cluster.lab.on(host, "sh", "-c", f"cat > {PKI}/{there}.pem", text=pem)


def test_a_cluster_whose_certificates_have_expired_comes_back(cluster: Site) -> None:
    lab = cluster.lab
    assert lab.on("controller-0", *CTL, "put", "kept", "value") == "OK\n"
    let_expire(cluster)
    # Connections that stand would go on: members meet anew only where one has gone.
    lab.on("controller-0", "systemctl", "stop", "etcdpy")
    for host in cluster.members[1:]:
        lab.on(host, "systemctl", "restart", "--no-block", "etcdpy")
    for host in cluster.members:
        with pytest.raises(LabError):
            lab.on(host, *CTL, "--command-timeout=1s", "get", "kept")
    for host in cluster.members[1:]:
        state = lab.on(host, "systemctl", "show", "-P", "ActiveState", "etcdpy")
        assert state == "activating\n", "it waits for the others"
    begun = cluster.begun()
    said = cluster.play("expired-certs.yml")
    assert "PRIVATE KEY" not in said
    assert {host for host, moment in cluster.begun().items() if moment == begun[host]} == set(cluster.members[1:])
    for host in cluster.members:
        assert lab.on(host, *CTL, "get", "kept", "--print-value-only") == "value\n"
    with Traffic(lab, cluster.endpoints, cluster.client_certificates()) as traffic:
        pass
    assert not traffic.read_failures
    again = cluster.play("expired-certs.yml")
    assert changes(again) == dict.fromkeys(cluster.members, 0), "what has not expired stays"
