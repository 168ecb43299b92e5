"""`etcdpy gateway start` and `etcdpy grpc-proxy start`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from etcdpy.commandline import Command, Group, run_tool
from etcdpy.proxy.flags import GATEWAY, GRPC_PROXY, options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.proxy.flags import Flag

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


@click.group(cls=Group, context_settings=_HELP_NAMES)
@click.pass_context
def grpc_proxy(ctx: click.Context) -> None:
    """Serve etcd's API from another place, on behalf of many clients."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _start_grpc_proxy(**values: Any) -> None:
    """Serve etcd's API from another place, on behalf of many clients: watchers of one range, and renewals of leases,
    become one for the cluster.

    \b
    Example:
      etcdpy grpc-proxy start --endpoints=10.0.1.1:2379,10.0.1.2:2379 --listen-addr=127.0.0.1:23790
    """
    from etcdpy.proxy.run_proxy import ProxyOptions, run

    sys.exit(run(ProxyOptions(**values)))


def _start(callback: Callable[..., None], flags: Sequence[Flag], short_help: str) -> Command:
    return Command(
        "start",
        callback=callback,
        params=[*options(flags)],
        help=callback.__doc__,
        short_help=short_help,
        context_settings=_HELP_NAMES,
    )


gateway.add_command(_start(_start_gateway, GATEWAY, "start the gateway"))
grpc_proxy.add_command(_start(_start_grpc_proxy, GRPC_PROXY, "start the grpc proxy"))

_GROUPS = {"gateway": gateway, "grpc-proxy": grpc_proxy}
