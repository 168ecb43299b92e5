"""`ansible/restore.yml`: all members back to the state of a backup, and nothing is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts.lab import LabError
from tests.hosts.site import CTL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)

BUMP = 5000
CONSENT = "--extra-vars=etcdpy_consent=restore"


def state(cluster: Site) -> tuple[int, list[dict[str, Any]]]:
    """The revision, and every key with its own revisions."""
    answer = cluster.ctl("get", "--prefix", "restore/")
    return answer["header"]["revision"], answer["kvs"]


def running(cluster: Site) -> list[str]:
    return [cluster.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy") for host in cluster.members]


def test_keys_and_revisions_are_the_backups(cluster: Site, tmp_path: Path) -> None:
    lab = cluster.lab
    for number in range(3):
        cluster.ctl("put", f"restore/{number}", "before")
    cluster.ctl("del", "restore/1")
    cluster.play("backup.yml", etcdpy_backups=str(tmp_path))
    (backup,) = tmp_path.glob("etcd-*.db")
    revision, keys = state(cluster)
    cluster.ctl("put", "restore/0", "after")
    cluster.ctl("put", "restore/late", "after")

    pids = running(cluster)
    with pytest.raises(LabError, match="etcdpy_consent=restore"):
        cluster.play("restore.yml", etcdpy_backup=str(backup))
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(backup.read_bytes()[:-1] + b"x")
    with pytest.raises(LabError, match="expected sha256"):
        cluster.play("restore.yml", CONSENT, etcdpy_backup=str(damaged))
    assert running(cluster) == pids, "nothing was stopped for a backup that cannot be restored"

    # A directory that is mounted cannot be renamed: two hosts are done when the play stops.
    data = "/var/lib/etcdpy/controller-2"
    lab.on("controller-2", "mount", "--bind", data, data)
    try:
        with pytest.raises(LabError, match="Exchange the directories"):
            cluster.play("restore.yml", CONSENT, etcdpy_backup=str(backup))
    finally:
        lab.on("controller-2", "umount", data)
    assert running(cluster) == ["0\n"] * 3
    there = f"/var/backups/etcdpy/{backup.name}"
    (host,) = (host for host in cluster.members if lab.on(host, "find", "/var/backups", "-path", there))
    cluster.play("restore.yml", CONSENT, etcdpy_bump_revision=BUMP, etcdpy_backup=there, etcdpy_backup_host=host)

    assert state(cluster) == (revision + BUMP, keys)
    hashes = {row["HashKV"]["hash"] for row in cluster.ctl("endpoint", "hashkv", "--cluster")}
    assert len(hashes) == 1
    with pytest.raises(LabError, match="required revision has been compacted"):
        lab.on("controller-0", *CTL, "watch", "--prefix", "restore/", f"--rev={revision + 1}")
    aside = [lab.on(host, "sh", "-c", f"ls -d /var/lib/etcdpy/{host}.before-*").split() for host in cluster.members]
    assert [len(names) for names in aside] == [2, 2, 1], "put aside by each run that came so far"
    assert "after" in lab.on("controller-0", "grep", "-rhao", "-m1", "after", aside[0][0])
