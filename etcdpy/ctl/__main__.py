"""`etcdpyctl`: etcdctl's commands. Output and exit codes are etcdctl's."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import LazyGroup, end_as_small_tools_do, leave, run_tool
from etcdpy.ctl.options import global_options

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLACES: Final = {
    "get": "kv:get",
    "put": "kv:put",
    "del": "kv:delete",
    "txn": "txn:txn",
    "compaction": "kv:compaction",
    "alarm": "maintenance:alarm",
    "defrag": "endpoints:defrag",
    "endpoint": "endpoints:endpoint",
    "move-leader": "maintenance:move_leader",
    "watch": "watch:watch",
    "version": "about:version",
    "lease": "lease:lease",
    "member": "members:member",
    "snapshot": "snapshot:snapshot",
    "make-mirror": "mirror:make_mirror",
    "lock": "lock:lock",
    "elect": "lock:elect",
    "auth": "users:auth",
    "user": "users:user",
    "role": "roles:role",
    "check": "check:check",
    "completion": "about:completion",
    "downgrade": "maintenance:downgrade",
    "options": "about:options",
    "help": "about:help_",
}
"""The order is that in which etcdctl suggests commands."""

_GARBAGE_THRESHOLD: Final = 50_000
"""Objects between two looks for garbage: nearly all that a start makes is there to stay, and a look costs ten times."""


@click.group(
    cls=LazyGroup,
    places={name: f"etcdpy.ctl.{place}" for name, place in _PLACES.items()},
    globals_=global_options,
    context_settings={"help_option_names": ["-h", "--help"]},
)
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


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code. Messages bear etcdctl's name."""
    return run_tool(etcdctl, "etcdctl", words)


def main() -> None:
    """The console script."""
    gc.set_threshold(_GARBAGE_THRESHOLD)
    end_as_small_tools_do()
    leave(run())


if __name__ == "__main__":
    main()
