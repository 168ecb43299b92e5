"""`deploy/Dockerfile` and the compose files, without a container engine: the image's steps in a chroot, the services in
namespaces. What linters and schemas say of them: tests/tidy/test_tools.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hosts.conftest import needs_hosts
from tests.hosts.image import Build
from tests.hosts.lab import root_filesystem
from tests.hosts.pod import Pod
from tests.support.built import ROOT
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosts.image import Stage

DEPLOY = ROOT / "deploy"
THREE, FOURTH = DEPLOY / "compose.yaml", DEPLOY / "compose.join.yaml"
MEMBERS = ("etcd0", "etcd1", "etcd2")
pytestmark = pytest.mark.timeout(900)  # the first time packages come from the network


@pytest.fixture(scope="module")
def image(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The image, uncompiled, from wheels in place of an index: those of a host, and what a build needs beside them."""
    needs_hosts()
    all_wheels = tmp_path_factory.mktemp("all-wheels")
    for wheel in wheels.glob("*.whl"):
        os.link(wheel, all_wheels / wheel.name)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    constraint = f"--constraint={ROOT}/constraints.txt"
    subprocess.run([*pip, f"--wheel-dir={all_wheels}", constraint, *needed], check=True)
    arguments = {"ETCDPY_COMPILE": "0"}
    return Build(DEPLOY / "Dockerfile", ROOT, root_filesystem(), arguments=arguments, wheels=all_wheels).run()


@pytest.fixture(scope="module")
def pod(image: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    names = ("certificates", *MEMBERS, "join", "etcd3", "promote")
    with Pod(image, tmp_path_factory.mktemp("pod") / "p", names) as running:
        running.up(THREE)
        yield running


def ctl(pod: Pod, name: str, *words: str) -> str:
    done = pod.exec(name, "etcdpyctl", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def greeting_at(pod: Pod, name: str) -> str:
    """What this very member says."""
    done = pod.exec(name, "env", f"ETCDCTL_ENDPOINTS=https://{name}:2379", "etcdpyctl", "get", "greeting")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_three_members_are_healthy(pod: Pod) -> None:
    assert ctl(pod, "etcd0", "member", "list").count(", started, ") == 3
    assert ctl(pod, "etcd0", "put", "greeting", "hello") == "OK\n"
    assert [greeting_at(pod, name) for name in MEMBERS] == ["greeting\nhello\n"] * 3


def test_a_member_has_no_rights_but_its_own_data(pod: Pod) -> None:
    status = Path(f"/proc/{pod.pid('etcd0')}/status").read_text()
    assert "\nUid:\t2379\t2379\t2379\t2379\n" in status
    assert "\nCapBnd:\t0000000000000000\n" in status
    assert "\nNoNewPrivs:\t1\n" in status
    for place in ("/", "/opt/etcdpy/venv", "/etc/etcdpy/pki"):
        refused = pod.exec("etcd0", "touch", f"{place}/x")
        assert "Read-only file system" in refused.stderr, place
    keys = pod.place / "volumes/certificates"
    assert {path.stat().st_mode & 0o777 for path in keys.glob("*-key.pem")} == {0o600}
    assert not (keys / "ca-key.pem").exists(), "the authority's key is in a volume that no member has"


def test_a_stopped_member_ends_in_order_and_finds_its_data_again(pod: Pod) -> None:
    status, said = pod.stop("etcd2")
    assert status == 0, said[-2000:]
    assert ctl(pod, "etcd0", "put", "greeting", "hello again") == "OK\n"
    pod.up(THREE)
    assert greeting_at(pod, "etcd2") == "greeting\nhello again\n"


def test_a_fourth_member_joins_and_a_second_run_changes_nothing(pod: Pod) -> None:
    pod.up(THREE, FOURTH)
    wait_until(lambda: pod.runs["promote"].poll() == 0, 60)
    members = ctl(pod, "etcd0", "member", "list")
    assert members.count(", started, ") == 4, members
    assert members.count(", false\n") == 4, "no learner any more"
    assert greeting_at(pod, "etcd3") == "greeting\nhello again\n"
    before = {name: pod.pid(name) for name in (*MEMBERS, "etcd3")}
    certificates = (pod.place / "volumes/certificates/etcd3.pem").read_bytes()
    pod.up(THREE, FOURTH)
    assert {name: pod.pid(name) for name in before} == before
    assert (pod.place / "volumes/certificates/etcd3.pem").read_bytes() == certificates
    assert ctl(pod, "etcd0", "member", "list") == members
