"""The data directory: its layout, its lock, its version.

    <data-dir>/            0700
      member/              0700
        LOCK               held (flock) by the process that serves it
        FORMAT             one line: `etcdpy data <version>`
        CREATING           only while the directory is being made
        KEYS                 only with encryption: the data keys, wrapped by the operator's (data_keys.py)
        log/               segments of the raft log, see log_database (with --wal-dir: <wal-dir>/log)
        state/             LevelDB: the applied state
        state.<identity>/  LevelDB: a state received from another member; takes the place of the other at a start
        tmp-*              what is being made; removed at start

Nothing but regular files and directories is put there, so a copy of an idle member's directory is a backup.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etcdpy.storage.errors import DataDirError, LockedError
from etcdpy.storage.leveldb import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 2
FORMAT_LINE: Final = f"etcdpy data {FORMAT_VERSION}"
_FORMAT_SHOWN_CHARS: Final = 64
PRIVATE_MODE: Final = 0o700
TEMPORARY_PREFIX: Final = "tmp-"
RETIRED: Final = "retired-state"

logger = logging.getLogger("etcdpy.storage")


@dataclass(frozen=True, slots=True)
class Layout:
    """What is there, before any database is opened."""

    format_line: str | None
    """Content of FORMAT; None when there is no such file."""
    creating: bool
    log: bool
    state: bool
    foreign: str | None
    """What shows that the directory belongs to etcd itself: the names found."""


class DataDir:
    """The paths, and the lock while open."""

    def __init__(self, path: Path, wal_dir: Path | None = None) -> None:
        self.path = path
        self.member = path / "member"
        self.log_path = (wal_dir / "log") if wal_dir is not None else self.member / "log"
        self.state_path = self.member / "state"
        self.keys_path = self.member / "KEYS"
        self._format_path = self.member / "FORMAT"
        self._creating_path = self.member / "CREATING"
        self._lock: int | None = None

    def lock(self) -> None:
        """Make the directories if needed and take the lock. Raises DataDirError."""
        try:
            for directory in (self.path, self.member, self.log_path.parent):
                directory.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
                _warn_if_open_to_others(directory)
            lock_path = self.member / "LOCK"
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirError(
                f"cannot use the data directory {self.path}: {error.strerror} ({error.filename}); make it writable for "
                "this user, or choose another --data-dir"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise LockedError(
                f"another process holds the data directory {self.path} ({lock_path}); stop it, or choose another "
                "--data-dir"
            ) from error
        self._lock = descriptor

    def unlock(self) -> None:
        """Let go of the lock; the file stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def look(self) -> Layout:
        """What is there."""
        foreign = [f"member/{name}" for name in ("wal", "snap") if (self.member / name).is_dir()]
        if not foreign and self.log_path.parent != self.member:
            foreign = [str(found) for found in sorted(self.log_path.parent.glob("*.wal"))[:1]]
        try:
            format_line: str | None = _shown(self._format_path.read_text("utf-8", "replace").strip())
        except FileNotFoundError:
            format_line = None
        return Layout(
            format_line=format_line,
            creating=self._creating_path.exists(),
            log=self.log_path.exists(),
            state=self.state_path.exists(),
            foreign=" and ".join(foreign) or None,
        )

    def begin_creation(self) -> None:
        """Start from nothing: whatever a creation that was interrupted left is removed. Raises DataDirError."""
        try:
            self._creating_path.write_text("being made; safe to delete the directory\n")
            sync_directory(self.member)
            for path in (self.log_path, self.state_path):
                if path.exists():
                    shutil.rmtree(path)
        except OSError as error:
            raise DataDirError(f"cannot create the data directory {self.path}: {error.strerror}") from error

    def finish_creation(self) -> None:
        """Both databases are there and durable: from here on the directory counts."""
        temporary = self.member / "FORMAT.new"
        try:
            with temporary.open("w") as file:
                file.write(FORMAT_LINE + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._format_path)
            sync_directory(self.member)
            sync_directory(self.log_path.parent)
            sync_directory(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise DataDirError(f"cannot create the data directory {self.path}: {error.strerror}") from error
        self.clear_creation_mark()

    def temporary(self, kind: str) -> Path:
        """A name that nobody has, for something that does not survive a restart."""
        return self.member / f"{TEMPORARY_PREFIX}{kind}-{os.urandom(4).hex()}"

    def received_state_path(self, identity: bytes) -> Path:
        """Where the received state of that identity is."""
        return self.member / f"state.{identity.hex()}"

    def other_states(self) -> list[Path]:
        """States beside `state`: received ones, and what is on its way out."""
        return [*self.member.glob("state.*"), *self.member.glob(f"{TEMPORARY_PREFIX}{RETIRED}-*")]

    def retired_path(self) -> Path:
        """Where a state goes to be deleted."""
        return self.temporary(RETIRED)

    def put_in_place(self, received: Path) -> None:
        """Make a received state the one called `state`, the other a leftover. Raises OSError."""
        if self.state_path.exists():
            self.state_path.rename(self.retired_path())
        received.rename(self.state_path)
        sync_directory(self.member)

    def remove_leftovers(self) -> None:
        """Give back the disk space of what was being made when the process ended, received states included."""
        for path in sorted([*self.member.glob(f"{TEMPORARY_PREFIX}*"), *self.member.glob("state.*")]):
            logger.info("removing what an earlier run left", extra={"fields": {"path": str(path)}})
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                fields = {"path": str(path), "error": str(error)}
                logger.warning("cannot remove what an earlier run left", extra={"fields": fields})

    def clear_creation_mark(self) -> None:
        """The directory is complete; FORMAT says so too, hence no sync."""
        self._creating_path.unlink(missing_ok=True)


def _warn_if_open_to_others(directory: Path) -> None:
    mode = directory.stat().st_mode & 0o777
    if mode & 0o077:
        text = (
            f'directory "{directory}" exist, but the permission is "{_symbolic(mode)}". The recommended permission is '
            f'"{_symbolic(PRIVATE_MODE)}" to prevent possible unprivileged access to the data'
        )
        logger.warning("check file permission", extra={"fields": {"error": text}})


def _symbolic(mode: int) -> str:
    """As Go prints the mode of a directory: drwx------."""
    return "d" + "".join("rwx"[2 - bit % 3] if mode >> bit & 1 else "-" for bit in range(8, -1, -1))


def _shown(line: str) -> str:
    """The line as it is, or escaped and cut where a damaged file holds something that is no line for a log."""
    return line if line.isprintable() and len(line) <= _FORMAT_SHOWN_CHARS else ascii(line[:_FORMAT_SHOWN_CHARS])
