"""`version`, `options`, `help`, `completion`."""

from __future__ import annotations

import click

from etcdpy.commandline import Command
from etcdpy.completion import TAKES_ALL, completion_command, help_command, version_command
from etcdpy.ctl.options import global_options, option_lines


@click.command(
    "options",
    cls=Command,
    globals_=global_options,
    context_settings=TAKES_ALL,
    short_help="Lists the flags of every command",
)
def options() -> None:
    """List the flags that every command takes; each can also be set as ETCDCTL_<FLAG>.

    \b
    Examples:
      etcdpyctl options
      ETCDCTL_ENDPOINTS=https://10.0.0.1:2379 etcdpyctl member list
    """
    click.echo("\n".join(["The following options can be passed to any command:", "", *option_lines(global_options())]))


version = version_command("etcdpyctl", "etcdctl", global_options)
completion = completion_command("etcdpyctl", "etcdctl", global_options)
help_ = help_command("etcdpyctl help lease grant", global_options)
