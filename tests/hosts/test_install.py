"""`deploy/install.sh` on bare hosts, without Ansible and without a network: one member alone, and two of a cluster."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.hosts.conftest import booted
from tests.hosts.lab import LabError
from tests.hosts.site import ADDRESSES, CTL, PKI
from tests.support.built import ROOT
from tests.support.certificates import done_pki
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.lab import Lab

SCRIPT = ROOT / "deploy" / "install.sh"
ALONE, OTHER = "controller-0", "controller-1"
PAIR = (ALONE, OTHER)
RUN = "bash /root/install.sh --wheels /wheels"
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def lab(wheels: Path) -> Iterator[Lab]:
    """Two bare hosts that have the script, with no sources around it."""
    with booted({host: ADDRESSES[host] for host in PAIR}, wheels) as lab:
        for host in PAIR:
            lab.on(host, "tee", "/root/install.sh", text=SCRIPT.read_text())
        yield lab


def shell(lab: Lab, host: str, text: str) -> str:
    """What the shell of a root user prints who types this."""
    return lab.on(host, "sh", "-ec", f"cd /root\n{text}", seconds_max=600)


def refusal(lab: Lab, host: str, text: str) -> list[str]:
    """The lines that a command line is refused with."""
    with pytest.raises(LabError) as error:
        shell(lab, host, text)
    return str(error.value).partition(" ended with ")[2].splitlines()[1:]


def example(address: str) -> str:
    """The example of --help, for wheels and for this host."""
    said = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    lines = said.partition("Example, one host:\n")[2].replace("10.0.0.1", address)
    return re.sub(r"\bm1\b", ALONE, lines).replace("deploy/install.sh", RUN)


def member_pid(lab: Lab, host: str) -> str:
    return lab.on(host, "systemctl", "show", "--property=MainPID", "etcdpy")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (f"{RUN} --prefix=", "--prefix needs a value"),
        (f"cp install.sh /tmp && cd /tmp && sudo -u ops {RUN.replace('/root', '/tmp')}", "only root may install"),
        (f"{RUN} --python /bin/false", "/bin/false is not there, or older than 3.11; choose one with --python"),
        ("bash install.sh", "there are no sources around this script; say where wheels are with --wheels"),
        ("bash install.sh --wheels /etc", "/etc holds no wheel of etcdpy; make one: pip wheel -w /etc ."),
        (f"{RUN} --topology nowhere.yml", "nowhere.yml cannot be read"),
        (f"{RUN} --address 10.0.0.1 --certificates nowhere", "nowhere is no directory"),
        (
            f"unshare --mount sh -c 'mount -t tmpfs none /run/systemd && {RUN} --address 10.0.0.1'",
            "systemd does not run this host",
        ),
    ],
)
def test_it_refuses_before_anything_is_changed(lab: Lab, command: str, line: str) -> None:
    assert refusal(lab, ALONE, command)[0].startswith(f"install.sh: {line}")
    assert shell(lab, ALONE, "find /opt /usr/local /etc -name '*etcdpy*'") == ""


def test_a_host_follows_the_example_of_the_help(lab: Lab) -> None:
    address = lab.addresses[ALONE]
    said = shell(lab, ALONE, example(address))
    assert "install.sh: installed, not compiled: etcd Version: " in said
    assert f", started, {ALONE}, https://{address}:2380, https://{address}:2379, false\n" in said
    assert lab.on(ALONE, *CTL, "put", "greeting", "hello") == "OK\n"
    keys = shell(lab, ALONE, f"find {PKI} -name '*-key.pem' -printf '%m %u %f\\n'").splitlines()
    assert sorted(keys) == [f"600 etcdpy {name}-key.pem" for name in ("client", ALONE, f"{ALONE}-peer")], (
        "each the member's own, and the authority's stays where it was"
    )


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    before = member_pid(lab, ALONE)
    said = shell(lab, ALONE, example(lab.addresses[ALONE]).splitlines()[-1])
    assert "install.sh:" not in said
    assert ", started, " in said
    assert member_pid(lab, ALONE) == before


def test_what_has_changed_is_put_in_place_and_restarted_where_asked(lab: Lab) -> None:
    before = member_pid(lab, ALONE)
    shell(lab, ALONE, "(cat /opt/etcdpy/topology.yml; echo 'flags: {snapshot-count: 5000}') > flags.yml")
    said = shell(lab, ALONE, f"{RUN} --topology flags.yml")
    assert "install.sh: unit changed; while the other members are healthy: systemctl restart etcdpy" in said
    assert member_pid(lab, ALONE) == before
    shell(lab, ALONE, "sed -i s/5000/6000/ flags.yml")
    assert "install.sh: restarting the member" in shell(lab, ALONE, f"{RUN} --topology flags.yml --restart")
    wait_until(lambda: member_pid(lab, ALONE) not in (before, "MainPID=0\n"), 30)
    assert "--snapshot-count=6000" in lab.on(ALONE, "systemctl", "cat", "etcdpy")


def test_the_member_comes_back_with_its_host(lab: Lab) -> None:
    assert lab.power(ALONE, "reboot") == "running"
    wait_until(
        lambda: lab.on(ALONE, "systemctl", "show", "--property=ActiveState", "etcdpy") == "ActiveState=active\n", 60
    )
    assert lab.on(ALONE, *CTL, "get", "greeting", "--print-value-only") == "hello\n"


def test_faults_of_files_stop_it_and_the_member_goes_on(lab: Lab) -> None:
    before = member_pid(lab, ALONE)
    run = f"{RUN} --topology flags.yml --certificates wrong --restart"
    shell(lab, ALONE, f"cp -a pki wrong && chmod 644 wrong/{ALONE}-key.pem && rm wrong/{ALONE}-peer.pem")
    said = "\n".join(refusal(lab, ALONE, f"sed -i s/10.240.0.10/10.240.0.99/ flags.yml && {run}"))
    for line in (
        f"wrong/{ALONE}-key.pem: 0644: others may read or change the private key",
        f"wrong/{ALONE}-peer.pem: no such file",
        "10.240.0.99 is not among its names",
        "install.sh: the certificates will not do",
    ):
        assert line in said
    said = "\n".join(refusal(lab, ALONE, f"{run} --node m1"))
    assert said == f'Error: there is no node "m1" (there are {ALONE})'
    assert member_pid(lab, ALONE) == before


def test_two_hosts_become_members_of_one_cluster(lab: Lab, tmp_path: Path) -> None:
    shell(lab, ALONE, "systemctl disable --now etcdpy.service && rm -rf /var/lib/etcdpy /etc/etcdpy pki")
    topology = {"nodes": {host: {"address": ADDRESSES[host]} for host in PAIR}, "cluster": {"allow_even_size": True}}
    pki = ("--dir", str(tmp_path))
    done_pki("init", *pki)
    done_pki("issue", *pki, "--profile", "client", "client")
    for host in PAIR:
        names = ("--ip", ADDRESSES[host], "--ip", "127.0.0.1", "--dns", host)
        done_pki("issue", *pki, "--profile", "server", host, *names)
        done_pki("issue", *pki, "--profile", "peer", f"{host}-peer", *names)
        lab.on(host, "tee", "/root/cluster.yml", text=yaml.safe_dump(topology))
        shell(lab, host, "install -d -m 700 pki")
        mine = (path for path in tmp_path.glob("*.pem") if path.name.startswith(("ca.", "client", host)))
        copies = (f"cat > pki/{path.name} <<'END'\n{path.read_text()}END\n" for path in mine)
        shell(lab, host, f"umask 077\n{''.join(copies)}")
    command = f"{RUN} --topology cluster.yml --certificates pki"
    with ThreadPoolExecutor() as together:  # a first member answers when enough of the others have come
        said = list(together.map(lambda host: shell(lab, host, command), PAIR))
    for each in said:
        assert each.count(", started, ") >= 1, each
    assert lab.on(ALONE, *CTL, "put", "greeting", "hello") == "OK\n"
    assert lab.on(OTHER, *CTL, "get", "greeting", "--print-value-only") == "hello\n"
