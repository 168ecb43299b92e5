"""--config-file: YAML (or JSON) with the keys and types of etcd's file.

Keys are flag names, matched without regard to case; unknown ones are passed over with a warning. Types are strict as
etcd's are: a number is no text and a text no number. Spans are whole nanoseconds; `10m` is taken as well, which etcd
refuses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from etcdpy import limits
from etcdpy.duration import DurationError, parse_duration
from etcdpy.server.feature_gates import GateError, parse_gates
from etcdpy.server.flag_table import FLAGS
from etcdpy.server.flags import UINT32_MAX, CommandLine, Flag, FlagError, Kind, default_values, parse_value
from etcdpy.server.notes import ConfigError, Note

if TYPE_CHECKING:
    from collections.abc import Callable

_TLS_KEYS: Final = {
    "cert-file": "{peer}cert-file",
    "key-file": "{peer}key-file",
    "client-cert-file": "{peer}client-cert-file",
    "client-key-file": "{peer}client-key-file",
    "client-cert-auth": "{peer}client-cert-auth",
    "trusted-ca-file": "{peer}trusted-ca-file",
    "auto-tls": "{peer}auto-tls",
    "allowed-hostname": "{client}cert-allowed-hostname",
}
"""Keys of the two security objects -> the flag of the endpoint."""

_DISCOVERY_CLIENT: Final = {
    "endpoints": "discovery-endpoints",
    "dial-timeout": "discovery-dial-timeout",
    "request-timeout": "discovery-request-timeout",
    "keepalive-time": "discovery-keepalive-time",
    "keepalive-timeout": "discovery-keepalive-timeout",
}
_DISCOVERY_SECURE: Final = {
    "cert": "discovery-cert",
    "key": "discovery-key",
    "cacert": "discovery-cacert",
    "insecure-transport": "discovery-insecure-transport",
    "insecure-skip-tls-verify": "discovery-insecure-skip-tls-verify",
}
_RANGES: Final = {
    Kind.UINT: (0, 2**64 - 1),
    Kind.MILLISECONDS: (0, 2**64 - 1),
    Kind.UINT32: (0, UINT32_MAX),
    Kind.INT: (-(2**63), 2**63 - 1),
}
_COMMA_TEXTS: Final = frozenset(("cors", "host-whitelist", "feature-gates"))
"""Comma-separated texts in the file too; other lists are lists there."""


def read(path: str, notes: list[Note]) -> tuple[CommandLine, dict[str, Any]]:
    """The values of the file on top of the defaults, and the fields that only a file has. Raises ConfigError."""
    tree = _load(path)
    reader = _Reader(path, notes)
    reader.top(tree)
    notes.append(
        Note(
            "info",
            "loaded server configuration, other configuration command line flags and environment variables "
            "will be ignored if provided",
            {"path": path},
        )
    )
    return reader.line, reader.extra


def _load(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(limits.CONFIG_FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise ConfigError(f"--config-file: open {path}: {(problem.strerror or 'failed').lower()}") from None
    if len(content) > limits.CONFIG_FILE_BYTES_MAX:
        raise ConfigError(f"--config-file: {path} is larger than {limits.CONFIG_FILE_BYTES_MAX} bytes")
    try:
        # A subclass of SafeLoader: it makes no objects.
        tree = yaml.load(content, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise ConfigError(f"--config-file: {path} is no YAML: {' '.join(str(problem).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"--config-file: {path} must hold `key: value` lines")
    return tree


class _Reader:
    """Walks the file's objects and fills a CommandLine."""

    def __init__(self, path: str, notes: list[Note]) -> None:
        self.path = path
        self.notes = notes
        self.line = CommandLine(default_values(FLAGS))
        self.extra: dict[str, Any] = {}

    def top(self, tree: dict[str, Any]) -> None:
        """The whole file."""
        sections: dict[str, Callable[[str, dict[str, Any]], None]] = {
            "client-transport-security": self._security,
            "peer-transport-security": self._security,
            "socket-options": self._sockets,
            "discovery-config": self._discovery,
        }
        for key, value in self._entries("", tree):
            if value is None:
                continue
            if key in sections:
                sections[key](key, self._object(key, value))
            elif key in FLAGS and FLAGS[key].in_file:
                self._set(key, FLAGS[key], value)
            else:
                self._unknown(key)
        self._clear_initial_cluster()

    def _clear_initial_cluster(self) -> None:
        values = self.line.values
        discovers = values["discovery-srv"] or values["discovery-endpoints"]
        if discovers and values["initial-cluster"] == FLAGS["initial-cluster"].default:
            values["initial-cluster"] = ""

    def _entries(self, prefix: str, tree: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(str(key).lower(), value) for key, value in tree.items()]

    def _object(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(key, "an object of keys and values", value)
        return value

    def _unknown(self, key: str) -> None:
        self.notes.append(Note("warn", "unknown key in the configuration file is ignored", {"key": key}))

    def _security(self, section: str, tree: dict[str, Any]) -> None:
        peer = section.startswith("peer")
        names = {"peer": "peer-" if peer else "", "client": "peer-" if peer else "client-"}
        for key, value in self._entries(section, tree):
            if value is None:
                continue
            if key in _TLS_KEYS:
                flag = FLAGS[_TLS_KEYS[key].format(**names)]
                self._set(f"{section}.{key}", flag, value)
            elif key == "allowed-cn":
                words = self._words(f"{section}.{key}", value)
                if peer:
                    self._take(FLAGS["peer-cert-allowed-cn"], words)
                else:
                    self.extra["client_cert_allowed_cn"] = words
            elif key == "skip-client-san-verification":
                if peer:
                    self._set(f"{section}.{key}", FLAGS["peer-skip-client-san-verification"], value)
                else:
                    self.extra["client_skip_client_san_verification"] = self._bool(f"{section}.{key}", value)
            else:
                self._unknown(f"{section}.{key}")

    def _sockets(self, section: str, tree: dict[str, Any]) -> None:
        for key, value in self._entries(section, tree):
            if key in ("reuse-port", "reuse-address"):
                self._set(f"{section}.{key}", FLAGS[f"socket-{key}"], value)
            else:
                self._unknown(f"{section}.{key}")

    def _discovery(self, section: str, tree: dict[str, Any]) -> None:
        for key, value in self._entries(section, tree):
            if key == "token":
                self._set(f"{section}.{key}", FLAGS["discovery-token"], value)
            elif key == "client":
                self._discovery_client(f"{section}.client", self._object(f"{section}.client", value))
            else:
                self._unknown(f"{section}.{key}")

    def _discovery_client(self, section: str, tree: dict[str, Any]) -> None:
        for key, value in self._entries(section, tree):
            place = f"{section}.{key}"
            if key in _DISCOVERY_CLIENT:
                self._set(place, FLAGS[_DISCOVERY_CLIENT[key]], value)
            elif key == "secure":
                for name, each in self._entries(place, self._object(place, value)):
                    if name in _DISCOVERY_SECURE:
                        self._set(f"{place}.{name}", FLAGS[_DISCOVERY_SECURE[name]], each)
                    elif name == "server-name":
                        self.extra["discovery_server_name"] = self._text(f"{place}.{name}", each)
                    else:
                        self._unknown(f"{place}.{name}")
            elif key == "auth":
                names = {"username": "discovery-user", "password": "discovery-password"}
                for name, each in self._entries(place, self._object(place, value)):
                    if name in names:
                        self._set(f"{place}.{name}", FLAGS[names[name]], each)
                    elif name == "token":
                        self.extra["discovery_auth_token"] = self._text(f"{place}.{name}", each)
                    else:
                        self._unknown(f"{place}.{name}")
            else:
                self._unknown(place)

    def _set(self, key: str, flag: Flag, value: object) -> None:
        self._take(flag, self._value(key, flag, value))

    def _take(self, flag: Flag, value: object) -> None:
        self.line.values[flag.name] = value
        self.line.explicit.add(flag.name)

    def _value(self, key: str, flag: Flag, value: object) -> Any:
        match flag.kind:
            case Kind.BOOL:
                return self._bool(key, value)
            case Kind.UINT | Kind.UINT32 | Kind.INT | Kind.MILLISECONDS:
                return self._number(key, value, *_RANGES[flag.kind])
            case Kind.DURATION:
                return self._span(key, value)
            case Kind.GATES:
                try:
                    return parse_gates(self._text(key, value))
                except GateError as problem:
                    raise ConfigError(f"{key} in {self.path}: {problem}") from None
            case Kind.WORDS | Kind.WORD_SET if key not in _COMMA_TEXTS:
                words = self._words(key, value)
                return tuple(sorted(set(words))) if flag.kind is Kind.WORD_SET else words
            case Kind.CHOICE:
                return self._text(key, value) or flag.default
            case Kind.CHOICES:
                return self._text(key, value)
            case _:
                text = self._text(key, value)
                if flag.kind in (Kind.URLS, Kind.ORIGINS, Kind.WORD_SET) and not text:
                    return self.line.values[flag.name]
                try:
                    return parse_value(flag, text)
                except FlagError as problem:
                    raise ConfigError(f"unexpected error setting up {key} in {self.path}: {problem}") from None

    def _bool(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def _text(self, key: str, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(key, "text; put it in quotes", value)
        return value

    def _words(self, key: str, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, "a list of texts, such as [a, b]", value)
        return tuple(value)

    def _number(self, key: str, value: object, low: int, high: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number", value)
        if not low <= value <= high:
            raise self._wrong(key, f"a number from {low} to {high}", value)
        return value

    def _span(self, key: str, value: object) -> int:
        if isinstance(value, str):
            try:
                return parse_duration(value)
            except DurationError:
                raise self._wrong(key, 'whole nanoseconds, or a span such as "10m"', value) from None
        return self._number(key, value, -(2**63), 2**63 - 1)

    def _wrong(self, key: str, wanted: str, value: object) -> ConfigError:
        kind = {"dict": "an object", "list": "a list", "str": "text", "bool": "true or false", "int": "a number"}
        found = kind.get(type(value).__name__, "something else")
        return ConfigError(f"{key} in {self.path}: expected {wanted}, found {found}")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as Go's library reads it: no dates, no base-60 numbers, `1e3` is a number, and y and n are booleans."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, *([""] if _tag == "null" else [])]
    )


def _construct_bool(loader: yaml.SafeLoader, node: yaml.Node) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")  # type: ignore[arg-type]


def _construct_int(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")  # type: ignore[arg-type]
    digits = text.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        value = int(digits, 8)
    else:
        value = int(digits, 0)
    return -value if text.startswith("-") else value


_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
