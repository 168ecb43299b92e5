"""Flags from `ETCD_*` variables, and what the machine itself says about its address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from etcdpy.server.flag_table import FLAGS
from etcdpy.server.flags import CommandLine, FlagError, parse_value
from etcdpy.server.go_values import quote
from etcdpy.server.notes import ConfigError, Note

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "ETCD_"
_VERSION = "ETCD_VERSION"
"""Container images set it to say what they hold; it is never taken for --version."""

_QUIET = frozenset(("ETCD_UNSUPPORTED_ARCH", "ETCD_CONFIG_FILE"))


def apply(line: CommandLine, environ: Mapping[str, str], notes: list[Note]) -> None:
    """Set what the command line left open. Raises ConfigError for a bad value or a variable whose flag is given too."""
    given = {FLAGS[name].env for name in line.explicit}
    known = {flag.env: flag for flag in FLAGS.values()}
    if environ.get(_VERSION):
        fields = {"key": _VERSION, "value": environ[_VERSION]}
        notes.append(Note("warn", "cannot set special environment variable", fields))
    problem: ConfigError | None = None
    for name, text in sorted(environ.items()):
        if not name.startswith(_PREFIX) or name == _VERSION:
            continue
        if name in given:
            # etcd refuses even an empty variable beside its flag.
            raise ConfigError(
                "conflicting environment variable is shadowed by corresponding command-line flag "
                "(either unset environment variable or disable flag))",
                fields={"environment-variable": name},
            )
        flag = known.get(name)
        if flag is None or not text:
            if name not in _QUIET:
                notes.append(Note("warn", "unrecognized environment variable", {"environment-variable": name}))
            continue
        shown = "..." if flag.secret else text
        try:
            line.values[flag.name] = parse_value(flag, text, line.values.get(flag.name))
        except FlagError as reason:
            problem = ConfigError(f"invalid value {quote(shown)} for {name}: {reason}")
            continue
        line.explicit.add(flag.name)
        fields = {"variable-name": name, "variable-value": shown}
        notes.append(Note("info", "recognized and used environment variable", fields))
    if problem is not None:
        raise problem


def default_host() -> str:
    """The address that packets to the outside leave from, or an empty text. Nothing is sent."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                host: str = probe.getsockname()[0]
                return f"[{host}]" if family == socket.AF_INET6 else host
        except OSError:
            continue
    return ""
