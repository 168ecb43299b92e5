"""`ansible/add-member.yml` and `ansible/remove-member.yml`: members come and go, while clients go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.hosts.lab import LabError
from tests.hosts.site import MEMBERS, changes
from tests.hosts.traffic import Traffic
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)

CONSENT: Final[dict[str, Any]] = {"etcdpy_topology": {"cluster": {"allow_even_size": True}}}
NEW, OLD = "controller-3", "controller-2"


def pids(site: Site, hosts: Sequence[str]) -> dict[str, str]:
    return {host: site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in hosts}


def members(site: Site) -> dict[str, bool]:
    """Who is a member, and whether it is a learner."""
    listed = site.ctl("member", "list")["members"]
    return {row.get("name", ""): row.get("isLearner", False) for row in listed}


def add_learner(site: Site) -> None:
    """As an earlier run did that was cut off behind it. Members are taken once all have known each other for 5 s."""

    def is_added() -> bool:
        try:
            site.ctl("member", "add", NEW, "--learner", f"--peer-urls=https://{site.lab.addresses[NEW]}:2380")
        except LabError as error:
            if "unhealthy cluster" not in str(error):
                raise
            return False
        return True

    wait_until(is_added, pause_seconds=0.5)


def let_lead(site: Site, host: str) -> None:
    rows = {row["name"]: row["ID"] for row in site.ctl("member", "list")["members"]}
    (leader,) = {row["Status"]["leader"] for row in site.ctl("endpoint", "status", "--cluster")}
    if leader != rows[host]:
        all_of_them = f"--endpoints={','.join(site.endpoints)}"
        site.ctl(all_of_them, "move-leader", f"{rows[host]:x}")


def test_a_host_joins_and_another_leaves_and_comes_back(cluster: Site) -> None:
    lab, others = cluster.lab, MEMBERS[:2]
    before = pids(cluster, others)
    cluster.members.append(NEW)
    said = cluster.refused("add-member.yml")
    assert "4 members survive no more failures than 3; say cluster: allow_even_size if you mean it" in said
    assert members(cluster) == dict.fromkeys(MEMBERS, False)
    with Traffic(lab, cluster.endpoints[:3], cluster.client_certificates()) as traffic:
        add_learner(cluster)
        assert cluster.interrupted("add-member.yml", "Give it a vote once it has caught up", **CONSENT)
        assert members(cluster) == {**dict.fromkeys(MEMBERS, False), NEW: True}, "started, without a vote"
        cluster.play("add-member.yml", **CONSENT)
        assert members(cluster) == dict.fromkeys(cluster.members, False)
        assert cluster.health() == set(cluster.endpoints)
        let_lead(cluster, OLD)
        cluster.play("remove-member.yml", "-e", f"etcdpy_leaving={OLD}", **CONSENT)
        assert members(cluster) == dict.fromkeys((*others, NEW), False)
        assert lab.on(OLD, "sh", "-c", "systemctl is-enabled etcdpy etcdpy-renew.timer; true") == "disabled\n" * 2
        assert lab.on(OLD, "ls", "/var/lib/etcdpy").startswith(f"{OLD}.left-")
        traffic.go_on()
        lab.power(NEW, "cut")
        cluster.members[:] = MEMBERS
        cluster.play("replace-member.yml", "-e", f"etcdpy_leaving={NEW}")
        assert members(cluster) == dict.fromkeys(MEMBERS, False)
    assert pids(cluster, others) == before, "nobody else was restarted"
    again = cluster.play("site.yml")
    assert changes(again) == dict.fromkeys(MEMBERS, 0), again
    lab.power(NEW, "on")
    lab.on(NEW, "systemctl", "disable", "--now", "etcdpy.service", "etcdpy-renew.timer")
    places = "/etc/etcdpy /opt/etcdpy /var/lib/etcdpy /etc/systemd/system/etcdpy* /usr/local/bin/etcdpy*"
    lab.on(NEW, "sh", "-c", f"rm -r {places}")
    lab.on(NEW, "systemctl", "daemon-reload")


def test_the_last_quorum_does_not_leave(cluster: Site) -> None:
    cluster.lab.on(OLD, "systemctl", "stop", "etcdpy")
    try:
        said = cluster.refused("remove-member.yml", "-e", "etcdpy_leaving=controller-0", **CONSENT)
        assert "controller-0 stays a member: 1 of the 2 others answer, and 2 are needed" in said
        said = cluster.refused("add-member.yml")
        assert f"{OLD}: its member does not answer; mend it, or replace it first" in said
        assert members(cluster) == dict.fromkeys(MEMBERS, False)
    finally:
        cluster.lab.on(OLD, "systemctl", "start", "etcdpy")
