"""`ansible/upgrade.yml`: another program on one member after the other, while clients go on."""

from __future__ import annotations

import os
import re
import zipfile
from typing import TYPE_CHECKING, Final

import pytest

from tests.hosts.lab import LabError
from tests.hosts.site import changes
from tests.hosts.traffic import Traffic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(900)

RUNS: Final = re.compile(r"(\S+) ran, (\S+) runs")
HALF_AN_ENVIRONMENT: Final = "cd /opt/etcdpy/venv-99.1-* && mkdir bin && install -m 0755 /dev/null bin/pip"
DOES_NOT_START: Final = b"    words = list(sys.argv[1:] if argv is None else argv)\n"


def another_version(wheels: Path, place: Path, version: str, *, starts: bool) -> Path:
    """The same wheels, with etcdpy as another version of itself; it may be one that runs, but not as a member."""
    place.mkdir()
    for path in wheels.iterdir():
        if not path.name.startswith("etcdpy-"):
            os.link(path, place / path.name)
    (old,) = wheels.glob("etcdpy-*.whl")
    was = old.name.split("-")[1]
    before, after = f"etcdpy-{was}.dist-info", f"etcdpy-{version}.dist-info"
    with (
        zipfile.ZipFile(old) as source,
        zipfile.ZipFile(place / old.name.replace(was, version), "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("dist-info/RECORD"):
                content = content.replace(before.encode(), after.encode())
            elif name.endswith("dist-info/METADATA"):
                content = content.replace(f"\nVersion: {was}\n".encode(), f"\nVersion: {version}\n".encode())
            elif name == "etcdpy/__main__.py" and not starts:
                assert DOES_NOT_START in content
                content = content.replace(
                    DOES_NOT_START, DOES_NOT_START + b'    assert "NOTIFY_SOCKET" not in os.environ\n'
                )
            target.writestr(name.replace(before, after), content)
    return place


def process(site: Site, host: str) -> str:
    return site.lab.on(host, "systemctl", "show", "-P", "MainPID", "etcdpy").strip()


def installed(site: Site, host: str) -> str:
    """Which release the process of this host's member is of."""
    python = site.lab.on(host, "cat", f"/proc/{process(site, host)}/cmdline").split("\0")[0]
    return site.lab.on(host, python, "-c", "import importlib.metadata as m; print(m.version('etcdpy'))").strip()


def test_one_that_does_not_start_is_taken_back_and_one_that_does_comes_to_all(cluster: Site, tmp_path: Path) -> None:
    wheels = cluster.wheels
    first = dict.fromkeys(cluster.members, installed(cluster, "controller-0"))
    pids = {host: process(cluster, host) for host in cluster.members}
    broken = another_version(wheels, tmp_path / "broken", "99.0", starts=False)
    newer = another_version(wheels, tmp_path / "newer", "99.1", starts=True)
    with Traffic(cluster.lab, cluster.endpoints, cluster.client_certificates()) as traffic:
        with pytest.raises(LabError, match=r"venv-99\.0-\w+ did not serve here"):
            cluster.play("upgrade.yml", etcdpy_wheels=str(broken))
        touched = [host for host in cluster.members if process(cluster, host) != pids[host]]
        assert len(touched) == 1
        assert {host: installed(cluster, host) for host in cluster.members} == first
        assert cluster.health() == set(cluster.endpoints)

        assert cluster.interrupted("upgrade.yml", "Install etcdpy into it", etcdpy_wheels=str(newer))
        for host in cluster.members:  # as where it lost its power while pip was written
            cluster.lab.on(host, "sh", "-c", HALF_AN_ENVIRONMENT)
        said = cluster.play("upgrade.yml", etcdpy_wheels=str(newer))
        assert len(RUNS.findall(said)) == len(cluster.members), said
        for before, after in RUNS.findall(said):
            assert before.startswith(f"venv-{first['controller-0']}-")
            assert after.startswith("venv-99.1-")
        assert {host: installed(cluster, host) for host in cluster.members} == dict.fromkeys(cluster.members, "99.1")
        again = cluster.play("upgrade.yml", etcdpy_wheels=str(newer))
        assert changes(again) == dict.fromkeys(cluster.members, 0), again

        cluster.play("site.yml")
    assert {host: installed(cluster, host) for host in cluster.members} == first
    assert not traffic.told["retried"], "a put that met a restart was answered at the first attempt"
