"""What commands share: help with an example each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from etcdpy.utl.__main__ import etcdutl, run

if TYPE_CHECKING:
    from collections.abc import Iterator


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
