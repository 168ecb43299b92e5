"""What a flag is, and how a command line is read: Go's flag package, rule for rule.

`-x v`, `-x=v` and two dashes are the same; a boolean needs `=false`; the last of repeated flags wins; `--` or the first
word that is no flag ends them. The flags themselves stand in `flag_table.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from etcdpy.duration import DurationError, parse_duration
from etcdpy.server.feature_gates import NONE_GIVEN, GateError, parse_gates
from etcdpy.server.go_values import GoValueError, parse_bool, parse_int, quote
from etcdpy.server.urls import UrlError, parse_urls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Kind(Enum):
    """How a flag's text is read."""

    STRING = auto()
    BOOL = auto()
    UINT = auto()
    UINT32 = auto()
    INT = auto()
    DURATION = auto()
    """Held as nanoseconds until Config makes seconds of it."""
    MILLISECONDS = auto()
    """A bare number of milliseconds."""
    URLS = auto()
    """Comma-separated, sorted, without doubles. An empty text changes nothing, as on etcd."""
    ORIGINS = auto()
    """URLs, or `*`, which adds itself to what was given before."""
    WORDS = auto()
    """Comma-separated, in the order given."""
    WORD_SET = auto()
    """Comma-separated, sorted, without doubles."""
    CHOICE = auto()
    CHOICES = auto()
    """Comma-separated choices."""
    GATES = auto()
    IGNORED = auto()
    """Taken without complaint, for scripts written for old releases."""


_NUMBER_RANGES: Final = {
    Kind.UINT: (0, 2**64 - 1),
    Kind.MILLISECONDS: (0, 2**64 - 1),
    Kind.INT: (-(2**63), 2**63 - 1),
}
UINT32_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of the server. `default` is text, as somebody would type it."""

    name: str
    kind: Kind
    default: str
    help: str
    group: str = ""
    choices: tuple[str, ...] = ()
    inert: str = ""
    """Why the flag changes nothing here; empty for a flag that does what it says."""
    deprecated: str = ""
    secret: bool = False
    """Its value never reaches a log line."""
    in_file: bool = True
    """Whether a configuration file may set it under its own name."""

    @property
    def field(self) -> str:
        """The name of its field in Config."""
        unit = {Kind.DURATION: "_seconds", Kind.MILLISECONDS: "_ms"}.get(self.kind, "")
        return self.name.replace("-", "_").replace(".", "_") + unit

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return "ETCD_" + self.name.replace("-", "_").upper()

    @property
    def is_boolean(self) -> bool:
        """Whether it may stand without a value."""
        return self.kind in (Kind.BOOL, Kind.IGNORED)


class FlagError(ValueError):
    """A value that a flag does not take: why, in Go's words."""


class UsageError(Exception):
    """A command line that cannot be read. etcd prints it with a usage text and exits with 2."""


@dataclass(slots=True)
class CommandLine:
    """A command line as read: values by flag name (parsed), those given explicitly, and the first word left over."""

    values: dict[str, Any]
    explicit: set[str] = field(default_factory=set)
    positional: str | None = None
    help: bool = False


def parse_value(flag: Flag, text: str, before: Any = None) -> Any:
    """The value that `text` gives the flag, whose value was `before`. Raises FlagError."""
    try:
        return _parse(flag, text, before)
    except (GoValueError, UrlError, GateError) as problem:
        raise FlagError(str(problem)) from None
    except DurationError:
        raise FlagError("parse error") from None


def _parse(flag: Flag, text: str, before: Any) -> Any:  # noqa: C901 - one line a kind
    match flag.kind:
        case Kind.STRING:
            return text
        case Kind.BOOL:
            return parse_bool(text)
        case Kind.UINT | Kind.MILLISECONDS | Kind.INT:
            return parse_int(text, *_NUMBER_RANGES[flag.kind])
        case Kind.UINT32:
            return _parse_uint32(text)
        case Kind.DURATION:
            return parse_duration(text)
        case Kind.URLS:
            return parse_urls(text) if text else (before or ())
        case Kind.ORIGINS:
            return _parse_origins(text, before or ())
        case Kind.WORDS:
            return tuple(text.split(",")) if text else ()
        case Kind.WORD_SET:
            return tuple(sorted(set(text.split(",")))) if text else ()
        case Kind.CHOICE:
            if text not in flag.choices:
                raise GoValueError("invalid value")
            return text
        case Kind.CHOICES:
            for each in text.split(","):
                if each not in flag.choices:
                    raise GoValueError(f"invalid value {quote(each)}")
            return text
        case Kind.GATES:
            return parse_gates(text, before or NONE_GIVEN)
        case Kind.IGNORED:
            return None


def _parse_uint32(text: str) -> int:
    try:
        return parse_int(text, 0, UINT32_MAX)
    except GoValueError as problem:
        reason = "invalid syntax" if str(problem) == "parse error" else str(problem)
        raise GoValueError(f"strconv.ParseUint: parsing {quote(text)}: {reason}") from None


def _parse_origins(text: str, before: tuple[str, ...]) -> tuple[str, ...]:
    if text == "*":
        return tuple(sorted({*before, "*"}))
    return tuple(str(url) for url in parse_urls(text))


def default_values(flags: Mapping[str, Flag]) -> dict[str, Any]:
    """Every flag's default, parsed."""
    return {flag.name: parse_value(flag, flag.default) for flag in flags.values() if flag.default or _takes_empty(flag)}


def _takes_empty(flag: Flag) -> bool:
    return flag.kind in (Kind.STRING, Kind.URLS, Kind.WORDS, Kind.WORD_SET, Kind.GATES)


def parse_command_line(argv: Sequence[str], flags: Mapping[str, Flag]) -> CommandLine:
    """Read `argv` (without the program's name) on top of the defaults. Raises UsageError."""
    line = CommandLine(default_values(flags))
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if len(word) < 2 or word[0] != "-":
            line.positional = word
            break
        if word == "--":
            line.positional = rest.pop() if rest else None
            break
        name, equals, value = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] in "-=" or word.startswith(("-=", "--=")):
            raise UsageError(f"bad flag syntax: {word}")
        flag = flags.get(name)
        if flag is None:
            if name in ("h", "help"):
                line.help = True
                return line
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals:
            if flag.is_boolean:
                value = "true"
            elif rest:
                value = rest.pop()
            else:
                raise UsageError(f"flag needs an argument: -{name}")
        set_value(line, flag, value)
    return line


def set_value(line: CommandLine, flag: Flag, text: str) -> None:
    """Take one flag in. Raises UsageError in Go's words."""
    try:
        line.values[flag.name] = parse_value(flag, text, line.values.get(flag.name))
    except FlagError as problem:
        shown = quote(text if not flag.secret else "...")
        if flag.kind is Kind.BOOL:
            raise UsageError(f"invalid boolean value {shown} for -{flag.name}: {problem}") from None
        raise UsageError(f"invalid value {shown} for flag -{flag.name}: {problem}") from None
    line.explicit.add(flag.name)
