"""click with the habits of etcd's command-line tools (cobra and pflag): global flags that any command takes at any
place, `--flag=false`, unique prefixes of command names, their texts for what is wrong, and their exit codes.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from etcdpy.duration import DurationError, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INT64: Final = range(-(1 << 63), 1 << 63)
_SHORT_WITH_EQUALS = re.compile(r"^(-[a-zA-Z])=")
_TYPED: Final = {"etcdctl": "etcdpyctl", "etcdutl": "etcdpyutl"}
SUGGESTION_EDITS_MAX: Final = 2
"""As in cobra."""
_HEX_DIGITS = re.compile(r"[0-9a-fA-F]+")
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)")


class Exit(IntEnum):
    """Exit codes by their use; scripts around etcd test them."""

    OK = 0
    ERROR = 1
    BAD_CONNECTION = 2
    BAD_INPUT = 3
    BAD_FEATURE = 4
    INTERRUPTED = 5
    BAD_ARGUMENTS = 128


class Failure(Exception):
    """Ends the command: `Error: <text>` on standard error, and the code. Without a text nothing is printed."""

    def __init__(self, code: int, text: str = "") -> None:
        """`code` is one of `Exit`, or a child's."""
        super().__init__(text)
        self.exit_code = code
        self.text = text


class FlagError(click.UsageError):
    """A command line that cannot be read; the text is pflag's."""


def parse_go_int(text: str, base: int) -> int:
    """An int64 as Go's strconv.ParseInt reads it; base 0 goes by the prefix. Raises ValueError with Go's text."""
    digits = {10: r"[+-]?[0-9]+", 16: r"[+-]?[0-9a-fA-F]+"}
    fits = _INTEGER.fullmatch(text) if base == 0 else re.fullmatch(digits[base], text)
    if not fits:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    octal = re.fullmatch(r"([+-]?)0([0-7]+)", text) if base == 0 else None
    value = int(f"{octal[1]}{octal[2]}", 8) if octal else int(text, base)
    if value not in _INT64:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_go_uint(text: str) -> int:
    """A uint64 as Go's strconv.ParseUint reads it, base by prefix. Raises ValueError with Go's text."""
    if text[:1] in ("+", "-") or not _INTEGER.fullmatch(text):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    octal = re.fullmatch(r"0([0-7]+)", text)
    value = int(octal[1], 8) if octal else int(text, 0)
    if value >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def parse_go_hex_uint(text: str) -> int:
    """A uint64 as Go's strconv.ParseUint reads it in base 16. Raises ValueError with Go's text."""
    if not _HEX_DIGITS.fullmatch(text):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    value = int(text, 16)
    if value >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


class _GoType(click.ParamType[Any]):
    """A parameter type whose complaint reads as pflag's."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, DurationError) as error:
            flag = ", ".join(sorted(param.opts, key=len)) if param else ""
            raise FlagError(f'invalid argument "{value}" for "{flag}" flag: {error}', ctx) from None


INT: Final = _GoType("int", lambda text: parse_go_int(text, 0))
UINT: Final = _GoType("uint", parse_go_uint)
DURATION: Final = _GoType("duration", parse_duration)
"""Nanoseconds."""


class GlobalOption(click.Option):
    """A flag that commands share with those above them."""


def global_option(*names: str, **attributes: Any) -> GlobalOption:
    """A flag that every command takes and `global_values` shows; hidden from the commands' own help."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        assert param.name is not None
        given = ctx.get_parameter_source(param.name)
        if given in (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.DEFAULT_MAP):
            values = global_values(ctx)
            # A repeated list grows, wherever its parts stand; of anything else the last one wins.
            values[param.name] = (*values.get(param.name, ()), *value) if param.multiple else value

    return GlobalOption(names, expose_value=False, hidden=True, callback=keep, **attributes)


def global_values(ctx: click.Context) -> dict[str, Any]:
    """The global flags that were given so far, on any level of the command line."""
    values: dict[str, Any] = ctx.meta.setdefault("etcdpy.global", {})
    return values


def parse_go_bool(text: str) -> bool:
    """A bool as Go's strconv.ParseBool reads it. Raises ValueError with Go's text."""
    if text not in _TRUE and text not in _FALSE:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _translate(command: click.Command, ctx: click.Context, words: list[str]) -> list[str]:
    """From Go's way to write flags to click's: `--flag=true`, `--flag=false` and `-w=json` become what click knows."""
    flags = {name: param for param in command.params if getattr(param, "is_flag", False) for name in param.opts}
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    for word in words[:end]:
        name, equals, value = word.partition("=")
        if not equals or name not in flags:
            kept.append(_SHORT_WITH_EQUALS.sub(r"\1", word))
            continue
        try:
            if parse_go_bool(value):
                kept.append(name)
            else:
                ctx.default_map = {**(ctx.default_map or {}), flags[name].name or "": False}
        except ValueError as error:
            raise FlagError(f'invalid argument "{value}" for "{name}" flag: {error}', ctx) from None
    return kept + words[end:]


def _go_text(error: click.UsageError, words: Sequence[str]) -> str:
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        return f"unknown flag: {name}" if name.startswith("--") else f"unknown shorthand flag: {_within(name, words)}"
    if isinstance(error, click.BadOptionUsage) and "requires an argument" in error.message:
        name = error.option_name
        return f"flag needs an argument: {name if name.startswith('--') else _within(name, words)}"
    return error.message


def _within(short: str, words: Sequence[str]) -> str:
    """A shorthand flag and the word that it stands in, where several may stand together."""
    letter = short[1:]
    word = next((each for each in words if each[:1] == "-" and each[1:2] != "-" and letter in each), short)
    return f"'{letter}' in {word}"


def _resembling(word: str, names: Iterable[str]) -> list[str]:
    """The names that cobra suggests for a word: two edits away at the most."""
    return [name for name in names if _distance(word.lower(), name.lower()) <= SUGGESTION_EDITS_MAX]


def _distance(one: str, other: str) -> int:
    """Levenshtein's: the fewest letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for count, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], count
        for place, against in enumerate(other, 1):
            diagonal, row[place] = row[place], min(diagonal + (letter != against), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _parse(command: click.Command, ctx: click.Context, words: list[str], parse: Callable[..., list[str]]) -> list[str]:
    try:
        return parse(ctx, _translate(command, ctx, words))
    except FlagError:
        raise
    except click.UsageError as error:
        raise FlagError(_go_text(error, words), ctx) from None


class _Typed(click.Command):
    """Shows in its usage what is typed, where messages bear the name of etcd's own tool."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the line."""
        name, space, words = ctx.command_path.partition(" ")
        formatter.write_usage(f"{_TYPED.get(name, name)}{space}{words}", " ".join(self.collect_usage_pieces(ctx)))


class Command(_Typed):
    """A command; `globals_` makes a fresh list of the global flags."""

    def __init__(self, *args: Any, globals_: Callable[[], list[click.Option]] = list, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.params = [*self.params, *globals_()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line by Go's rules."""
        return _parse(self, ctx, args, super().parse_args)


def without_globals(command: click.Command) -> Command:
    """The command with its own flags alone, for a line that is read within a run."""
    own = [each for each in command.params if not isinstance(each, GlobalOption)]
    return Command(command.name, params=own)


class Group(_Typed, click.Group):
    """Commands under one name."""

    def __init__(self, *args: Any, globals_: Callable[[], list[click.Option]] = list, **extra: Any) -> None:
        super().__init__(*args, **{"invoke_without_command": True, **extra})
        self.no_args_is_help = False
        self.params = [*self.params, *globals_()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line by Go's rules."""
        return _parse(self, ctx, args, super().parse_args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or the only one that begins so."""
        names = self.names()
        found = [name for name in names if name.startswith(cmd_name)] if cmd_name else []
        if cmd_name in names:
            return self.command_named(cmd_name)
        return self.command_named(found[0]) if len(found) == 1 else None

    def names(self) -> Collection[str]:
        """Of the commands in it."""
        return self.commands

    def command_named(self, name: str) -> click.Command:
        """One of them."""
        return self.commands[name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run. An unknown one is an error at the top; below it, the group's help, as in cobra."""
        command = self.get_command(ctx, args[0])
        if command is not None:
            return command.name, command, args[1:]
        if ctx.parent is None:
            import json  # no command that is known needs it, and its start counts

            text = f'unknown command {json.dumps(args[0], ensure_ascii=False)} for "{ctx.info_name}"'
            similar = "".join(f"\t{name}\n" for name in _resembling(args[0], self.names()))
            raise FlagError(f"{text}\n\nDid you mean this?\n{similar}" if similar else text)
        click.echo(self.get_help(ctx))
        raise click.exceptions.Exit(0)


class LazyGroup(Group):
    """Commands that are imported when they are asked for: each costs a millisecond or two, and one is enough to run."""

    def __init__(self, *args: Any, places: Mapping[str, str], **extra: Any) -> None:
        """`places`: by the names of the commands, `package.module:attribute`."""
        super().__init__(*args, **extra)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, for help."""
        return sorted(self._places)

    def names(self) -> Collection[str]:
        """Of the commands in it."""
        return self._places

    def command_named(self, name: str) -> click.Command:
        """One of them."""
        if name not in self.commands:
            module, _, attribute = self._places[name].partition(":")
            self.add_command(getattr(importlib.import_module(module), attribute), name)
        return self.commands[name]


def run_tool(tool: Group, name: str, words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's) and return the exit code; `name` is the tool's in messages."""
    try:
        tool.main(args=None if words is None else list(words), prog_name=name, standalone_mode=False)
    except Failure as failure:
        if failure.text:
            sys.stderr.write(f"Error: {failure.text}\n")
        return failure.exit_code
    except FlagError as error:
        usage = error.ctx.get_help() if error.ctx else f"Run '{name} --help' for usage."
        sys.stderr.write(f"Error: {error.message}\n{usage}\n")
        return Exit.ERROR
    return Exit.OK


def leave(code: int) -> NoReturn:
    """End the process at once: to take apart what grpcio and protobuf hold takes as long as a get."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_as_small_tools_do() -> None:
    """Let an interrupt and a closed pipe end the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
