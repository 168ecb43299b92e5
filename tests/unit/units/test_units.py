"""Units as systemd judges them, the worked example in docs/, and files that are put in place once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etcdpy.__main__ import main
from etcdpy.server import config
from etcdpy.units import place
from etcdpy.units.render import Rendered, in_unit, render
from etcdpy.units.topology import Topology, parse_topology, read_topology
from pki.member_config import read_settings

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "systemd"
UNITS = "etc/systemd/system"

EXPOSURE_MAX = 1.5
"""Of the member's unit by `systemd-analyze security`: what the issue of this toolkit asks for."""

needs_systemd = pytest.mark.skipif(
    not place.can_analyze() and "CI" not in os.environ, reason="systemd-analyze is not installed (.ci/run does it)"
)


def topology(**tables: Any) -> Topology:
    nodes = {f"m{number}": {"address": f"10.0.0.{number}"} for number in (1, 2, 3)}
    return parse_topology({"nodes": nodes, "backup": {}, **tables})


VARIANTS = {
    "plain": topology(),
    "environment": topology(service={"style": "environment", "group": "staff"}),
    "everything": topology(
        cluster={"metrics_port": 2381},
        service={"encryption_keys": "/etc/etcdpy/keys"},
        certificates={"crl": "ca.crl", "peer_crl": "ca.crl"},
        renewal={"authority": "/etc/etcdpy/pki", "node": "m1"},
        flags={"quota-backend-bytes": "8GB"},
    ),
    "no backup": topology(backup=None),
}


def texts(chosen: Topology, node: str = "m1") -> dict[str, str]:
    return {file.path: file.text for file in render(chosen, node)}


def flags_of(unit: str) -> list[str]:
    """The command line of a member's unit."""
    (command,) = re.findall(r"^ExecStart=(.*?[^\\])$", unit, re.MULTILINE | re.DOTALL)
    return str(command).replace("\\\n", " ").split()


# --- what is in them ---


def test_the_example_in_the_docs_is_what_is_rendered() -> None:
    chosen = read_topology(EXAMPLE / "cluster.yaml")
    assert [each["name"] for each in chosen.nodes] == ["controller-0", "controller-1"]
    for node in ("controller-0", "controller-1"):
        there = {str(path.relative_to(EXAMPLE / node)) for path in (EXAMPLE / node).rglob("*") if path.is_file()}
        rendered = texts(chosen, node)
        assert there == set(rendered)
        for path, text in rendered.items():
            assert (EXAMPLE / node / path).read_text() == text, f"make it anew: etcdpy systemd render ({node} {path})"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_member_reads_the_same_from_both_styles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the unit passes as flags and what the file of variables says is one configuration, and a valid one."""
    monkeypatch.chdir(tmp_path)
    rendered = texts(VARIANTS[name])
    rendered |= {path: text.replace("8GB", "8000000000") for path, text in rendered.items()}
    (tmp_path / "m1.env").write_text(rendered["etc/etcdpy/m1.env"])
    settings = read_settings(tmp_path / "m1.env")
    variables = {f"ETCD_{flag.upper().replace('-', '_')}": value for flag, value in settings.items()}
    by_variables = config.load([], variables)
    assert by_variables.name == "m1"
    program, *flags = flags_of(rendered[f"{UNITS}/etcdpy.service"])
    assert program == "/usr/local/bin/etcdpy"
    if name == "environment":
        assert flags == []
        assert "EnvironmentFile=/etc/etcdpy/m1.env\n" in rendered[f"{UNITS}/etcdpy.service"]
    else:
        by_flags = config.load(flags, {})
        assert by_flags.initial_cluster == by_variables.initial_cluster
        assert {flag.partition("=")[0][2:] for flag in flags} == set(settings)
        assert {flag.partition("=")[2] for flag in flags} == set(settings.values())


def test_the_flags_of_guides_are_all_there() -> None:
    flags = flags_of(texts(read_topology(EXAMPLE / "cluster.yaml"), "controller-0")[f"{UNITS}/etcdpy.service"])
    for flag in (
        "--name=controller-0",
        "--cert-file=/etc/etcdpy/pki/kubernetes.pem",
        "--key-file=/etc/etcdpy/pki/kubernetes-key.pem",
        "--peer-cert-file=/etc/etcdpy/pki/kubernetes.pem",
        "--peer-key-file=/etc/etcdpy/pki/kubernetes-key.pem",
        "--trusted-ca-file=/etc/etcdpy/pki/ca.pem",
        "--peer-trusted-ca-file=/etc/etcdpy/pki/ca.pem",
        "--peer-client-cert-auth=true",
        "--client-cert-auth=true",
        "--listen-client-urls=https://10.240.0.10:2379,https://127.0.0.1:2379",
        "--initial-cluster=controller-0=https://10.240.0.10:2380,controller-1=https://10.240.0.11:2380",
    ):
        assert flag in flags


def test_ipv6_addresses_stand_in_brackets() -> None:
    flags = flags_of(texts(parse_topology({"nodes": {"m1": {"address": "fd00::1"}}}))[f"{UNITS}/etcdpy.service"])
    assert "--initial-cluster=m1=https://[fd00::1]:2380" in flags


def test_what_systemd_would_read_is_doubled() -> None:
    assert in_unit("100%$HOME") == "100%%$$HOME"


def test_what_is_not_asked_for_is_not_made() -> None:
    assert not [path for path in texts(VARIANTS["no backup"]) if "backup" in path]
    assert "etcdpy-backup.timer" not in texts(VARIANTS["no backup"])[f"{UNITS}/etcdpy.target"]
    assert "LoadCredential" not in texts(VARIANTS["plain"])[f"{UNITS}/etcdpy.service"]
    everything = texts(VARIANTS["everything"])
    assert "LoadCredential=etcdpy.encryption-keys:/etc/etcdpy/keys\n" in everything[f"{UNITS}/etcdpy.service"]
    assert "pki renew --dir=/etc/etcdpy/pki\n" in everything[f"{UNITS}/etcdpy-renew.service"]
    assert "SuccessExitStatus=2\n" in everything[f"{UNITS}/etcdpy-renew.service"]
    assert "pki renew" not in texts(VARIANTS["everything"], "m2")[f"{UNITS}/etcdpy-renew.service"]
    assert "pki renew" not in texts(VARIANTS["plain"])[f"{UNITS}/etcdpy-renew.service"]


# --- what systemd says ---


@needs_systemd
@pytest.mark.parametrize("name", VARIANTS)
def test_systemd_has_no_complaint(name: str) -> None:
    assert place.complaints(render(VARIANTS[name], "m1"), "/usr/local/bin/etcdpy") == []


@needs_systemd
def test_a_planted_fault_is_complained_about() -> None:
    path = f"{UNITS}/etcdpy@.service"
    text = texts(VARIANTS["plain"])[path]
    (line,) = place.complaints([Rendered(path, text.replace("UMask=", "UMusk="))], "/usr/local/bin/etcdpy")
    assert "Unknown key 'UMusk'" in line
    assert place.complaints([Rendered(path, text)], "/usr/bin/other") != []  # the program is looked for


@needs_systemd
def test_the_sandbox_is_judged_tight(tmp_path: Path) -> None:
    place.put(place.changes(render(VARIANTS["everything"], "m1"), tmp_path))
    units = sorted((tmp_path / UNITS).glob("*.service"))
    command = ["systemd-analyze", "security", "--offline=true", *map(str, units)]
    judged = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "LC_ALL": "C"}
    )
    scores = {name: float(score) for name, score in re.findall(r"level for (\S+): ([0-9.]+)", judged.stdout)}
    assert len(scores) == 4, judged.stdout + judged.stderr
    assert max(scores.values()) <= EXPOSURE_MAX, scores


@needs_systemd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_users_and_directories_are_made(tmp_path: Path) -> None:
    place.put(place.changes(render(VARIANTS["environment"], "m1"), tmp_path))
    key = tmp_path / "etc/etcdpy/pki/m1-key.pem"
    key.parent.mkdir()
    key.write_text("a key that was copied here")
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        words = [*command, f"--root={tmp_path}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    passwd = (tmp_path / "etc/passwd").read_text()
    (user, group) = re.findall(r"^etcdpy:x:(\d+):(\d+):etcdpy members:/var/lib/etcdpy:", passwd, re.MULTILINE)[0]
    for path, mode, owner in (
        ("var/lib/etcdpy", 0o700, user),
        ("var/backups/etcdpy", 0o700, user),
        ("etc/etcdpy", 0o750, "0"),
        ("etc/etcdpy/pki", 0o750, "0"),
        ("etc/etcdpy/pki/m1-key.pem", 0o600, user),
    ):
        found = (tmp_path / path).stat()
        assert (path, found.st_mode & 0o777, str(found.st_uid)) == (path, mode, owner)
        assert str(found.st_gid) != "0", (path, group)


# --- the commands ---


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cluster.yaml"
    shutil.copy(EXAMPLE / "cluster.yaml", path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    from etcdpy.commandline import run_tool
    from etcdpy.units.command import systemd

    code = run_tool(systemd, "etcdpy systemd", words)
    said = capsys.readouterr()
    return code, said.out, said.err


ON = ("cluster.yaml", "--node", "controller-0", "--root", "host")


@pytest.mark.usefixtures("cluster")
def test_install_is_done_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "diff", *ON)
    assert (code, out.count("--- /dev/null\n")) == (1, 10)
    code, out, _ = run(capsys, "install", *ON, "-w", "json")
    assert (code, {row["state"] for row in json.loads(out)}) == (0, {"missing"})
    assert Path(f"host/{UNITS}/etcdpy.service").stat().st_mode & 0o777 == 0o644
    assert run(capsys, "diff", *ON) == (0, "", "")
    assert run(capsys, "install", *ON) == (0, "", "")
    unit = Path(f"host/{UNITS}/etcdpy.service")
    unit.write_text(unit.read_text().replace("RestartSec=2s", "RestartSec=9s"))
    code, out, _ = run(capsys, "diff", *ON)
    assert (code, "-RestartSec=9s\n+RestartSec=2s\n" in out) == (1, True)
    assert run(capsys, "diff", *ON, "-w", "table")[0] == 1
    assert run(capsys, "install", *ON)[1] == f"host/{UNITS}/etcdpy.service changed restart\n"
    assert not list(Path("host").rglob("*.tmp"))


@pytest.mark.usefixtures("cluster")
def test_what_an_earlier_run_wrote_and_no_more_is_taken_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(place, "changes", lambda _files, _root: [])
    monkeypatch.setattr(place, "take_in", lambda: taken.append("in"))
    assert run(capsys, "install", *ON[:3]) == (0, "", "")
    assert taken == ["in"]
    assert run(capsys, "install", *ON) == (0, "", "")
    assert taken == ["in"], "another root is no host's"


def place_of(name: str, root: Path) -> Path:
    (found,) = root.rglob(name)
    return found


@pytest.mark.parametrize("style", ["flags", "environment"])
def test_a_member_that_runs_need_not_restart_for_another_ones_name(style: str, tmp_path: Path) -> None:
    def changed(**tables: Any) -> tuple[set[str], set[str]]:
        found = place.changes(render(topology(service={"style": style}, **tables), "m1"), tmp_path)
        restarting = {change.target.name for change in found if change.needs_restart}
        return {change.target.name for change in found}, restarting

    starting = {"etcdpy.service", "m1.env"} if style == "environment" else {"etcdpy.service"}
    assert changed()[1] == starting, "it is not there yet"
    place.put(place.changes(render(topology(service={"style": style}), "m1"), tmp_path))
    names = {f"m{number}": {"address": f"10.0.0.{number}"} for number in range(1, 6)}
    others = {"nodes": names, "cluster": {"state": "existing", "token": "other"}}
    told, restarting = changed(**others)
    assert "m1.env" in told
    assert not restarting
    unit = tmp_path / UNITS / "etcdpy.service"
    os.utime(unit, (1, 1))
    place.put(place.changes(render(topology(service={"style": style}, nodes=names), "m1"), tmp_path))
    assert unit.stat().st_mtime == 1, "no member has begun before it"
    places = [place_of(name, tmp_path) for name in starting]
    for path in places:
        os.utime(path, (1, 1))
    place.put(place.changes(render(topology(service={"style": style}, **others), "m1"), tmp_path))
    assert [path.stat().st_mtime for path in places] == [1] * len(places), "a member that runs has taken it"
    changing = "m1.env" if style == "environment" else "etcdpy.service"
    assert changed(flags={"initial-election-tick-advance": False})[1] == {changing}
    flags = {"flags": {"snapshot-count": 5}}
    place.put(place.changes(render(topology(service={"style": style}, **others, **flags), "m1"), tmp_path))
    assert place_of(changing, tmp_path).stat().st_mtime > 1
    assert changed(nodes={**names, "m1": {"address": "10.0.0.9"}})[1] == {changing}


@pytest.mark.usefixtures("cluster")
def test_render_writes_each_node_below_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "render", "cluster.yaml", "--out", "all")
    assert (code, out.count("\n")) == (0, 20)
    assert Path(f"all/controller-1/{UNITS}/etcdpy.service").exists()
    assert run(capsys, "render", "cluster.yaml", "--out", "all") == (0, "", "")
    code, out, _ = run(capsys, "render", "cluster.yaml", "--out", "one", "--node", "controller-1", "-w", "json")
    assert {row["node"] for row in json.loads(out)} == {"controller-1"}


@pytest.mark.usefixtures("cluster")
def test_certificates_are_named_with_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "certificates", "cluster.yaml", "--node", "controller-0", "-w", "json")
    found = {row["role"]: row["path"] for row in json.loads(out)}
    assert (code, len(found)) == (0, 8)
    assert found["ca"] == found["peer_ca"] == "/etc/etcdpy/pki/ca.pem"
    assert found["client_key"] == "/etc/etcdpy/pki/kubernetes-key.pem"
    assert "there is no node" in run(capsys, "certificates", "cluster.yaml", "--node", "x")[2]


@needs_systemd
@pytest.mark.usefixtures("cluster")
def test_check_judges_the_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "cluster.yaml") == (0, "2 nodes, no fault\n", "")


def test_faults_are_a_line_each_and_nothing_is_written(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.write_text(cluster.read_text().replace("10.240.0.11", "10.240.0.10").replace("allow_even_size: true", ""))
    code, out, err = run(capsys, "install", *ON)
    assert (code, out, err.count("Error: ")) == (1, "", 2)
    assert "nodes controller-0 and controller-1 have the same address 10.240.0.10" in err
    assert not Path("host").exists()


def test_a_host_that_is_no_node(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 'there is no node "x"' in run(capsys, "diff", str(cluster), "--node", "x")[2]
    code, _, err = run(capsys, "diff", str(cluster), "--root", "host")  # goes by this host's name
    assert (code, "there is no node" in err) == (1, True)


def test_without_systemd_a_note_says_what_is_left_out(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = run(capsys, "check", str(cluster))
    assert (code, "so the units were not judged" in err) == (0, True)
    with pytest.raises(FileNotFoundError, match="not installed"):
        place.take_in()


@pytest.mark.parametrize("command", ["render", "diff", "check", "certificates", "install"])
def test_help_carries_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from etcdpy.units.command import systemd

    assert f"  etcdpy systemd {command} " in CliRunner().invoke(systemd, [command, "--help"]).output
    assert main(["systemd", command]) == 1
    assert "TOPOLOGY" in capsys.readouterr().err
