"""`ansible/recover-quorum.yml`: who knows most goes on when the others are dead, with all that was acknowledged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import LabError
from tests.hosts.traffic import Traffic
from tests.support.client import wait_until

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)

CONSENT = "--extra-vars=etcdpy_consent=recover-quorum"
OUTAGE_SECONDS_MAX = 400
WANTS = "/etc/systemd/system/multi-user.target.wants"


def answers(cluster: Site, host: str) -> bool:
    """Whether its sshd does."""
    try:
        cluster.lab.run("ssh", "-F", f"{cluster.lab.directory}/ssh_config", f"ops@{host}", "true")
    except LabError:
        return False
    return True


def test_the_survivor_that_knows_most_goes_on(cluster: Site) -> None:
    lab = cluster.lab
    stale, fresh, lost = cluster.members
    with Traffic(
        lab, cluster.endpoints, cluster.client_certificates(), prefix="recover/", insist_seconds=OUTAGE_SECONDS_MAX
    ) as traffic:
        lab.on(stale, "systemctl", "stop", "etcdpy")
        traffic.go_on()
        with ThreadPoolExecutor() as together:
            list(together.map(lambda host: lab.power(host, "cut"), (fresh, lost)))
        lab.erase(lost, "/var/lib/etcdpy", f"{WANTS}/etcdpy.service")
        with ThreadPoolExecutor() as beside:
            beside.submit(lab.power, fresh, "on")  # its start ends when the member serves, which takes a quorum
            wait_until(lambda: answers(cluster, fresh), 60)
            with pytest.raises(LabError, match="etcdpy_consent=recover-quorum"):
                cluster.play("recover-quorum.yml")
            assert cluster.interrupted("recover-quorum.yml", "Take the setting out again", CONSENT)
            # Its next start is a plain one, though nobody took the setting out.
            wait_until(lambda: lab.on(fresh, "systemctl", "show", "-P", "Environment", "etcdpy") == "\n", 20)
            # While one host is still away, as much as can be is done; the next run does the rest.
            with pytest.raises(LabError, match="unreachable=1"):
                cluster.play("recover-quorum.yml", CONSENT)
        (member,) = cluster.ctl("member", "list", on=fresh)["members"]
        assert member["name"] == fresh
        traffic.go_on()
        lab.power(lost, "on")
        cluster.play("recover-quorum.yml", CONSENT)
        traffic.go_on()
    wait_until(lambda: cluster.health() == set(cluster.endpoints), 60)
    traffic.check_kept(cluster)
    assert lab.on(stale, "sh", "-c", f"ls -d /var/lib/etcdpy/{stale}.*"), "what it had is put aside"
