"""`ansible/migrate-from-etcd.yml`: three hosts go back to etcd, and from etcd to etcdpy again, while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.hosts.site import MEMBERS, PKI, changes
from tests.hosts.traffic import Traffic
from tests.support.client import wait_until
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = [pytest.mark.reference, pytest.mark.timeout(900)]

UNIT: Final = """\
[Service]
Type=notify
User=etcd
ExecStart=/usr/local/bin/etcd --name={name} --data-dir=/var/lib/etcd \\
  --cert-file=/etc/etcd/etcd.pem --key-file=/etc/etcd/etcd-key.pem --trusted-ca-file=/etc/etcd/ca.pem \\
  --peer-cert-file=/etc/etcd/etcd.pem --peer-key-file=/etc/etcd/etcd-key.pem --peer-trusted-ca-file=/etc/etcd/ca.pem \\
  --client-cert-auth --peer-client-cert-auth --listen-client-urls=https://{address}:2379,https://127.0.0.1:2379 \\
  --advertise-client-urls=https://{address}:2379 --listen-peer-urls=https://{address}:2380 \\
  --initial-advertise-peer-urls=https://{address}:2380 --initial-cluster={name}=https://{address}:2380
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""


def install_etcd(site: Site, host: str) -> None:
    """With a unit, a user, and certificates of the same authority in places of its own."""
    lab, address = site.lab, site.lab.addresses[host]
    config = str(lab.directory / "ssh_config")
    lab.run("scp", "-q", "-F", config, str(reference_binary("etcd")), f"root@{host}:/usr/local/bin/etcd")
    lab.on(host, "sh", "-c", "id etcd 2>/dev/null || useradd --system etcd")
    lab.on(host, "install", "-d", "-o", "etcd", "-m", "0700", "/etc/etcd")
    for source, target in ((f"{host}-peer", "etcd"), (f"{host}-peer-key", "etcd-key"), ("ca", "ca")):
        lab.on(host, "install", "-o", "etcd", "-m", "0600", f"{PKI}/{source}.pem", f"/etc/etcd/{target}.pem")
    unit = UNIT.format(name=host, address=address)
    lab.on(host, "install", "-m", "0644", "/dev/stdin", "/etc/systemd/system/etcd.service", text=unit)


def go_to_etcd(site: Site, host: str) -> None:
    """As ansible/README.md has it."""
    lab = site.lab
    lab.on(host, "systemctl", "disable", "--now", "etcdpy.service", "etcdpy.target", "etcdpy-renew.timer")
    lab.on(host, "etcdpyutl", "migrate", f"--data-dir=/var/lib/etcdpy/{host}", "--output-dir=/var/lib/etcd")
    lab.on(host, "chown", "-R", "etcd:", "/var/lib/etcd")
    lab.on(host, "rm", "-r", f"/var/lib/etcdpy/{host}")
    lab.on(host, "systemctl", "enable", "--now", "etcd")
    wait_until(lambda: site.health() == set(site.endpoints), 60)


def ids(site: Site) -> dict[str, int]:
    return {row["name"]: row["ID"] for row in site.ctl("member", "list")["members"]}


def running(site: Site, host: str) -> list[str]:
    states = site.lab.on(host, "sh", "-c", "systemctl is-active etcdpy etcd; systemctl is-enabled etcdpy etcd; true")
    return states.split()


def test_members_of_etcd_become_members_of_etcdpy(cluster: Site) -> None:
    lab, before = cluster.lab, ids(cluster)
    for host in MEMBERS:
        install_etcd(cluster, host)
    with Traffic(lab, cluster.endpoints, cluster.client_certificates()) as traffic:
        for host in MEMBERS:
            go_to_etcd(cluster, host)
        assert [running(cluster, host)[1] for host in MEMBERS] == ["active"] * 3
        said = cluster.refused("migrate-from-etcd.yml", etcdpy_etcd_data="/srv/etcd")
        assert "there are no data of etcd in /srv/etcd; say where: etcdpy_etcd_data" in said
        assert cluster.interrupted("migrate-from-etcd.yml", "Make data of etcdpy from those of etcd")
        (stopped,) = (host for host in MEMBERS if running(cluster, host)[1] != "active")
        # As after a conversion that lost its power: this is no data.
        lab.on(stopped, "install", "-d", f"/var/lib/etcdpy/{stopped}/.making-1234")
        traffic.go_on()
        cluster.play("migrate-from-etcd.yml")
        traffic.go_on()
    assert [running(cluster, host) for host in MEMBERS] == [["active", "inactive", "enabled", "disabled"]] * 3
    assert ids(cluster) == before, "they are the same members"
    again = cluster.play("site.yml")
    assert changes(again) == dict.fromkeys(MEMBERS, 0), again
    for host in MEMBERS:
        lab.on(host, "rm", "-r", "/var/lib/etcd", "/etc/etcd", "/etc/systemd/system/etcd.service")
