"""`ansible/replace-member.yml`: a member without its data takes its own place. By another host: test_add_member.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.site import MEMBERS, changes
from tests.hosts.test_add_member import NEW, OLD, members, pids
from tests.hosts.traffic import Traffic

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)


def test_a_member_without_its_data_is_replaced_by_itself(cluster: Site) -> None:
    lab, others = cluster.lab, MEMBERS[:2]
    before = pids(cluster, others)
    cluster.members[2] = NEW
    said = cluster.refused("replace-member.yml", "-e", f"etcdpy_leaving={OLD}")
    cluster.members[2] = OLD
    assert f"the inventory does not have {OLD} at https://{lab.addresses[OLD]}:2380" in said, "it is alive"
    with Traffic(lab, cluster.endpoints, cluster.client_certificates()) as traffic:
        lab.on(OLD, "systemctl", "kill", "-s", "KILL", "etcdpy")
        lab.on(OLD, "sh", "-c", "systemctl stop etcdpy; rm -r /var/lib/etcdpy/*; systemctl start --no-block etcdpy")
        assert cluster.interrupted("replace-member.yml", "Look for what is installed", "-e", f"etcdpy_leaving={OLD}")
        assert members(cluster) == dict.fromkeys(others, False), "it is out, and not in"
        cluster.play("replace-member.yml", "-e", f"etcdpy_leaving={OLD}")
        assert members(cluster) == dict.fromkeys(MEMBERS, False)
        traffic.go_on()
    assert pids(cluster, others) == before, "nobody else was restarted"
    again = cluster.play("site.yml", "--tags", "units")
    assert changes(again) == dict.fromkeys(MEMBERS, 0), again
