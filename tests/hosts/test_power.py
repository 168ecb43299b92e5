"""Hosts lose power, one and then all at once, while clients go on: each comes back by itself, with all data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.hosts.traffic import Traffic
from tests.support.client import wait_until

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)

OUTAGE_SECONDS_MAX = 200


def test_a_host_without_power_comes_back_and_so_do_all(cluster: Site) -> None:
    lab = cluster.lab
    with Traffic(
        lab, cluster.endpoints, cluster.client_certificates(), prefix="power/", insist_seconds=OUTAGE_SECONDS_MAX
    ) as traffic:
        lab.power("controller-2", "cut")
        traffic.go_on()
        lab.power("controller-2", "on")
        wait_until(lambda: cluster.health() == set(cluster.endpoints), 60)
        with ThreadPoolExecutor() as together:  # none has started before the others have: a member waits for a quorum
            list(together.map(lambda host: lab.power(host, "cut"), cluster.members))
            assert set(together.map(lambda host: lab.power(host, "on"), cluster.members)) == {"running"}
        traffic.go_on()
    traffic.check_kept(cluster)
