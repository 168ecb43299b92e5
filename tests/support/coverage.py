"""Every command and flag of a tool of etcd's beside ours, with the tests that run it, as a page.

`python -m tests.support.coverage etcdutl > docs/etcdutl.md`. What the tool has is read from its own help, what ours has
from its commands. A test counts where one line of it holds the words of a command and the flag.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import GlobalOption
from etcdpy.ctl.__main__ import etcdctl
from etcdpy.utl.__main__ import etcdutl
from tests.support.reference import build_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
TOOLS: Final[dict[str, click.Group]] = {"etcdctl": etcdctl, "etcdutl": etcdutl}
_SOURCES: Final = {
    "etcdctl": ("interop/transcripts/*.txt", "interop/test_etcdpyctl*.py", "interop/test_running_tools.py"),
    "etcdutl": (
        "interop/test_etcdutl.py",
        "interop/test_backup*.py",
        "interop/test_migrate.py",
        "processes/test_encryption.py",
        "unit/utl/*.py",
    ),
}
"""Where the tests of a tool of ours are."""

_NOTES: Final = {
    "etcdctl": (
        "",
        "Where `etcdpyctl` differs on purpose:",
        "",
        "- Help texts are its own, and every command's has an example.",
        "- `lease` can be compared in a transaction, with the id in hexadecimal; etcdctl crashes on it.",
        "- `make-mirror --rev` keeps the prefix of the keys; etcdctl drops it.",
        "- A variable with a value that its flag would refuse is refused too; etcdctl passes over it. One that is",
        "  not known is named in a warning, without its value.",
        "- `--debug` shows which secrets are set, and not what they are.",
        "- `txn`, `lease timetolive`, `lease list` and `lease keep-alive --once` end after --command-timeout; in",
        "  etcdctl they have no end.",
    ),
}
"""What is not the same, behind the tables."""

_SHORT: Final = {"--write-out": "-w"}

_SECTION = re.compile(r"^\S.*commands?:?$", re.IGNORECASE)
_COMMAND = re.compile(r"^  ([a-z][a-z-]*) +\S")
_FLAG = re.compile(r"^ +(?:-\w, )?(--[a-z][a-z-]*)")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that has none below it."""

    words: tuple[str, ...]
    flags: frozenset[str]
    """Its own; --help and what every command takes are not among them."""


@cache
def _help(tool: str, *words: str) -> list[str]:
    command = [str(build_reference(tool)), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()


def real_commands(tool: str, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Those of the real tool, as its help lists them."""
    named, flags, section = [], set(), False
    for line in _help(tool, *words, "--help"):
        section = bool(_SECTION.match(line)) if line and line[0] != " " else section
        if section and (found := _COMMAND.match(line)):
            named.append(found[1])
        elif found := _FLAG.match(line):
            flags.add(found[1])
    if not named:
        yield Command(words, frozenset(flags - {"--help"} - real_globals(tool)))
    for name in named:
        yield from real_commands(tool, (*words, name))


def real_globals(tool: str) -> set[str]:
    """The flags that every command of the real tool takes."""
    lines = _help(tool, "options") if tool == "etcdctl" else _help(tool, "--help")
    return {found[1] for line in lines if (found := _FLAG.match(line))} - {"--help"}


def our_commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Those of ours."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from our_commands(below, (*words, name))
        return
    shown = (each for each in command.params if isinstance(each, click.Option) and not each.hidden)
    yield Command(words, frozenset(name for each in shown for name in each.opts if name.startswith("--")))


def our_globals(tool: click.Group) -> set[str]:
    """The flags that every command of ours takes."""
    return {name for each in tool.params if isinstance(each, GlobalOption) for name in each.opts if name[:2] == "--"}


@cache
def _test_lines(tool: str) -> list[tuple[str, str]]:
    """File name and text of every line of a tool's tests and their scripts."""
    paths = [path for pattern in _SOURCES[tool] for path in sorted(ROOT.glob(f"tests/{pattern}"))]
    return [(path.name, line) for path in paths for line in path.read_text().splitlines()]


def run_by(tool: str, words: tuple[str, ...], flag: str = "") -> list[str]:
    """The files with a line that runs the command, with that flag if one is named."""
    command = re.compile(r"(?<![\w-])" + r"[\s\",]+".join(map(re.escape, words)) + r"(?![\w-])")
    wanted = re.compile(re.escape(flag) + r"(?![\w-])") if flag else command
    lines = _test_lines(tool)
    return list(dict.fromkeys(name for name, line in lines if command.search(line) and wanted.search(line)))


def gaps(tool: str) -> list[str]:
    """What the real tool has and ours has not, or what no test runs."""
    ours = {each.words: each.flags for each in our_commands(TOOLS[tool])}
    found = []
    for command in real_commands(tool):
        name = " ".join(command.words)
        if command.words not in ours:
            found.append(f"{name}: missing")
            continue
        found += [f"{name} {flag}: missing" for flag in sorted(command.flags - ours[command.words])]
        tests = {flag: run_by(tool, command.words, flag) for flag in sorted({"", *command.flags})}
        found += [f"{name} {flag}: no test" for flag in tests if not tests[flag]]
    found += [f"{flag}: missing" for flag in sorted(real_globals(tool) - our_globals(TOOLS[tool]))]
    untested = [flag for flag in sorted(real_globals(tool)) if not run_by(tool, (), flag)]
    return found + [f"{flag}: no test" for flag in untested if not run_by(tool, (), _SHORT.get(flag, flag))]


def render(tool: str) -> str:
    """The page."""
    real = {each.words: each.flags for each in real_commands(tool)}
    ours = {each.words: each.flags for each in our_commands(TOOLS[tool])}
    own = f"etcdpy{tool.removeprefix('etcd')}"
    globals_, real_ones = our_globals(TOOLS[tool]), real_globals(tool)
    lines = [
        f"# `{own}` beside `{tool}`",
        "",
        f"Made by `python -m tests.support.coverage {tool}` from the help of {tool} {_version(tool)} and from the",
        f"commands of `{own}`; a test keeps it fresh, and wants a test for each command and each flag. Most of these",
        "tests run both tools, and compare output and exit status.",
        "",
        f"Every command takes {_listed(real_ones & globals_)}" + _beyond(globals_ - real_ones) + ".",
        "",
        f"| command of {tool} | its flags | beyond them | run by |",
        "| --- | --- | --- | --- |",
    ]
    for words, flags in sorted(real.items()):
        more = ours.get(words, frozenset()) - flags
        lines.append(f"| `{' '.join(words)}` | {_listed(flags)} | {_listed(more)} | {_files(tool, words)} |")
    lines += ["", f"Commands of `{own}` alone:", "", "| command | flags | run by |", "| --- | --- | --- |"]
    for words, flags in sorted(ours.items()):
        if words not in real:
            lines.append(f"| `{' '.join(words)}` | {_listed(flags)} | {_files(tool, words)} |")
    return "\n".join([*lines, *_NOTES.get(tool, ())]) + "\n"


def _version(tool: str) -> str:
    return _help(tool, "version")[0].split()[-1]


def _listed(flags: set[str] | frozenset[str]) -> str:
    return ", ".join(f"`{flag}`" for flag in sorted(flags))


def _beyond(flags: set[str]) -> str:
    return f", and beyond {_listed(flags)}" if flags else ""


def _files(tool: str, words: tuple[str, ...]) -> str:
    return ", ".join(run_by(tool, words))


if __name__ == "__main__":
    sys.stdout.write(render(sys.argv[1]))
