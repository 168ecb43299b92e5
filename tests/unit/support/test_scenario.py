"""The scenario runner itself: it must notice a difference, and rewrite only what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.errors import Compacted
from tests.support.scenario import Stanza, parse, render, run_scenario

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """# A claim.

echo a=1 bare 'c=two words'
first
second
----
a=1 bare= c=two words | first second

# Between.

fail
----
error: etcdserver: mvcc: required revision has been compacted

silent
----
"""


def echo(command: str, arguments: dict[str, str], body: list[str]) -> str:
    return " ".join(f"{name}={value}" for name, value in arguments.items()) + " | " + " ".join(body)


def fail(command: str, arguments: dict[str, str], body: list[str]) -> str:
    raise Compacted


def silent(command: str, arguments: dict[str, str], body: list[str]) -> str:
    return ""


HANDLERS = {"echo": echo, "fail": fail, "silent": silent}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "claim.txt"
    path.write_text(text)
    return path


def test_what_is_parsed_is_rendered_again() -> None:
    assert render(parse(TEXT)) == TEXT


def test_line_numbers_point_at_the_command() -> None:
    assert [part.line_number for part in parse(TEXT) if isinstance(part, Stanza)] == [3, 11, 15]


def test_a_right_file_passes_and_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    run_scenario(path, HANDLERS)
    run_scenario(path, HANDLERS, rewrite=True)
    assert path.read_text() == TEXT


def test_a_difference_fails_and_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"claim.txt:3 `echo"):
        run_scenario(write(tmp_path, TEXT.replace("| first", "| wrong")), HANDLERS)


def test_rewrite_puts_the_output_in(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace("| first", "| wrong"))
    run_scenario(path, HANDLERS, rewrite=True)
    assert path.read_text() == TEXT


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("echo\n----\n", "must open with a comment"),
        ("# x\n\nunknown\n----\n", "no handler for `unknown`"),
        ("# x\n\necho\n", "no ---- after `echo`"),
        ("# x\n\n----\nout\n", "no command before"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=complaint):
        run_scenario(write(tmp_path, text), HANDLERS)
