"""Rendered files against a host's: what differs, putting them there, and what systemd says of them."""

from __future__ import annotations

import difflib
import errno
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etcdpy.units.render import Rendered

MODE: Final = 0o644
SECONDS_MAX: Final = 60
"""What systemd's tools may take; they take less than one."""
_FOUNDING: Final = re.compile(
    r"(?mi)^ *(--|ETCD_)initial[-_](advertise[-_]peer[-_]urls|cluster|cluster[-_]state|cluster[-_]token)=.*\n"
)
"""Settings that a member reads only while it has no data."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that is not on the host as it should be. `before` is None where there is none."""

    file: Rendered
    target: Path
    before: str | None

    def diff(self) -> str:
        """The change as a unified diff, from what is there to what should be."""
        old = [] if self.before is None else self.before.splitlines(keepends=True)
        new = self.file.text.splitlines(keepends=True)
        source = "/dev/null" if self.before is None else str(self.target)
        return "".join(difflib.unified_diff(old, new, source, str(self.target)))

    @property
    def needs_restart(self) -> bool:
        """Whether a member that runs takes it only by a restart, and takes anything by that."""
        if not self.file.starts:
            return False
        return self.before is None or _FOUNDING.sub("", self.before) != _FOUNDING.sub("", self.file.text)


def changes(files: Sequence[Rendered], root: Path) -> list[Change]:
    """What differs below `root`. Raises OSError for what cannot be read."""
    found = []
    for file in files:
        target = root / file.path
        before = target.read_text(errors="replace") if target.exists() else None
        if before != file.text:
            found.append(Change(file, target, before))
    return found


def put(wanted: Sequence[Change]) -> None:
    """Write the files, each through one beside it, so that systemd never reads half of one. Raises OSError.

    A change that a running member need not restart for keeps the file's time: what a member starts from and is newer
    than its start is what it has not taken, whoever put it there and however long ago.
    """
    for change in wanted:
        change.target.parent.mkdir(parents=True, exist_ok=True)
        beside = change.target.with_name(f".{change.target.name}.{secrets.token_hex(6)}.tmp")
        try:
            with beside.open("x") as file:
                file.write(change.file.text)
                file.flush()
                os.fchmod(file.fileno(), MODE)
                if change.before is not None and not change.needs_restart:
                    kept = change.target.stat()
                    os.utime(file.fileno(), ns=(kept.st_atime_ns, kept.st_mtime_ns))
                os.fsync(file.fileno())
            beside.replace(change.target)
        finally:
            beside.unlink(missing_ok=True)


def take_in() -> None:
    """Have the running systemd take new files in: users, directories, units. Raises OSError, CalledProcessError."""
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"], ["systemctl", "daemon-reload"]):
        _run(command, check=True)


def _run(
    command: Sequence[str], *, check: bool, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd's. Raises OSError where it is not installed, and what subprocess.run raises."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "not installed", command[0])
    return subprocess.run(  # noqa: S603  # our own words, and paths that we made
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=check,
        timeout=SECONDS_MAX,
        env=environment,
    )


def can_analyze() -> bool:
    """Whether this machine has systemd's own judge."""
    return shutil.which("systemd-analyze") is not None


def complaints(files: Sequence[Rendered], program: str) -> list[str]:
    """What `systemd-analyze verify` says of the units. The program may not be on this machine; a stand-in is."""
    with tempfile.TemporaryDirectory(prefix="etcdpy-units-") as name:
        place = Path(name)
        units = [file for file in files if file.path.startswith("etc/systemd/system/")]
        for file in units:
            text = re.sub(rf"(?m)^(Exec\w+=){re.escape(program)}(?=\s|$)", r"\1/bin/true", file.text)
            (place / Path(file.path).name).write_text(text)
        # A template is judged as one of its instances.
        paths = [place / Path(file.path).name.replace("@.", "@member.") for file in units]
        environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"}
        done = _run(["systemd-analyze", "verify", "--man=no", *map(str, paths)], check=False, environment=environment)
        lines = (done.stdout + done.stderr).splitlines()
        return [line.replace(f"{place}/", "") for line in lines if line.strip()]
