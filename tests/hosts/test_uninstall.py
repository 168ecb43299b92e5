"""`ansible/uninstall.yml`: etcdpy goes, what it has written stays, and `site.yml` takes it up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import LabError
from tests.hosts.site import PKI, changes

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)

CONSENT = "--extra-vars=etcdpy_consent=uninstall"
LEFT = (
    "ls -d /opt/etcdpy /usr/local/bin/etcdpy* /etc/systemd/system/*etcdpy* /etc/*.d/etcdpy.conf /etc/etcdpy/*.env; true"
)


def test_a_member_that_others_count_on_stays(cluster: Site) -> None:
    with pytest.raises(LabError, match="take it out of their cluster first"):
        cluster.play("uninstall.yml", CONSENT, "--limit=controller-0")
    with pytest.raises(LabError, match="etcdpy_consent=uninstall"):
        cluster.play("uninstall.yml")
    assert cluster.health() == set(cluster.endpoints)


def test_data_and_certificates_outlive_it(cluster: Site) -> None:
    lab = cluster.lab
    cluster.ctl("put", "uninstall/key", "value")
    # One was half uninstalled by somebody: its program is gone, and its unit, while it runs.
    lab.on("controller-1", "sh", "-c", "rm -r /opt/etcdpy/venv* /etc/systemd/system/etcdpy.service")
    lab.on("controller-1", "systemctl", "daemon-reload")
    cluster.play("uninstall.yml", CONSENT)
    for host in cluster.members:
        assert lab.on(host, "sh", "-c", LEFT) == ""
        assert lab.on(host, "systemctl", "list-units", "--all", "--no-legend", "etcdpy*") == ""
        lab.on(host, "ls", f"{PKI}/{host}-key.pem", f"/var/lib/etcdpy/{host}/member/FORMAT")
    assert changes(cluster.play("uninstall.yml", CONSENT)) == dict.fromkeys(cluster.members, 0)
    cluster.play("site.yml")
    assert cluster.ctl("get", "uninstall/key", "--print-value-only=false")["count"] == 1


def test_all_goes_where_that_is_asked_for(cluster: Site) -> None:
    lab, places = cluster.lab, f"/var/lib/etcdpy/controller-3 /var/backups/etcdpy {PKI}"
    lab.on("controller-3", "sh", "-ec", f"id etcdpy || useradd --system etcdpy; mkdir -p {places}")
    cluster.members.append("controller-3")
    try:
        delete = ["data", "backups", "certificates"]
        cluster.play("uninstall.yml", CONSENT, "--limit=controller-3", etcdpy_delete=delete)
    finally:
        cluster.members.remove("controller-3")
    left = lab.on("controller-3", "sh", "-c", f"ls -d {places} /etc/etcdpy /var/lib/etcdpy; getent passwd etcdpy; true")
    assert left == ""
