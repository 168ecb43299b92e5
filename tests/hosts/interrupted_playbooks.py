"""What interruption.py has to know of each playbook: where it has everything to do, and what it is to leave."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests.hosts.conftest import HEALTHY_SECONDS_MAX, is_whole
from tests.hosts.site import CTL, MEMBERS, PKI, Site, changes
from tests.hosts.test_add_member import CONSENT, NEW, OLD, let_lead, members
from tests.hosts.test_auth import ROLES, USERS
from tests.hosts.test_expired_certs import certify_as_of, let_expire
from tests.hosts.test_migrate_from_etcd import go_to_etcd, install_etcd, running
from tests.hosts.test_uninstall import LEFT
from tests.hosts.test_upgrade import another_version, installed
from tests.support.certificates import utc_now
from tests.support.client import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PLACES: Final = (
    "/etc/etcdpy /opt/etcdpy /var/lib/etcdpy /var/backups/etcdpy /etc/systemd/system/etcdpy* "
    "/etc/systemd/system/*.wants/etcdpy* /run/systemd/system/etcdpy* /usr/local/bin/etcdpy* /etc/*.d/etcdpy.conf"
)
MAKE_BARE: Final = f"""
systemctl kill -s KILL etcdpy.service; systemctl disable --now etcdpy.service etcdpy.target etcdpy-renew.timer
systemctl disable --now etcd.service
rm -rf {PLACES} /var/lib/etcd /etc/etcd /etc/systemd/system/etcd.service
systemctl daemon-reload; systemctl reset-failed; userdel etcdpy; true
"""
REMAINS: Final = """
find /tmp /var/tmp /opt/etcdpy /var/lib/etcdpy /var/backups /etc/etcdpy /run/systemd/system -not -path '*/venv*' \\
  '(' -name '*.restored' -o -name '.backup.db' -o -name '.making-*' -o -name '*.tmp' -o -name '*lent*' \\
  -o -name '*.etcdpy' -o -name 'force-*' -o -name '*-next-key.pem' ')'
"""
"""What a playbook needs on its way, and nobody afterwards."""


def make_bare(site: Site, host: str) -> None:
    site.lab.on(host, "sh", "-c", MAKE_BARE)


def make_whole(site: Site) -> None:
    """A cluster of three; anew, where there is none."""
    site.members = list(MEMBERS)
    if not is_whole(site) or set(members(site)) != set(MEMBERS):
        bare(site)
        site.play("site.yml")


def bare(site: Site) -> None:
    """All hosts, and no authority."""
    for host in site.lab.addresses:
        make_bare(site, host)
    shutil.rmtree(site.directory / "ca", ignore_errors=True)
    shutil.rmtree(site.directory / "clients", ignore_errors=True)


def lose_data(site: Site, host: str) -> None:
    site.lab.on(host, "sh", "-c", "systemctl kill -s KILL etcdpy; systemctl stop etcdpy; rm -rf /var/lib/etcdpy/*")


class Case:
    """A playbook. `begin` brings the hosts to where it has everything to do, `check` says whether it has finished,
    `end` leaves the cluster as others expect it."""

    name: ClassVar[str]
    options: tuple[str, ...] = ()

    def __init__(self, site: Site, place: Path) -> None:
        self.site = site
        self.lab = site.lab
        self.place = place
        self.variables: dict[str, Any] = {}
        place.mkdir()

    @property
    def playbook(self) -> str:
        return f"{self.name}.yml"

    def begin(self) -> None:
        pass

    def check(self) -> None:
        """All are healthy, nothing else is left to be done, and nothing lies about."""
        wait_until(lambda: self.site.health() == set(self.site.endpoints), HEALTHY_SECONDS_MAX)
        assert members(self.site) == dict.fromkeys(self.site.members, False)
        said = self.site.play("site.yml", "--check", **self.variables)
        assert set(changes(said).values()) == {0}, said
        self.check_remains()

    def restart_all(self) -> None:
        for host in self.site.members:
            self.lab.on(host, "systemctl", "restart", "--no-block", "etcdpy")

    def check_remains(self) -> None:
        left = {host: self.lab.on(host, "sh", "-c", REMAINS + "true").split() for host in self.lab.addresses}
        assert not any(left.values()), left

    def end(self) -> None:
        pass


class SiteOfBareHosts(Case):
    name = "site"

    def begin(self) -> None:
        bare(self.site)


class SiteWithOtherSettings(Case):
    name = "site-settings"
    playbook = "site.yml"

    def begin(self) -> None:
        self.count = 11_000 - self.variables.get("etcdpy_topology", {}).get("flags", {}).get("snapshot-count", 5000)
        self.variables = {"etcdpy_topology": {"flags": {"snapshot-count": self.count}}}

    def check(self) -> None:
        super().check()
        for host in self.site.members:
            pid = self.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy").strip()
            assert f"--snapshot-count={self.count}" in self.lab.on(host, "cat", f"/proc/{pid}/cmdline").split("\0")

    def end(self) -> None:
        self.site.play("site.yml")


class Restart(Case):
    name = "restart"

    def begin(self) -> None:
        self.before = self.site.begun()

    def check(self) -> None:
        super().check()
        assert all(moment > self.before[host] for host, moment in self.site.begun().items())


class Upgrade(Case):
    name = "upgrade"

    def __init__(self, site: Site, place: Path) -> None:
        super().__init__(site, place)
        self.other = another_version(site.wheels, place / "wheels", "99.1", starts=True)

    def begin(self) -> None:
        now = installed(self.site, self.site.members[0])
        self.variables = {"etcdpy_wheels": str(self.site.wheels if now == "99.1" else self.other)}
        self.before = now

    def check(self) -> None:
        super().check()
        assert self.before not in {installed(self.site, host) for host in self.site.members}

    def end(self) -> None:
        self.site.play("site.yml")


class AddMember(Case):
    name = "add-member"

    def begin(self) -> None:
        self.variables = CONSENT
        self.site.members = list(MEMBERS)
        self.let_go()
        self.site.members.append(NEW)

    def let_go(self) -> None:
        listed = {row.get("name", ""): row["ID"] for row in self.site.ctl("member", "list")["members"]}
        make_bare(self.site, NEW)
        for name in set(listed) - set(MEMBERS):
            self.site.ctl("member", "remove", f"{listed[name]:x}")
        self.site.play("site.yml", "--tags=units")

    def end(self) -> None:
        self.site.members = list(MEMBERS)
        self.let_go()


class RemoveMember(AddMember):
    name = "remove-member"
    options = (f"--extra-vars=etcdpy_leaving={NEW}",)

    def begin(self) -> None:
        super().begin()
        self.site.play("add-member.yml", **CONSENT)
        let_lead(self.site, NEW)

    def check(self) -> None:
        self.site.members.remove(NEW)
        super().check()
        units = ("etcdpy.service", "etcdpy.target", "etcdpy-renew.timer")
        assert self.lab.on(NEW, "sh", "-c", f"systemctl is-enabled {' '.join(units)}; true") == "disabled\n" * 3
        assert self.lab.on(NEW, "sh", "-c", "ls /var/lib/etcdpy").count(f"{NEW}.left-") == 1
        self.site.members.append(NEW)


class ReplaceMember(Case):
    name = "replace-member"
    options = (f"--extra-vars=etcdpy_leaving={OLD}",)

    def begin(self) -> None:
        lose_data(self.site, OLD)
        self.lab.on(OLD, "systemctl", "start", "--no-block", "etcdpy")


class MigrateFromEtcd(Case):
    name = "migrate-from-etcd"

    def begin(self) -> None:
        for host in MEMBERS:
            self.lab.on(host, "rm", "-rf", "/var/lib/etcd")
            install_etcd(self.site, host)
            go_to_etcd(self.site, host)

    def check(self) -> None:
        super().check()
        for host in MEMBERS:
            assert running(self.site, host) == ["active", "inactive", "enabled", "disabled"]

    def end(self) -> None:
        for host in MEMBERS:
            self.lab.on(host, "rm", "-rf", "/var/lib/etcd", "/etc/etcd", "/etc/systemd/system/etcd.service")


class RenewCerts(Case):
    name = "renew-certs"

    def begin(self) -> None:
        """They were made some time ago, and what is made now lasts longer than what is asked for."""
        self.variables = {"etcdpy_renew_within": "300"}
        then = utc_now() - timedelta(days=200)
        certify_as_of(self.site, then, then)
        self.restart_all()

    def check(self) -> None:
        super().check()
        for host in self.site.members:
            keys = self.lab.on(host, "find", PKI, "-name", "*-key.pem", "-printf", "%m %u %f\n").splitlines()
            assert sorted(keys) == [f"600 etcdpy {name}-key.pem" for name in sorted(("client", host, f"{host}-peer"))]
        assert set(changes(self.site.play("renew-certs.yml", "--check", **self.variables)).values()) == {0}


class RotateCa(Case):
    name = "rotate-ca"

    def begin(self) -> None:
        self.variables = {"etcdpy_rotation_hook": "/bin/true"}
        self.before = (self.site.directory / "ca" / "ca.pem").read_text()

    def check(self) -> None:
        super().check()
        now = (self.site.directory / "ca" / "ca.pem").read_text()
        assert now.count("BEGIN") == 1
        assert now != self.before
        assert not (self.site.directory / "ca" / "ca-rotation.json").exists()


class ExpiredCerts(Case):
    name = "expired-certs"

    def begin(self) -> None:
        let_expire(self.site)
        self.restart_all()

    def check(self) -> None:
        super().check()
        assert (self.site.directory / "ca" / "ca.pem").read_text().count("BEGIN") == 1
        assert not (self.site.directory / "ca" / "ca-rotation.json").exists()


class Backup(Case):
    name = "backup"

    def begin(self) -> None:
        self.variables = {"etcdpy_backups": str(self.place), "etcdpy_backups_keep": 1}

    def check(self) -> None:
        super().check()
        assert [path.suffix for path in self.place.rglob("etcd-*")] == [".db"]


class Restore(Case):
    name = "restore"
    options = ("--extra-vars=etcdpy_consent=restore",)

    def begin(self) -> None:
        if not self.variables:
            self.site.ctl("put", "interrupted", "before")
            self.site.play("backup.yml", etcdpy_backups=str(self.place))
            (backup,) = self.place.glob("etcd-*.db")
            there = f"/var/backups/etcdpy/{backup.name}"
            (host,) = (each for each in MEMBERS if self.lab.on(each, "find", "/var/backups", "-path", there))
            self.variables = {"etcdpy_backup": there, "etcdpy_backup_host": host}
        self.site.ctl("put", "interrupted", "after")

    def check(self) -> None:
        super().check()
        for host in self.site.members:
            assert self.lab.on(host, *CTL, "get", "interrupted", "--print-value-only") == "before\n"


class RecoverQuorum(Case):
    name = "recover-quorum"
    options = ("--extra-vars=etcdpy_consent=recover-quorum",)

    def begin(self) -> None:
        self.site.ctl("put", "interrupted", "kept")
        for host in MEMBERS[1:]:
            lose_data(self.site, host)

    def check(self) -> None:
        super().check()
        assert self.site.ctl("get", "interrupted")["count"] == 1
        for host in self.site.members:
            assert self.lab.on(host, "systemctl", "show", "-P", "Environment", "etcdpy") == "\n"


class Auth(Case):
    name = "auth"

    def begin(self) -> None:
        self.end()
        self.variables = {"etcdpy_roles": ROLES, "etcdpy_users": USERS}

    def check(self) -> None:
        super().check()
        said = self.site.play("auth.yml", "--check", **self.variables)
        assert set(changes(said).values()) == {0}, said

    def end(self) -> None:
        self.site.play("auth.yml", etcdpy_auth=False, etcdpy_auth_remove=True)


class Monitoring(Case):
    name = "monitoring"

    def begin(self) -> None:
        self.variables = {"etcdpy_monitoring_directory": str(self.place), "etcdpy_monitoring_host": MEMBERS[1]}
        self.lab.on(MEMBERS[1], "rm", "-rf", "/etc/prometheus")

    def check(self) -> None:
        said = self.site.play("monitoring.yml", **self.variables)
        assert set(changes(said).values()) == {0}, said


class Uninstall(Case):
    name = "uninstall"
    options = ("--extra-vars=etcdpy_consent=uninstall",)

    def begin(self) -> None:
        self.site.play("site.yml")

    def check(self) -> None:
        self.check_remains()
        for host in self.site.members:
            assert self.lab.on(host, "sh", "-c", LEFT) == ""
            assert self.lab.on(host, "systemctl", "list-units", "--all", "--no-legend", "etcdpy*") == ""
            self.lab.on(host, "ls", f"{PKI}/{host}-key.pem", f"/var/lib/etcdpy/{host}/member/FORMAT")

    def end(self) -> None:
        self.site.play("site.yml")


CASES: Final[tuple[type[Case], ...]] = (
    *(Restart, RecoverQuorum, RenewCerts, ExpiredCerts, Uninstall, AddMember, ReplaceMember, Upgrade, Restore),
    *(SiteOfBareHosts, SiteWithOtherSettings, RotateCa, MigrateFromEtcd, RemoveMember, Backup, Auth, Monitoring),
)
