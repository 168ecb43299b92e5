from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from etcdpy.commandline import Group
from etcdpy.ctl.__main__ import etcdctl, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(command: click.Command, path: str = "etcdpyctl") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, Group):
        # What is passed on to etcdpyutl has no help of its own.
        if command.context_settings.get("help_option_names") != []:
            yield path, command
    else:
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(etcdctl)))
def test_every_command_shows_an_example_of_itself(path: str, command: click.Command) -> None:
    _, _, example = (command.help or "").partition("Example")
    assert path.split()[0] in example
    assert path.split()[-1] in example
    assert command.short_help
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


def test_usage_names_the_program_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lease", "grant", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: etcdpyctl lease grant ")
    assert run(["get", "--bogus"]) == 1
    assert capsys.readouterr().err.startswith("Error: unknown flag: --bogus\nUsage: etcdpyctl get ")
