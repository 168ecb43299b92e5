"""`etcdpyctl`: etcdctl's commands, as far as they are built. Output and exit codes are etcdctl's."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from etcdpy import API_VERSION, VERSION
from etcdpy.ctl.cluster import endpoint, member
from etcdpy.ctl.commandline import PROGRAM, Command, FlagError, Group
from etcdpy.ctl.exits import Exit, Failure
from etcdpy.ctl.kv import delete, get, put
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import CallFailed

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


def _complain(text: str) -> None:
    sys.stderr.write(f"Error: {text}\n")


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code."""
    try:
        etcdctl.main(args=None if words is None else list(words), prog_name="etcdpyctl", standalone_mode=False)
    except Failure as failure:
        if failure.text:
            _complain(failure.text)
        return failure.code
    except CallFailed as failed:
        _complain(failed.text)
        return Exit.ERROR
    except FlagError as error:
        _complain(error.message)
        sys.stderr.write(f"{error.ctx.get_help()}\n" if error.ctx else f"Run '{PROGRAM} --help' for usage.\n")
        return Exit.ERROR
    return Exit.OK


def main() -> int:
    """The console script. Signals and closed pipes end it as they end any small tool."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return run()


if __name__ == "__main__":
    sys.exit(main())
