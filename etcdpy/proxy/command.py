"""`etcdpy gateway start` and `etcdpy grpc-proxy start`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from etcdpy.commandline import Command, Group, run_tool
from etcdpy.proxy.flags import GATEWAY, options

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def main(words: Sequence[str]) -> int:
    """Run a command line that begins with `gateway` or `grpc-proxy`; returns the exit code."""
    return run_tool(_GROUPS[words[0]], f"etcdpy {words[0]}", words[1:])


@click.group(cls=Group, context_settings=_HELP_NAMES)
@click.pass_context
def gateway(ctx: click.Context) -> None:
    """Pass TCP connections on to the members of a cluster."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _start_gateway(**values: Any) -> None:
    """Pass TCP connections on to the members of a cluster.

    \b
    Example:
      etcdpy gateway start --endpoints=10.0.1.1:2379,10.0.1.2:2379 --listen-addr=127.0.0.1:23790
    """
    from etcdpy.proxy.run_gateway import GatewayOptions, run

    sys.exit(run(GatewayOptions(**values)))


gateway.add_command(
    Command(
        "start",
        callback=_start_gateway,
        params=[*options(GATEWAY)],
        help=_start_gateway.__doc__,
        short_help="start the gateway",
        context_settings=_HELP_NAMES,
    )
)

_GROUPS = {"gateway": gateway}
