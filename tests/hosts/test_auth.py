"""`ansible/auth.yml`: users and roles as they are listed, and all playbooks go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.hosts.lab import LabError
from tests.hosts.site import CTL, changes, looking_at_processes
from tests.hosts.traffic import Traffic

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(600)

PASSWORD: Final = "a-word-that-nobody-may-see"
ROLES: Final = {
    "traffic": [{"permission": "readwrite", "prefix": "traffic/"}],
    "app": [{"permission": "read", "prefix": "/app/"}],
}
USERS: Final[dict[str, Any]] = {"traffic": {"roles": ["traffic"]}, "app": {"roles": ["app"], "password": PASSWORD}}


def read(site: Site, *who: str) -> str:
    return site.lab.on("controller-0", *CTL, *who, "get", "/app/a", "--print-value-only")


def test_users_are_as_listed_and_a_restart_goes_on(cluster: Site) -> None:
    cluster.lab.on("controller-0", *CTL, "put", "/app/a", "1")
    login = (f"--user=app:{PASSWORD}",)
    more: dict[str, Any] = {"etcdpy_roles": ROLES, "etcdpy_users": USERS}
    planned = cluster.play("auth.yml", "--check", **more)
    assert "users switched on" in planned
    with looking_at_processes(cluster.lab, "controller-0", never=PASSWORD, once="apply"):
        said = cluster.play("auth.yml", "-vv", **more)
    try:
        assert PASSWORD not in planned + said
        assert "user app: role app granted" in said
        assert sum(changes(said).values()) == 1
        assert sum(changes(cluster.play("auth.yml", **more)).values()) == 0
        assert read(cluster) == read(cluster, *login) == "1\n"
        with pytest.raises(LabError, match="permission denied"):
            cluster.lab.on("controller-0", *CTL, *login, "put", "/app/a", "2")
        with Traffic(cluster.lab, cluster.endpoints, cluster.client_certificates()) as traffic:
            cluster.play("restart.yml")
        assert not traffic.told["retried"], "a put that met a restart was answered at the first attempt"

        other = {**USERS, "app": {"password": "another-" + PASSWORD}}
        said = cluster.play("auth.yml", etcdpy_roles=ROLES, etcdpy_users=other)
        assert PASSWORD not in said
        assert "user app: password changed" in said
        with pytest.raises(LabError, match="authentication failed"):
            read(cluster, *login)
        with pytest.raises(LabError, match="permission denied"):
            read(cluster, f"--user=app:another-{PASSWORD}")
    finally:
        said = cluster.play("auth.yml", etcdpy_auth=False, etcdpy_auth_remove=True)
    assert "user app deleted" in said
    assert "users switched off" in said
    assert read(cluster) == "1\n"
    cluster.lab.on("controller-0", *CTL, "del", "/app/a")
