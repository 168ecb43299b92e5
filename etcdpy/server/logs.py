"""The server's log: zap's JSON lines or its console form, on top of the standard library's logging.

    log = logs.get("server")
    log.info("ready to serve client requests", took=format_duration(ns))

Underscores in field names become dashes, as etcd writes them. Code below this room logs through `logging` itself with
`extra={"fields": {...}}`; both end here. Writing a line can fail (full disk, closed pipe): then the line is lost and
counted, and the server goes on.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits

if TYPE_CHECKING:
    from etcdpy.server.config import Config
    from etcdpy.server.notes import Note

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
_ROOT: Final = "etcdpy"

_dashed: dict[str, str] = {}
"""Field names as written in the code -> as logged. Keyword names only, so it stays small."""


class Log:
    """A named log. Nothing is built for a line whose level is off."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, /, **fields: Any) -> None:
        """For whoever looks for a fault."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """What happened, in normal running."""
        if self._logger.isEnabledFor(logging.INFO):
            self._write(logging.INFO, message, fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        """Something an operator should see some day."""
        if self._logger.isEnabledFor(logging.WARNING):
            self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """Something is wrong. A normal start and stop has no such line."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._write(logging.ERROR, message, fields)

    def _write(self, level: int, message: str, fields: dict[str, Any]) -> None:
        named = {_dashed.get(name) or _dash(name): value for name, value in fields.items()}
        self._logger.log(level, message, extra={"fields": named}, stacklevel=3)


def _dash(name: str) -> str:
    return _dashed.setdefault(name, name.replace("_", "-"))


def get(name: str) -> Log:
    """The log of one room, such as `server`."""
    return Log(logging.getLogger(f"{_ROOT}.{name}"))


# ---- formatting ----


def _safe(value: object) -> object:
    """What JSON cannot write itself. Bytes come as text, cut to a bound; what is no UTF-8 in them is escaped."""
    if isinstance(value, bytes | bytearray | memoryview):
        cut = bytes(value[: limits.LOG_BYTES_FIELD_MAX])
        return cut.decode("utf-8", "backslashreplace") + ("..." if len(value) > len(cut) else "")
    if isinstance(value, set | frozenset | tuple):
        return sorted(map(str, value)) if not isinstance(value, tuple) else list(value)
    return str(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_safe, check_circular=False).encode
_encode_wide = json.JSONEncoder(ensure_ascii=False, default=_safe, check_circular=False).encode


class _Formatter(logging.Formatter):
    """The parts both forms share. About 6 us a line, most of it the encoding of the fields."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._second_text = ""
        self._callers: dict[str, str] = {}

    def stamp(self, created: float) -> str:
        """RFC 3339 with microseconds, in UTC."""
        second = int(created)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((created - second) * 1_000_000):06d}Z"

    def caller(self, record: logging.LogRecord) -> str:
        """`server/run.py:12`: the file with its directory, and the line."""
        short = self._callers.get(record.pathname)
        if short is None:
            short = self._callers[record.pathname] = "/".join(record.pathname.split("/")[-2:])
        return f"{short}:{record.lineno}"

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The record's fields; an exception adds its text and its stack."""
        found: dict[str, Any] = getattr(record, "fields", None) or {}
        if record.exc_info and record.exc_info[1] is not None:
            problem = record.exc_info[1]
            text = f"{type(problem).__name__}: {problem}"
            found = {**found, "error": text, "stacktrace": self.formatException(record.exc_info)}
        return found


class JsonFormatter(_Formatter):
    """zap's JSON: one object a line, `level`, `ts`, `caller`, `msg` first."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        level = _NAMES.get(record.levelno, "info")
        head = f'{{"level":"{level}","ts":"{self.stamp(record.created)}","caller":{_encode(self.caller(record))}'
        fields = self.fields(record)
        message = _encode(record.getMessage())
        if not fields:
            return f'{head},"msg":{message}}}'
        return f'{head},"msg":{message},{_encode(fields)[1:]}'


class ConsoleFormatter(_Formatter):
    """zap's console form: time, level, place, message and the fields as JSON, tabs between them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end; a stack follows on lines of its own, as zap does it."""
        level = _NAMES.get(record.levelno, "info")
        parts = [self.stamp(record.created), level, self.caller(record), _one_line(record.getMessage())]
        fields = dict(self.fields(record))
        stack = fields.pop("stacktrace", None)
        if fields:
            parts.append(_encode_wide(fields))
        line = "\t".join(parts)
        return f"{line}\n{stack}" if stack else line


def _one_line(text: str) -> str:
    return _encode(text)[1:-1] if not text.isprintable() else text


class Sampler(logging.Filter):
    """Lets the first lines of a kind through in each second and then every hundredth: a flood stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._seen: dict[tuple[int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        second = int(record.created)
        if second != self._second or len(self._seen) > limits.LOG_KINDS_COUNTED_MAX:
            self._second = second
            self._seen.clear()
        kind = (record.levelno, str(record.msg))
        seen = self._seen[kind] = self._seen.get(kind, 0) + 1
        return seen <= limits.LOG_LINES_PER_SECOND_BURST or seen % limits.LOG_LINES_SAMPLED_EACH == 0


# ---- set-up ----


def setup(config: Config) -> None:
    """Send the log where the configuration says. Raises ConfigError for an output that cannot be opened."""
    from etcdpy.server import log_outputs  # here: most commands never open a log file

    _install(log_outputs.handlers(config), config.log_format or "json", _LEVELS[config.log_level.lower()])


def setup_default(level: int = logging.INFO) -> None:
    """JSON lines on stderr: for what is to be said before the configuration is known, and where there is none."""
    from etcdpy.server import log_outputs

    _install([log_outputs.stderr_handler()], "json", level)


def _install(handlers: list[logging.Handler], form: str, level: int) -> None:
    root = logging.getLogger()
    close()
    formatter = ConsoleFormatter() if form == "console" else JsonFormatter()
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.addFilter(Sampler())
        root.addHandler(handler)
    _installed.extend(handlers)
    logging.getLogger(_ROOT).setLevel(level)
    # What the standard library would find out for each line, and nobody prints.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False
    logging.captureWarnings(True)


_installed: list[logging.Handler] = []


def close() -> None:
    """Take the outputs away and close their files."""
    root = logging.getLogger()
    for handler in _installed:
        root.removeHandler(handler)
        handler.close()
    _installed.clear()


def dropped_lines() -> int:
    """How many lines could not be written since the start."""
    from etcdpy.server import log_outputs

    return log_outputs.failures.count


def write_notes(log: Log, notes: tuple[Note, ...]) -> None:
    """What reading the configuration left to be said."""
    for note in notes:
        fields = dict(note.fields)
        if note.level == "warn":
            log.warn(note.message, **fields)
        else:
            log.info(note.message, **fields)
