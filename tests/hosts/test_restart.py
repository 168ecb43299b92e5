"""`ansible/restart.yml`: one member after the other, while clients go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import LabError
from tests.hosts.traffic import Traffic

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)


def test_members_restart_one_by_one_and_the_leader_last(cluster: Site) -> None:
    lab = cluster.lab
    leader = cluster.leader
    (down, _) = (host for host in reversed(cluster.members) if host != leader)
    lab.on(down, "systemctl", "stop", "etcdpy")  # as a run leaves it that is cut off at a restart
    with Traffic(lab, cluster.endpoints, cluster.client_certificates()) as traffic:
        cluster.play("restart.yml")
    assert not traffic.told["retried"], "a put that met a restart was answered at the first attempt"
    begun = cluster.begun()
    assert min(begun, key=lambda host: begun[host]) == down
    assert max(begun, key=lambda host: begun[host]) == leader


def test_it_stops_where_the_quorum_would_be_at_risk(cluster: Site) -> None:
    lab = cluster.lab
    pids = {host: lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in cluster.members[:2]}
    lab.on("controller-2", "systemctl", "stop", "etcdpy")
    try:
        with pytest.raises(LabError) as refusal:
            cluster.play("restart.yml", "--limit=controller-0,controller-1")
        assert "1 of 3 members answer beside it, and 2 are needed" in str(refusal.value)
        assert pids == {host: lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in pids}
    finally:
        lab.on("controller-2", "systemctl", "start", "etcdpy")
