"""`ansible/site.yml`, run over ssh against bare hosts: a cluster, and what it refuses to begin with."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.hosts.site import CTL, MEMBERS, PKI, changes, looking_at_processes
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.conftest import Shared
    from tests.hosts.lab import Lab
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)


FLAGS: Final[dict[str, Any]] = {"etcdpy_topology": {"flags": {"snapshot-count": 5000}}}


@pytest.fixture(scope="module")
def site(shared: Shared) -> Site:
    """Bare hosts, of which the tests make the cluster that those of other files share."""
    return shared.bare()


AHEAD: Final = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += 600;
    return failed;
}

int fdatasync(int file) {
    usleep(150000);
    return syscall(SYS_fdatasync, file);
}
"""
"""For every program of a host: a clock ten minutes ahead, and a disk that takes its time."""


@contextmanager
def late_and_slow(lab: Lab, host: str, place: Path) -> Iterator[None]:
    library = place / "ahead.so"
    source = library.with_suffix(".c")
    source.write_text(AHEAD)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    content = base64.b64encode(library.read_bytes()).decode()
    lab.on(host, "sh", "-c", "base64 -d > /usr/local/lib/ahead.so", text=content)
    lab.on(host, "sh", "-c", "echo /usr/local/lib/ahead.so > /etc/ld.so.preload")
    try:
        yield
    finally:
        lab.on(host, "rm", "/etc/ld.so.preload")


@contextmanager
def occupied(lab: Lab, host: str) -> Iterator[None]:
    lab.on(host, "systemd-run", "--quiet", "--unit=taken", "python3", "-m", "http.server", "2380")
    wait_until(lambda: "2380" in lab.on(host, "ss", "-ltn"))
    try:
        yield
    finally:
        lab.on(host, "systemctl", "stop", "taken")


@contextmanager
def certified_for_another_address(site: Site, host: str, place: Path) -> Iterator[None]:
    pki = [str(site.directory / "etcdpy"), "pki"]
    subprocess.run([*pki, "init", f"--dir={place}"], check=True, stdout=subprocess.DEVNULL)
    issue = ("issue", host, "--profile=server", "--ip=10.240.0.9", "--ip=127.0.0.1", f"--dir={place}")
    subprocess.run([*pki, *issue], check=True, stdout=subprocess.DEVNULL)
    site.lab.on(host, "mkdir", "-p", PKI)
    site.lab.on(host, "tee", f"{PKI}/{host}.pem", text=(place / f"{host}.pem").read_text())
    try:
        yield
    finally:
        site.lab.on(host, "rm", "-r", "/etc/etcdpy")


def faults_of(output: str) -> list[str]:
    """The lines that name a fault, sorted, with what was measured left out."""
    lists = re.findall(r"^    msg:\n((?:    .*\n)+)", output, re.MULTILINE)
    lines = [line for each in lists for line in yaml.safe_load(each)]
    measured = re.compile(r"\S+/topology.yml|\b\d+(?= ms\b)|\b6\d\d(?= s ahead)")
    return sorted(measured.sub("N", line) for line in lines)


def test_all_faults_stop_it_before_anything_is_changed(site: Site, tmp_path: Path) -> None:
    one = site.lab.addresses["controller-0"]
    with late_and_slow(site.lab, "controller-2", tmp_path):
        said = site.refused(addresses={"controller-1": one})
    assert faults_of(said) == [
        "Error: N: nodes controller-0 and controller-1 have the same address 10.240.0.10",
        "controller-1: 10.240.0.10:2379 cannot be listened on: cannot assign requested address",
        "controller-1: 10.240.0.10:2380 cannot be listened on: cannot assign requested address",
        "controller-2: a sync in /var/lib takes N ms, more than 100; use a faster disk",
        "controller-2: its clock is N s ahead of the control machine's; set it (timedatectl)",
    ]
    site.members.remove("controller-2")
    try:
        with occupied(site.lab, "controller-1"), certified_for_another_address(site, "controller-0", tmp_path / "pki"):
            said = site.refused()
    finally:
        site.members.append("controller-2")
    assert faults_of(said) == [
        "Error: N: 2 members survive no more failures than 1; say cluster: allow_even_size if you mean it",
        (
            "controller-0: /etc/etcdpy/pki/controller-0.pem: https://10.240.0.10:2379: 10.240.0.10 is not among its"
            " names (10.240.0.9, 127.0.0.1); mend: issue it anew with --ip 10.240.0.10 beside the names that it has"
        ),
        "controller-1: 10.240.0.11:2380 cannot be listened on: address already in use",
    ]
    for host in site.lab.addresses:
        left = site.lab.on(host, "sh", "-c", "ls /opt /etc /usr/local/bin | grep -c etcdpy || true")
        assert left == "0\n"
    assert not (site.directory / "ca").exists()


def test_bare_hosts_become_a_cluster_and_a_second_run_changes_nothing(site: Site) -> None:
    planned = site.play("site.yml", "--check", **FLAGS)
    assert all(count > 0 for count in changes(planned).values()), planned
    assert not (site.directory / "ca").exists()
    begun = time.monotonic()
    with looking_at_processes(site.lab, "controller-0", never="PRIVATE KEY", once="batch"):
        first = site.play("site.yml", **FLAGS)
    print(f"three bare hosts to a healthy cluster: {time.monotonic() - begun:.0f} s")
    assert all(count > 0 for count in changes(first).values()), first
    lab = site.lab
    assert lab.on("controller-0", *CTL, "put", "greeting", "hello") == "OK\n"
    for host in site.members:
        assert lab.on(host, *CTL, "get", "greeting", "--print-value-only") == "hello\n"
        assert lab.on(host, "systemctl", "is-active", "etcdpy.service", "etcdpy-renew.timer") == "active\nactive\n"
        keys = lab.on(host, "find", PKI, "-name", "*-key.pem", "-printf", "%m %u %f\n").splitlines()
        assert sorted(keys) == [f"600 etcdpy {name}-key.pem" for name in sorted(("client", host, f"{host}-peer"))]
    assert not list((site.directory / "ca").glob("controller-*-key.pem")), "no key of a node has travelled"
    again = site.play("site.yml", **FLAGS)
    assert changes(again) == dict.fromkeys(MEMBERS, 0), again
    checked = site.play("site.yml", "--check", "--diff", **FLAGS)
    assert changes(checked) == dict.fromkeys(MEMBERS, 0), checked


def test_a_changed_setting_restarts_members_one_by_one(site: Site) -> None:
    before = {host: site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in MEMBERS}
    assert "--snapshot-count=5000" in site.lab.on("controller-0", "systemctl", "cat", "etcdpy")
    assert changes(site.play("site.yml", "--tags", "units", **FLAGS)) == dict.fromkeys(MEMBERS, 0)
    assert changes(site.play("site.yml", "--check")) == dict.fromkeys(MEMBERS, 1)
    site.play("site.yml")
    for host, old in before.items():
        assert site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") != old
        assert "--snapshot-count" not in site.lab.on(host, "systemctl", "cat", "etcdpy")
        assert site.lab.on(host, *CTL, "get", "greeting", "--print-value-only") == "hello\n"
