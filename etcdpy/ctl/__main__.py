"""`etcdpyctl`: etcdctl's commands, as far as they are built. Output and exit codes are etcdctl's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from etcdpy import API_VERSION, VERSION
from etcdpy.commandline import Command, Group, end_as_small_tools_do, run_tool
from etcdpy.completion import completion_command, help_command
from etcdpy.ctl.endpoints import defrag, endpoint
from etcdpy.ctl.kv import compaction, delete, get, put
from etcdpy.ctl.lease import lease
from etcdpy.ctl.lock import elect, lock
from etcdpy.ctl.maintenance import alarm, downgrade, move_leader
from etcdpy.ctl.members import member
from etcdpy.ctl.mirror import make_mirror
from etcdpy.ctl.options import global_options, option_lines
from etcdpy.ctl.roles import role
from etcdpy.ctl.snapshot import snapshot
from etcdpy.ctl.txn import txn
from etcdpy.ctl.users import auth, user
from etcdpy.ctl.watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(cls=Group, globals_=global_options, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def etcdctl(ctx: click.Context) -> None:
    """A command-line client for etcd and etcdpy. `etcdpyctl options` lists the flags that every command takes.

    \b
    Examples:
      etcdpyctl put greeting hello
      etcdpyctl get --prefix gr
      etcdpyctl --endpoints=https://10.0.0.1:2379 --cacert=ca.pem endpoint health --cluster
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.command("version", cls=Command, globals_=global_options, short_help="Prints the version of etcdctl")
def version() -> None:
    """Print the etcd release whose protocols are spoken, and the API version.

    \b
    Example:
      etcdpyctl version
    """
    click.echo(f"etcdctl version: {VERSION}\nAPI version: {API_VERSION}")


@click.command("options", cls=Command, globals_=global_options, short_help="Lists the flags of every command")
def options() -> None:
    """List the flags that every command takes; each can also be set as ETCDCTL_<FLAG>.

    \b
    Examples:
      etcdpyctl options
      ETCDCTL_ENDPOINTS=https://10.0.0.1:2379 etcdpyctl member list
    """
    click.echo("\n".join(option_lines(global_options())))


_completion = completion_command("etcdpyctl", "etcdctl", global_options)
_help = help_command("etcdpyctl help lease grant", global_options)
for _command in (  # in the order in which etcdctl suggests them
    get, put, delete, txn, compaction, alarm, defrag, endpoint, move_leader, watch, version, lease, member, snapshot,
    make_mirror, lock, elect, auth, user, role, _completion, downgrade, options, _help,
):  # fmt: skip
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
