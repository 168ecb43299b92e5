"""What the lab's hosts are: real ones, as far as units and clients can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hosts.lab import Lab


def test_each_runs_systemd_and_reaches_the_others(lab: Lab) -> None:
    for host in lab.addresses:
        assert lab.on(host, "cat", "/proc/1/comm") == "systemd\n"
        assert lab.on(host, "hostname") == f"{host}\n"
        for other in lab.addresses.values():
            lab.on(host, "ping", "-c1", "-W2", "-q", other)
    assert lab.run("ssh", "-F", str(lab.directory / "ssh_config"), "ops@controller-1", "sudo", "id", "-u") == "0\n"


def test_a_host_that_loses_power_boots_again(lab: Lab) -> None:
    before = lab.on("controller-2", "cat", "/proc/sys/kernel/random/boot_id")
    lab.power("controller-2", "cut")
    assert lab.power("controller-2", "on") == "running"
    assert lab.on("controller-2", "cat", "/proc/sys/kernel/random/boot_id") != before
