"""`etcdpyctl`: etcdctl's commands, as far as they are built. Output and exit codes are etcdctl's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from etcdpy import API_VERSION, VERSION
from etcdpy.commandline import Command, Group, end_as_small_tools_do, run_tool
from etcdpy.ctl.cluster import endpoint, member
from etcdpy.ctl.kv import delete, get, put
from etcdpy.ctl.options import global_options

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(cls=Group, globals_=global_options, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def etcdctl(ctx: click.Context) -> None:
    """A command-line client for etcd and etcdpy. `etcdpyctl options` lists the flags that every command takes."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@etcdctl.command("version", cls=Command, globals_=global_options, short_help="Prints the version of etcdctl")
def version() -> None:
    """Print the etcd release whose protocols are spoken, and the API version."""
    click.echo(f"etcdctl version: {VERSION}\nAPI version: {API_VERSION}")


@etcdctl.command("options", cls=Command, globals_=global_options, short_help="Lists the flags of every command")
def options() -> None:
    """List the flags that every command takes; each can also be set as ETCDCTL_<FLAG>."""
    width = max(len(", ".join(option.opts)) for option in global_options())
    for option in global_options():
        click.echo(f"  {', '.join(option.opts):<{width}}  {option.help}")


for _command in (put, get, delete, endpoint, member):
    etcdctl.add_command(_command)


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code. Messages bear etcdctl's name."""
    return run_tool(etcdctl, "etcdctl", words)


def main() -> int:
    """The console script."""
    end_as_small_tools_do()
    return run()


if __name__ == "__main__":
    sys.exit(main())
