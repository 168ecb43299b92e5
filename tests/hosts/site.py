"""Playbooks, run over ssh against hosts that boot."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml
from cryptography import x509

from tests.hosts.lab import LabError
from tests.support.built import ROOT, copy_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.hosts.lab import Lab

CHANGED: Final = re.compile(r"^(controller-\d) .* changed=(\d+)", re.MULTILINE)
SITE_SECONDS_MAX: Final = 600.0
"""A guard; on an idle machine of two cores the first run takes half a minute."""
CONFIG: Final = str(ROOT / "ansible" / "ansible.cfg")
PKI: Final = "/etc/etcdpy/pki"
CTL: Final = (
    "etcdpyctl",
    "--endpoints=https://127.0.0.1:2379",
    f"--cacert={PKI}/ca.pem",
    f"--cert={PKI}/client.pem",
    f"--key={PKI}/client-key.pem",
)
ADDRESSES: Final = {f"controller-{number}": f"10.240.0.{10 + number}" for number in range(4)}
MEMBERS: Final = ("controller-0", "controller-1", "controller-2")


_LOOK: Final = "while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; sleep 0.05; done > /root/seen 2> /dev/null"


@contextlib.contextmanager
def looking_at_processes(lab: Lab, host: str, *, never: str, once: str) -> Iterator[None]:
    """Afterwards no process there was seen with one word in its arguments or environment, and some with the other."""
    lab.on(host, "systemd-run", "--quiet", "--unit=look", "sh", "-c", _LOOK)
    try:
        yield
    finally:
        lab.on(host, "systemctl", "stop", "look")
    count = f"grep -ac '{never}' /root/seen; grep -ac '{once}' /root/seen; rm /root/seen"
    seen = [int(number) for number in lab.on(host, "sh", "-c", count).split()]
    assert seen[0] == 0
    assert seen[1] > 0


def make_wheels(place: Path) -> Path:
    """Put a wheel of this tree, not compiled, and of everything that it needs there."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(place)]
    environment = os.environ | {"ETCDPY_COMPILE": "0"}
    constraint = str(ROOT / "constraints.txt")
    with tempfile.TemporaryDirectory() as copy:
        copy_sources(Path(copy))
        subprocess.run([*pip, "--no-build-isolation", "--constraint", constraint, copy], env=environment, check=True)
    return place


class Place(NamedTuple):
    """Where a playbook was ended."""

    number: int
    task: str


class Site:
    """An inventory of the lab, and runs of playbooks with it.

    `members` is who stands in the inventory, and may be changed as a user changes it.
    """

    def __init__(self, lab: Lab, wheels: Path, directory: Path) -> None:
        self.lab = lab
        self.wheels = wheels
        self.directory = directory
        self.members = list(MEMBERS)
        directory.mkdir(exist_ok=True)
        program = directory / "etcdpy"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m etcdpy "$@"\n')
        program.chmod(0o755)
        self.variables = {
            "ansible_user": "ops",
            "ansible_ssh_common_args": f"-F {lab.directory}/ssh_config",
            "ansible_control_path_dir": f"{lab.directory}/cp",
            "etcdpy_wheels": str(wheels),
            "etcdpy_control_program": str(program),
            "etcdpy_authority": str(directory / "ca"),
        }

    def play(self, name: str, *options: str, addresses: dict[str, str] | None = None, **variables: Any) -> str:
        """What the playbook prints. Raises LabError when it fails."""
        return self._run(self._command(name, options, addresses or {}, variables), {})

    def interrupted(
        self, name: str, place: int | str, *options: str, cut_after: float | None = None, **variables: Any
    ) -> Place | None:
        """End the playbook as Ctrl-C does, before the task of that name, or before the first one from that number on,
        from 1, where something was done since the task before it. With `cut_after` its processes are killed instead, so
        many seconds into the task. Returns where it ended, None where it came to its own end first. Raises LabError
        when it fails."""
        told = self.directory / "interrupted"
        told.unlink(missing_ok=True)
        environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback_plugins")),
            "ANSIBLE_CALLBACKS_ENABLED": "interrupt",
            "INTERRUPT_PLACE": str(place),
            "INTERRUPT_TOLD": str(told),
            **({} if cut_after is None else {"INTERRUPT_CUT_AFTER": str(cut_after)}),
        }
        try:
            self._run(self._command(name, options, {}, variables), environment)
        except LabError:
            if not told.exists():
                raise
        if not told.exists():
            return None
        if cut_after is not None:
            _kill_what_is_left(b"INTERRUPT_TOLD=%s" % bytes(told))
        number, _, task = told.read_text().partition(" ")
        return Place(int(number), task)

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        said = self.lab.run(*command, seconds_max=SITE_SECONDS_MAX, ANSIBLE_CONFIG=CONFIG, **environment)
        assert "PRIVATE KEY" not in said
        return said

    def _command(
        self, name: str, options: Sequence[str], addresses: dict[str, str], variables: dict[str, object]
    ) -> list[str]:
        hosts = {host: {"ansible_host": self.lab.addresses[host]} for host in self.members}
        for host, address in addresses.items():
            hosts[host]["etcdpy_address"] = address
        inventory = self.directory / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"etcdpy": {"hosts": hosts, "vars": {**self.variables, **variables}}}))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", str(inventory), *options, str(ROOT / "ansible" / name)]

    def refused(self, name: str = "site.yml", *options: str, **arguments: object) -> str:
        """What it prints where it must refuse."""
        with pytest.raises(LabError) as refusal:
            self.play(name, *options, **arguments)  # type: ignore[arg-type]
        return str(refusal.value)

    def ctl(self, *command: str, on: str = "controller-0") -> Any:
        """What etcdpyctl answers on a member's host, from JSON. Raises LabError when it fails."""
        return json.loads(self.lab.on(on, *CTL, *command, "--write-out=json"))

    def health(self) -> set[str]:
        """The endpoints that are healthy; none when nobody can say."""
        try:
            said = self.ctl("endpoint", "health", "--cluster", on=self.members[0])
        except LabError:
            return set()
        return {row["endpoint"] for row in said if row["health"]}

    def begun(self) -> dict[str, int]:
        """When each member's process was started, in microseconds since its host booted."""
        show = ("systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", "etcdpy")
        return {host: int(self.lab.on(host, *show)) for host in self.members}

    @property
    def leader(self) -> str:
        """The host whose member leads, as the first one sees it."""
        (leader,) = {row["Status"]["leader"] for row in self.ctl("endpoint", "status", "--cluster", on=self.members[0])}
        names = {row["ID"]: str(row["name"]) for row in self.ctl("member", "list", on=self.members[0])["members"]}
        return names[leader]

    @property
    def endpoints(self) -> list[str]:
        """Where the members of the inventory serve clients."""
        return [f"https://{self.lab.addresses[host]}:2379" for host in self.members]

    def client_certificates(self) -> Path:
        """A directory with ca.pem, and traffic.pem with its key, as the authority of this site has them now."""
        place, authority = self.directory / "clients", self.directory / "ca"
        if not (authority / "traffic.pem").exists():
            command = [str(self.directory / "etcdpy"), "pki", "issue", "traffic", "--profile=client"]
            subprocess.run([*command, f"--dir={authority}"], check=True, stdout=subprocess.DEVNULL)
        place.mkdir(exist_ok=True)
        for name in ("ca.pem", "traffic.pem", "traffic-key.pem"):
            shutil.copy(authority / name, place)
        return place

    def served(self, host: str, port: int) -> x509.Certificate:
        """What a member shows at a port, to a client of this site, which must trust it. Raises LabError."""
        place = self.client_certificates()
        files = [f"-CAfile={place}/ca.pem", f"-cert={place}/traffic.pem", f"-key={place}/traffic-key.pem"]
        words = [word for file in files for word in file.split("=")]
        address = f"{self.lab.addresses[host]}:{port}"
        said = self.lab.run("openssl", "s_client", "-connect", address, *words, "-verify_return_error")
        return x509.load_pem_x509_certificate(said.encode())


def changes(output: str) -> dict[str, int]:
    return {host: int(count) for host, count in CHANGED.findall(output)}


def _kill_what_is_left(mark: bytes) -> None:
    """A run that is killed may just be starting a process more, which then waits for it for ever."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
