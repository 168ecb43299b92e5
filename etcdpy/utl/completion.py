"""`etcdpyutl completion`: what a shell needs to complete command lines."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from etcdpy.commandline import Command, FlagError
from etcdpy.utl.options import global_options

PROGRAM: Final = "etcdpyutl"
COMPLETION_VARIABLE: Final = "_ETCDUTL_COMPLETE"
"""Where click looks; it goes by the name that the tool has in messages."""
SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Command,
    globals_=global_options,
    short_help="Generates completion script: bash, zsh or fish",
)
@click.argument("shell", nargs=-1)
@click.pass_context
def completion(ctx: click.Context, shell: tuple[str, ...]) -> None:
    """Print the script that makes a shell complete etcdpyutl's commands and flags.

    \b
    Example:
      source <(etcdpyutl completion bash)
    """
    if len(shell) != 1:
        raise FlagError(f"accepts 1 arg(s), received {len(shell)}", ctx)
    found = get_completion_class(shell[0]) if shell[0] in SHELLS else None
    if found is None:
        raise FlagError(f'invalid argument "{shell[0]}" for "etcdutl completion"', ctx)
    root = ctx.find_root().command
    # click asks the shell for its version before it prints; the script works wherever it is sourced.
    script = found(root, {}, PROGRAM, COMPLETION_VARIABLE)
    click.echo(script.source_template % script.source_vars())
