"""Where the audit log's lines go: a file that only its owner reads, written by a thread of its own.

The loop hands lines over and never waits. What the disk does not take in time is dropped and counted, and the file
itself says so as soon as it can. A file that has grown to its bound gets the time behind its name and makes way for a
new one; none is ever removed. A file that somebody moved away is opened anew, so that logrotate may be used instead.
"""

from __future__ import annotations

import json
import os
import threading
import time
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from etcdpy import limits
from etcdpy.server import logs
from etcdpy.server.notes import ConfigError

log = logs.get("audit")

_MODE: Final = 0o600
_MEGABYTE: Final = 1_000_000
_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def stamp(seconds: float) -> str:
    """Wall clock seconds as RFC 3339 with microseconds, in UTC."""
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1_000_000):06d}Z"


class AuditFile:
    """`bytes_max` 0: the file grows for ever. Raises ConfigError where the file cannot be opened."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._said = -limits.AUDIT_FAILURE_SAID_SECONDS
        self._refused = self._failed = 0
        """Lines that found no place in the queue, or on the disk: each counter belongs to one thread."""
        self._told = 0
        """How many of them the file knows of."""
        self._torn = False
        """Whether the file ends in the middle of a line."""
        self._fd = -1
        try:
            self._open()
        except OSError as error:
            raise ConfigError(f"--audit-log-file: open {path}: {(error.strerror or 'failed').lower()}") from None
        self._thread = threading.Thread(target=self._run, name="etcdpy-audit")
        self._thread.start()

    # --- the loop's side ---

    def write(self, line: str) -> None:
        """Hand a line over."""
        if self._lines.qsize() >= limits.AUDIT_LINES_WAITING_MAX:
            self._refused += 1
        else:
            self._lines.put(line)

    @property
    def dropped(self) -> int:
        """Lines that were lost since the start."""
        return self._refused + self._failed

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._lines.put(None)
        self._thread.join()

    # --- the thread's side ---

    def _run(self) -> None:
        ended = False
        while not ended:
            lines = [self._lines.get()]
            try:
                while len(lines) < limits.AUDIT_BATCH_LINES:
                    lines.append(self._lines.get_nowait())
            except Empty:
                pass
            ended = None in lines
            self._write([line for line in lines if line is not None])
        if self._fd >= 0:
            os.close(self._fd)

    def _write(self, lines: list[str]) -> None:
        dropped = self.dropped
        if dropped > self._told:
            lines.append(json.dumps({"time": stamp(time.time()), "dropped": dropped - self._told}))
        if not lines:
            return
        data = (("\n" if self._torn else "") + "".join(f"{line}\n" for line in lines)).encode()
        try:
            self._make_ready(len(data))
            while data:
                written = os.write(self._fd, data)
                self._torn = written < len(data)
                data = data[written:]
            self._told = dropped
        except OSError as error:
            self._failed += data.count(b"\n")
            if time.monotonic() - self._said >= limits.AUDIT_FAILURE_SAID_SECONDS:
                self._said = time.monotonic()
                log.error("the audit log cannot be written; lines are dropped", path=str(self._path), error=str(error))

    def _make_ready(self, size: int) -> None:
        """Open the file anew if it was moved away, or is to make way. Raises OSError."""
        try:
            found = self._path.stat()
            own = os.fstat(self._fd) if self._fd >= 0 else None
            moved = own is None or (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            self._open()
        elif self._bytes_max and found.st_size and found.st_size + size > self._bytes_max:
            self._path.rename(self._free_name())
            self._open()

    def _free_name(self) -> Path:
        """For the file that makes way: with the time, and a number where that is taken."""
        base = f"{self._path.name}.{stamp(time.time()).replace(':', '-')}"
        names = (self._path.with_name(f"{base}-{number}" if number else base) for number in count())
        return next(name for name in names if not name.exists())

    def _open(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        fd = os.open(self._path, _OPEN, _MODE)
        try:
            os.fchmod(fd, _MODE)  # it may have been there before
        except OSError:
            os.close(fd)
            raise
        self._fd = fd


def open_audit_file(path: str, max_megabytes: int) -> AuditFile:
    """The file of --audit-log-file. Raises ConfigError."""
    return AuditFile(Path(path), max_megabytes * _MEGABYTE)
