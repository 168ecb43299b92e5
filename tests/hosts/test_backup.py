"""`ansible/backup.yml`: a verified snapshot now, from one healthy member, here and on its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.storage import key_file
from etcdpy.utl.__main__ import run as utl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)


def install_units(cluster: Site, more: str) -> None:
    """Have the units of each host made of its topology and `more`."""
    script = f'(cat /opt/etcdpy/topology.yml; echo "{more}") > /run/t.yml && etcdpy systemd install /run/t.yml'
    for host in cluster.members:
        cluster.lab.on(host, "sh", "-ec", script)


def test_a_follower_gives_it_and_it_is_kept_encrypted(cluster: Site, tmp_path: Path) -> None:
    lab = cluster.lab
    cluster.ctl("put", "backup/key", "value")
    leader, *followers = sorted(cluster.members, key=lambda host: host != cluster.leader)
    here, keys = tmp_path / "backups", tmp_path / "keys"
    here.mkdir()
    (here / "etcd-20200101T000000Z.db").touch()
    left = here / ".fetched" / "etcd-20200102T000000Z.db"  # by a run that was cut off
    left.parent.mkdir()
    left.touch()
    keys.touch(mode=0o600)
    keys.write_text(key_file.new_line("backups"))
    install_units(cluster, "backup: {keep: 2}")
    lab.on(followers[0], "systemctl", "stop", "etcdpy")
    try:
        said = cluster.play(
            "backup.yml",
            etcdpy_topology={"backup": {"keep": 2}},
            etcdpy_backups=str(here),
            etcdpy_backups_keep=1,
            etcdpy_backup_keys=str(keys),
        )
    finally:
        lab.on(followers[0], "systemctl", "start", "etcdpy")
        install_units(cluster, "")
    (sealed,) = here.glob("etcd-*")
    assert not left.exists()
    assert sealed.stat().st_mode & 0o777 == 0o600
    find = ("find", "/var/backups/etcdpy", "-name", f"{sealed.stem}.db", "-printf", "%m %u")
    assert {host: lab.on(host, *find) for host in cluster.members} == {
        leader: "",
        followers[0]: "",
        followers[1]: "600 etcdpy",
    }
    assert str(sealed) in said
    assert "etcdpy-backup.timer" in said
    plain = tmp_path / "plain.db"
    assert utl(["encryption", "decrypt-backup", str(sealed), str(plain), f"--encryption-key-file={keys}"]) == 0
    assert b"backup/key" in plain.read_bytes()
