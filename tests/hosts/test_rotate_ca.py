"""`ansible/rotate-ca.yml`: another authority under running members and clients, cut off in each phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes

from pki.files import read_certificates
from tests.hosts.lab import LabError
from tests.hosts.traffic import Traffic
from tests.support.client import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)

HOOK = """#!/bin/sh -e
# What an operator does for a client: all files at once.
new=$(mktemp -d "$(dirname "$0")/XXXXXX")
cp "$2"/ca.pem "$2"/traffic.pem "$2"/traffic-key.pem "$new"
ln -s "$new" "$new.link"
mv -T "$new.link" "$(dirname "$0")/current"
echo "$1" >> "$(dirname "$0")/told"
"""


def authority(cluster: Site) -> list[x509.Certificate]:
    return read_certificates(cluster.directory / "ca" / "ca.pem")


def test_without_a_way_to_tell_clients_it_stops_at_once(cluster: Site) -> None:
    before = authority(cluster)
    with pytest.raises(LabError) as refusal:
        cluster.play("rotate-ca.yml")
    assert "clients must get the new files between the phases" in str(refusal.value)
    assert authority(cluster) == before


def test_clients_go_on_under_the_new_authority(cluster: Site, tmp_path: Path) -> None:
    lab = cluster.lab
    hook = tmp_path / "hook"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    cluster.client_certificates()
    lab.run(str(hook), "before", str(cluster.directory / "ca"))
    begun, (old,) = cluster.begun(), authority(cluster)
    with Traffic(lab, cluster.endpoints, tmp_path / "current", newcomers=True) as traffic:
        assert cluster.interrupted("rotate-ca.yml", "Bring the authority's certificate", "--tags=trust")
        assert cluster.interrupted("rotate-ca.yml", "Accept them", cut_after=0.0, etcdpy_rotation_hook=str(hook))
        traffic.go_on()
        assert cluster.interrupted("rotate-ca.yml", "Write the revocation list", etcdpy_rotation_hook=str(hook))
        cluster.play("rotate-ca.yml", etcdpy_rotation_hook=str(hook))
        (new,) = authority(cluster)
        digest = new.fingerprint(hashes.SHA256()).hex()
        wait_until(lambda: traffic.told["roots"] == dict.fromkeys(cluster.endpoints, digest), 20)
    assert not traffic.read_failures
    assert not traffic.told["retried"]
    assert new != old
    assert (tmp_path / "told").read_text().split() == ["before", "trust", "reissue", "drop"]
    assert cluster.begun() == begun, "no member has restarted"
    for host in cluster.members:
        for port in (2379, 2380):
            cluster.served(host, port).verify_directly_issued_by(new)
    assert not list((cluster.directory / "ca").glob("controller-*-key.pem")), "no key of a node has travelled"
    # Connections between members stand from before. One that dials, and is dialled, is met under the new authority.
    lab.on("controller-1", "systemctl", "restart", "etcdpy")
    wait_until(lambda: cluster.health() == set(cluster.endpoints), 60)
