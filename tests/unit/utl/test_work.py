"""What commands share: help with an example each, and progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import pytest

from etcdpy.utl import work
from etcdpy.utl.__main__ import etcdutl, run
from etcdpy.utl.work import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield words
        return
    for name, each in sorted(command.commands.items()):
        yield from leaves(each, (*words, name))


@pytest.mark.parametrize("words", list(leaves(etcdutl)), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert any(tool in text for tool in (f"etcdpyutl {' '.join(words)}", f"etcdpy {' '.join(words)}"))


def steps() -> Generator[int, None, str]:
    yield from (1_000_000, 2_000_000, 3_000_000)
    return "all"


def test_what_is_quick_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert Progress("reading", 3_000_000).run(steps()) == "all"
    assert capsys.readouterr().err == ""


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_LINE_SECONDS", 0)
    assert Progress("reading", 3_000_000).run(steps()) == "all"
    assert capsys.readouterr().err.splitlines()[-1] == "reading: 3.0 MB of 3.0 MB"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress("saving", 0)
    progress.show_of(1_000_000, 4_000_000)
    progress.end()
    shown = capsys.readouterr().err
    assert "saving" in shown
    assert "of 4.0 MB" not in shown, "no lines as well"
