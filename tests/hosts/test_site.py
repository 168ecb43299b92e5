"""`ansible/site.yml`, run over ssh against bare hosts: a cluster, and what it refuses to begin with."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import Lab, LabError
from tests.hosts.site import CTL, PKI, Site, changes
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(lab: Lab, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(lab, wheels, tmp_path_factory.mktemp("site"))


def occupied(lab: Lab) -> Callable[[], None]:
    """Take the peer port of controller-1; the result gives it back."""
    lab.on("controller-1", "systemd-run", "--quiet", "--unit=taken", "python3", "-m", "http.server", "2380")
    wait_until(lambda: "2380" in lab.on("controller-1", "ss", "-ltn"))

    def free() -> None:
        lab.on("controller-1", "systemctl", "stop", "taken")

    return free


def test_faults_stop_it_before_anything_is_changed(site: Site) -> None:
    one = site.lab.addresses["controller-0"]
    assert "address" in (said := site.refused(addresses={"controller-1": one}))
    assert one in said
    free = occupied(site.lab)
    try:
        assert "10.240.0.11:2380 cannot be listened on: address already in use" in site.refused()
    finally:
        free()
    assert "a sync in /var/lib takes" in site.refused(etcdpy_fsync_ms_max=-1)
    assert "the control machine's; set it" in site.refused(etcdpy_clock_seconds_max=-1)
    for host in site.lab.addresses:
        assert (
            site.lab.on(host, "sh", "-c", "ls /opt /etc/etcdpy /usr/local/bin 2>/dev/null | grep -c etcdpy || true")
            == "0\n"
        )
    assert not (site.directory / "ca").exists()


def test_bare_hosts_become_a_cluster_and_a_second_run_changes_nothing(site: Site) -> None:
    planned = site.play("site.yml", "--check")
    assert all(count > 0 for count in changes(planned).values()), planned
    assert not (site.directory / "ca").exists()
    begun = time.monotonic()
    first = site.play("site.yml")
    print(f"three bare hosts to a healthy cluster: {time.monotonic() - begun:.0f} s")
    assert all(count > 0 for count in changes(first).values()), first
    assert "PRIVATE KEY" not in first
    lab = site.lab
    assert lab.on("controller-0", *CTL, "put", "greeting", "hello") == "OK\n"
    for host in lab.addresses:
        assert lab.on(host, *CTL, "get", "greeting", "--print-value-only") == "hello\n"
        assert lab.on(host, "systemctl", "is-active", "etcdpy.service", "etcdpy-renew.timer") == "active\nactive\n"
        keys = lab.on(host, "find", PKI, "-name", "*-key.pem", "-printf", "%m %u %f\n").splitlines()
        assert sorted(keys) == [f"600 etcdpy {name}-key.pem" for name in sorted(("client", host, f"{host}-peer"))]
    assert not list((site.directory / "ca").glob("controller-*-key.pem")), "no key of a node has travelled"
    again = site.play("site.yml")
    assert changes(again) == dict.fromkeys(lab.addresses, 0), again
    checked = site.play("site.yml", "--check", "--diff")
    assert changes(checked) == dict.fromkeys(lab.addresses, 0), checked


def test_a_changed_setting_restarts_members_one_by_one(site: Site) -> None:
    before = {host: site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in site.lab.addresses}
    assert changes(site.play("site.yml", "--tags", "units")) == dict.fromkeys(site.lab.addresses, 0)
    flags = {"flags": {"snapshot-count": 5000}}
    assert changes(site.play("site.yml", "--check", etcdpy_topology=flags)) == dict.fromkeys(site.lab.addresses, 1)
    site.play("site.yml", etcdpy_topology=flags)
    for host, old in before.items():
        assert site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") != old
        assert "--snapshot-count=5000" in site.lab.on(host, "systemctl", "cat", "etcdpy")
        assert site.lab.on(host, *CTL, "get", "greeting", "--print-value-only") == "hello\n"


def test_a_host_without_power_comes_back_and_so_do_all(site: Site) -> None:
    lab = site.lab
    lab.power("controller-2", "cut")
    assert lab.on("controller-0", *CTL, "put", "meanwhile", "written") == "OK\n"
    lab.power("controller-2", "on")

    def reads(host: str, key: str) -> str:
        try:
            return lab.on(host, *CTL, "get", key, "--print-value-only")
        except LabError:
            return ""

    wait_until(lambda: reads("controller-2", "meanwhile") == "written\n", 60)
    for host in lab.addresses:
        lab.power(host, "cut")
    with ThreadPoolExecutor() as together:  # none has started before the others have: a member waits for a quorum
        assert set(together.map(lambda host: lab.power(host, "on"), lab.addresses)) == {"running"}
    for host in lab.addresses:
        wait_until(lambda: reads(host, "meanwhile") == "written\n", 60)  # noqa: B023 - asked at once
