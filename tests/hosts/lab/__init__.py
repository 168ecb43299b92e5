"""Hosts that boot: Debian with systemd as process 1 in containers, each with an address, a journal and sshd.

`up.sh` says how they are made. All of it lives in namespaces of the lab's own and ends with it, however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.reference import cache_root

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE: Final = Path(__file__).parent
TOOLS: Final = ("systemd-nspawn", "mmdebstrap", "ssh-keygen", "ip", "nsenter", "setpriv", "unshare", "findmnt", "flock")
UP_SECONDS_MAX: Final = 300.0
"""The first time a root filesystem is made, mostly from the network: half a minute where nobody else works."""
COMMAND_SECONDS_MAX: Final = 120.0


class LabError(Exception):
    """A host did not do what it was told; the text is what it said."""


def missing() -> str:
    """What keeps hosts from being booted here; empty where nothing does."""
    if os.geteuid() != 0:
        return "only root can boot hosts"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def root_filesystem() -> Path:
    """What hosts boot from: Debian 12 with systemd and Python, made if it is not in the cache. Raises LabError."""
    environment = os.environ | {"CACHE_DIR": str(cache_root() / "hosts")}
    return Path(_checked([str(HERE / "up.sh"), "--rootfs"], environment, UP_SECONDS_MAX).strip())


class Lab:
    """Some hosts on one bridge. `addresses` by name; `shown` are directories of this machine that all of them see, read
    only, by the path at which they see them."""

    def __init__(self, directory: str, addresses: Mapping[str, str], shown: Mapping[str, Path]) -> None:
        self.directory = Path(directory)
        self.addresses = dict(addresses)
        self._shown = dict(shown)

    def __enter__(self) -> Self:
        options = " ".join(f"--bind-ro={source}:{place}" for place, source in self._shown.items())
        environment = os.environ | {
            "LAB_DIR": str(self.directory),
            "CACHE_DIR": str(cache_root() / "hosts"),
            "HOSTS": " ".join(f"{name}={address}" for name, address in self.addresses.items()),
            "NSPAWN_EXTRA": options,
            "WATCH_PID": str(os.getpid()),
        }
        try:
            _checked([str(HERE / "up.sh")], environment, UP_SECONDS_MAX)
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._down()

    def _down(self) -> None:
        environment = os.environ | {"LAB_DIR": str(self.directory)}
        _checked([str(HERE / "down.sh"), "--cut"], environment, COMMAND_SECONDS_MAX)

    def on(self, host: str, *command: str, text: str = "", seconds_max: float = COMMAND_SECONDS_MAX) -> str:
        """What a command prints that runs on a host as root, without ssh. Raises LabError when it fails."""
        return _checked([str(self.directory / "on"), host, *command], os.environ, seconds_max, text)

    def run(self, *command: str, seconds_max: float = COMMAND_SECONDS_MAX, **environment: str) -> str:
        """What a command of this machine prints in the lab's network. Raises LabError when it fails."""
        return _checked([str(self.directory / "run"), *command], os.environ | environment, seconds_max)

    def power(self, host: str, verb: str) -> str:
        """`on`, `off` (in order), `cut` (as when the cable is pulled) or `reboot`; returns systemd's state once it is
        up. Raises LabError."""
        return _checked([str(self.directory / "power"), host, verb], os.environ, COMMAND_SECONDS_MAX).strip()

    def erase(self, host: str, *paths: str) -> None:
        """Remove what is there on a host that has no power. Raises LabError."""
        pid = (self.directory / "lab.pid").read_text().split()[0]
        command = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "rm", "-rf", "--"]
        command += [f"{self.directory}/{host}/root{path}" for path in paths]
        _checked(command, os.environ, COMMAND_SECONDS_MAX)


def _checked(command: list[str], environment: Mapping[str, str], seconds_max: float, text: str = "") -> str:
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, timeout=seconds_max, check=False
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
