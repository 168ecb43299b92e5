"""Runs scenario files: text that says what is done and what is seen.

A file is comments (`#`) and stanzas, separated by blank lines. A stanza is a command line, further lines that belong to
it (its body), a line `----`, and the output that the command must give:

    put key=a value=1 lease=7
    ----
    revision 2

    txn
    if version(a) = 0
    then put a 2
    ----
    succeeded: false

Words of a command line are split as a shell does; `name=value` gives an argument, a bare word an argument that is
empty. Each test module gives one handler per command; `pytest --rewrite` writes what the handlers return into the file,
so that a change of behaviour is reviewed as a difference of text. Commit only the differences that you can explain.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etcdpy.errors import EtcdError

if TYPE_CHECKING:
    from pathlib import Path

Handler = Callable[[str, dict[str, str], list[str]], str]
"""Gets the command's name, its arguments and its body; returns the output, `""` for none."""

SEPARATOR = "----"


@dataclass
class Stanza:
    """One command with the output that its file expects."""

    line_number: int
    command_lines: list[str]
    expected: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        return shlex.split(self.command_lines[0])[0]

    @property
    def arguments(self) -> dict[str, str]:
        words = shlex.split(self.command_lines[0])[1:]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def body(self) -> list[str]:
        return self.command_lines[1:]


def parse(text: str) -> list[Stanza | str]:
    """The file's parts in order: stanzas, and comment blocks as text. Raises ValueError for a stanza without `----`."""
    parts: list[Stanza | str] = []
    block: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip():
            block.append(line.rstrip())
            continue
        if block:
            parts.append(_part(block, number - len(block)))
            block = []
    return parts


def _part(block: list[str], line_number: int) -> Stanza | str:
    if all(line.startswith("#") for line in block):
        return "\n".join(block)
    if SEPARATOR not in block:
        raise ValueError(f"line {line_number}: no {SEPARATOR} after `{block[0]}`")
    cut = block.index(SEPARATOR)
    if cut == 0:
        raise ValueError(f"line {line_number}: no command before {SEPARATOR}")
    return Stanza(line_number, block[:cut], block[cut + 1 :])


def render(parts: list[Stanza | str]) -> str:
    """The file's text again, stanzas with the output that they hold now."""
    blocks = (
        part if isinstance(part, str) else "\n".join([*part.command_lines, SEPARATOR, *part.expected]) for part in parts
    )
    return "\n\n".join(blocks) + "\n"


def perform(stanza: Stanza, handlers: Mapping[str, Handler]) -> list[str]:
    """What the stanza's handler says, line by line. An EtcdError is an output like any other: `error: <its text>`."""
    handler = handlers.get(stanza.command)
    assert handler is not None, f"no handler for `{stanza.command}`; there are: {', '.join(sorted(handlers))}"
    try:
        output = handler(stanza.command, stanza.arguments, stanza.body)
    except EtcdError as error:
        output = f"error: {error.message}"
    lines = [line.rstrip() for line in output.splitlines()]
    assert all(lines), f"`{stanza.command_lines[0]}` gave an empty line, which would end its stanza"
    return lines


def run_scenario(path: Path, handlers: Mapping[str, Handler], *, rewrite: bool = False) -> None:
    """Plays a file. Fails where the first output differs; `rewrite` puts the new outputs into the file."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), f"{path.name} must open with a comment: the claim, and the bug or source behind it"
    parts = parse(text)
    for part in parts:
        if isinstance(part, str):
            continue
        seen = perform(part, handlers)
        if rewrite:
            part.expected = seen
        else:
            where = f"{path.name}:{part.line_number} `{part.command_lines[0]}`"
            assert "\n".join(seen) == "\n".join(part.expected), where
    if rewrite and render(parts) != text:
        path.write_text(render(parts), encoding="utf-8")


def scenario_files(directory: Path) -> list[Path]:
    """The scenario files of a directory, sorted. Fails when there are none, so that a moved directory is noticed."""
    files = sorted(directory.glob("*.txt"))
    assert files, f"no scenario files in {directory}"
    return files
