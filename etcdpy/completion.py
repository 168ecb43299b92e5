"""`completion`, `help` and `version`: what the tools have alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import get_completion_class

from etcdpy import API_VERSION, VERSION
from etcdpy.commandline import Command, FlagError, Group

if TYPE_CHECKING:
    from collections.abc import Callable

TAKES_ALL: Final = {"allow_extra_args": True}
"""Of commands that have no use for words, and do not refuse any."""
SHELLS: Final = ("bash", "zsh", "fish", "powershell")

_POWERSHELL: Final = """\
Register-ArgumentCompleter -Native -CommandName %(program)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { $_.Extent.Text })
    $env:COMP_CWORD = if ($wordToComplete) { $words.Count - 1 } else { $words.Count }
    $env:COMP_WORDS = $words -join ' '
    $env:%(variable)s = 'bash_complete'
    try {
        %(program)s | ForEach-Object {
            $kind, $value = $_ -split ',', 2
            if ($kind -eq 'plain') {
                [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $value)
            }
        }
    } finally {
        Remove-Item Env:COMP_CWORD, Env:COMP_WORDS, Env:%(variable)s
    }
}
"""
"""It asks as the script for bash does; files PowerShell completes by itself where nothing is offered."""


def version_command(program: str, name: str, globals_: Callable[[], list[click.Option]]) -> click.Command:
    """The command that prints what `program`, which bears another `name` in its messages, is."""

    def show() -> None:
        click.echo(f"{name} version: {VERSION}\nAPI version: {API_VERSION}")

    show.__doc__ = f"""Print the etcd release whose protocols are spoken, and the API version.

    \b
    Example:
      {program} version
    """
    made = click.command(
        "version",
        cls=Command,
        globals_=globals_,
        context_settings=TAKES_ALL,
        short_help=f"Prints the version of {name}",
    )
    return made(show)


def completion_command(program: str, name: str, globals_: Callable[[], list[click.Option]]) -> click.Command:
    """The command for `program`, which bears another `name` in its messages: click's variable goes by that."""
    variable = f"_{name.upper()}_COMPLETE"

    def completion(ctx: click.Context, shell: tuple[str, ...]) -> None:
        if len(shell) != 1:
            raise FlagError(f"accepts 1 arg(s), received {len(shell)}", ctx)
        if shell[0] not in SHELLS:
            raise FlagError(f'invalid argument "{shell[0]}" for "{name} completion"', ctx)
        click.echo(_script(ctx.find_root().command, shell[0], program, variable))

    completion.__doc__ = f"""Print the script that makes a shell complete {program}'s commands and flags.

    \b
    Example:
      source <({program} completion bash)
    """
    made = click.command(
        "completion",
        cls=Command,
        globals_=globals_,
        short_help="Generates completion script: bash, zsh, fish or powershell",
    )
    return made(click.argument("shell", nargs=-1)(click.pass_context(completion)))


def _script(root: click.Command, shell: str, program: str, variable: str) -> str:
    found = get_completion_class(shell)
    if found is None:
        return _POWERSHELL % {"program": program, "variable": variable}
    # click asks the shell for its version before it prints; the script works wherever it is sourced.
    script = found(root, {}, program, variable)
    return script.source_template % script.source_vars()


def help_command(example: str, globals_: Callable[[], list[click.Option]]) -> click.Command:
    """The command that shows the help of another; `example` is its example."""

    def show(ctx: click.Context, words: tuple[str, ...]) -> None:
        root = ctx.find_root()
        place, command = root, root.command
        for word in words:
            found = command.get_command(place, word) if isinstance(command, Group) else None
            if found is None and command is root.command:
                click.echo(f"Unknown help topic [`{'` `'.join(words)}`]\n{root.get_usage()}", err=True)
                return
            if found is None:
                break
            place, command = click.Context(found, info_name=found.name, parent=place), found
        click.echo(command.get_help(place))

    show.__doc__ = f"""Show the help of a command.

    \b
    Example:
      {example}
    """
    made = click.command("help", cls=Command, globals_=globals_, short_help="Shows what a command is for")
    return made(click.argument("words", nargs=-1, metavar="[command]")(click.pass_context(show)))
