"""Where log lines go: standard streams, files, files that rotate, the journal. No output ever raises."""

from __future__ import annotations

import gzip
import logging
import logging.handlers
import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.server.notes import ConfigError
from etcdpy.server.validate import JOURNAL, parse_rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etcdpy.server.config import Config

_JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
_SYSLOG: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_FILE_MODE: Final = 0o640


class _Failures:
    """Lines that were lost, and when that was last said on stderr."""

    __slots__ = ("count", "said")

    def __init__(self) -> None:
        self.count = 0
        self.said = -limits.LOG_FAILURE_SAID_EACH_SECONDS

    def add(self, output: str, problem: BaseException | None) -> None:
        """Count a lost line; now and then say so on stderr."""
        self.count += 1
        now = time.monotonic()
        if now - self.said < limits.LOG_FAILURE_SAID_EACH_SECONDS:
            return
        self.said = now
        try:
            os.write(2, f"etcdpy: log output {output} failed ({problem}); lines are lost\n".encode())
        except OSError:
            pass  # nobody is left to tell


failures: Final = _Failures()


class StreamOutput(logging.Handler):
    """Lines to a file descriptor, one write each, so that lines of several processes do not mix."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__()
        self._fd = fd
        self._output = name

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or lose it."""
        try:
            _write_all(self._fd, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception as problem:
            failures.add(self._output, problem)


class _QuietFile:
    """What both kinds of file share: failures are counted, not raised."""

    baseFilename: str  # noqa: N815 - logging's name

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name and arguments
        """Count the lost line."""
        failures.add(self.baseFilename, sys.exc_info()[1])


class _LogFile:
    """A file that gets each line in one unbuffered write: what cannot be written is lost now, not kept for later."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)

    def write(self, text: str) -> None:
        """Write all of it. Raises OSError."""
        _write_all(self._fd, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the file, once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class FileOutput(_QuietFile, logging.handlers.WatchedFileHandler):
    """Lines to a file, which is opened anew when logrotate moved it away."""

    def _open(self) -> Any:
        return _LogFile(self.baseFilename)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or lose it."""
        try:
            super().emit(record)
        except OSError as problem:  # raised while looking whether the file was moved
            failures.add(self.baseFilename, problem)


class RotatingOutput(_QuietFile, logging.handlers.BaseRotatingHandler):
    """A file that makes way for a new one at `maxsize` MB, as etcd's does: `etcd-2026-01-02T03-04-05.678.log`, .gz.

    Old files go when they are more than `maxbackups` or older than `maxage` days; 0 keeps them.
    """

    def __init__(self, path: str, rotation: Mapping[str, int | bool], wall: Callable[[], float] = time.time) -> None:
        self._bytes_max = int(rotation["maxsize"]) * 1_000_000
        self._rotation = rotation
        self._wall = wall
        super().__init__(path, "a", encoding="utf-8")

    def _open(self) -> Any:
        stream = _LogFile(self.baseFilename)
        self._written = os.fstat(stream.fileno()).st_size
        return stream

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        """Whether this line would make the file too large."""
        size = len(self.format(record)) + 1
        if self._written and self._written + size > self._bytes_max:
            return True
        self._written += size
        return False

    def doRollover(self) -> None:  # noqa: N802
        """Move the file aside, open a new one and tidy up in a thread of its own: a gzip of 100 MB takes seconds."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        path = Path(self.baseFilename)
        now = self._wall()
        clock = time.localtime(now) if self._rotation["localtime"] else time.gmtime(now)
        stamp = f"{time.strftime('%Y-%m-%dT%H-%M-%S', clock)}.{int(now * 1000) % 1000:03d}"
        path.rename(path.with_name(f"{path.stem}-{stamp}{path.suffix}"))
        self.stream = self._open()
        threading.Thread(target=self.tidy, name="log-rotation", daemon=True).start()

    def backups(self) -> list[Path]:
        """The files that made way, oldest first."""
        path = Path(self.baseFilename)
        found = [*path.parent.glob(f"{path.stem}-*{path.suffix}"), *path.parent.glob(f"{path.stem}-*{path.suffix}.gz")]
        return sorted(each for each in set(found) if _is_stamp(each.name[len(path.stem) + 1 :], path.suffix))

    def tidy(self) -> None:
        """Remove what is too old or too much, compress the rest. A failure leaves files behind, nothing worse."""
        try:
            kept = self.backups()
            most, days = int(self._rotation["maxbackups"]), int(self._rotation["maxage"])
            gone = kept[:-most] if most and len(kept) > most else []
            if days:
                horizon = self._wall() - days * 86_400
                gone += [each for each in kept if each not in gone and each.stat().st_mtime < horizon]
            for each in gone:
                each.unlink(missing_ok=True)
            if self._rotation["compress"]:
                for each in kept:
                    if each not in gone and each.suffix != ".gz":
                        _compress(each)
        except OSError as problem:
            failures.add(self.baseFilename, problem)


def _is_stamp(rest: str, suffix: str) -> bool:
    text = rest.removesuffix(".gz").removesuffix(suffix)
    try:
        time.strptime(text[:-4], "%Y-%m-%dT%H-%M-%S")
    except ValueError:
        return False
    return text[-4] == "." and text[-3:].isdigit()


def _compress(path: Path) -> None:
    aside = path.with_name(f"{path.name}.gz.tmp")
    with path.open("rb") as source, gzip.open(aside, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1024 * 1024)
    aside.chmod(_FILE_MODE)
    aside.rename(path.with_name(f"{path.name}.gz"))
    path.unlink()


class JournalOutput(logging.Handler):
    """Lines to systemd's journal with their priority, so that `journalctl -p` works; stderr is the way out."""

    def __init__(self, address: str = _JOURNAL_SOCKET) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
            head = f"PRIORITY={_SYSLOG.get(record.levelno, 6)}\nSYSLOG_IDENTIFIER=etcdpy\nMESSAGE\n".encode()
            try:
                self._socket.send(head + len(line).to_bytes(8, "little") + line + b"\n")
            except OSError:
                os.write(2, line + b"\n")
        except Exception as problem:
            failures.add(JOURNAL, problem)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def stderr_handler() -> logging.Handler:
    """Lines on stderr. Under systemd that is the journal already."""
    return StreamOutput(2, "stderr")


def handlers(config: Config) -> list[logging.Handler]:
    """One handler an output of --log-outputs. Raises ConfigError."""
    outputs = config.log_outputs or ("default",)
    if "/dev/null" in outputs:
        return [logging.NullHandler()]
    return [_handler(config, each) for each in outputs]


def _handler(config: Config, output: str) -> logging.Handler:
    if output in ("default", "stderr"):
        return stderr_handler()
    if output == "stdout":
        return StreamOutput(1, "stdout")
    try:
        if output == JOURNAL:
            return JournalOutput()
        if config.enable_log_rotation:
            Path(output).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            return RotatingOutput(output, parse_rotation(config.log_rotation_config_json))
        return FileOutput(output)
    except OSError as problem:
        what = "can't find journal" if output == JOURNAL else f"open {output}"
        raise ConfigError(f"--log-outputs: {what}: {(problem.strerror or 'failed').lower()}") from None
