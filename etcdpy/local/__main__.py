"""`python -m etcdpy.local`: one member on this machine with mutual TLS, for trying things out. `make up` runs it."""

from __future__ import annotations

import datetime
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etcdpy.commandline import Command, Exit, Failure, Group, run_tool
from etcdpy.local import ask, member, show
from etcdpy.local.certificates import ensure_certificates
from etcdpy.local.place import CLIENT_PORT_DEFAULT, PEER_PORT_DEFAULT, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

_directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".local"),
    help="Where certificates, data and log lie.  [default: .local]",
)


@click.group(cls=Group)
@click.pass_context
def local(ctx: click.Context) -> None:
    """A member on this machine."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@local.command("up", cls=Command, short_help="Run a member, and show how to talk to it")
@_directory_option
@click.option("--client-port", type=int, default=CLIENT_PORT_DEFAULT, show_default=True)
@click.option("--peer-port", type=int, default=PEER_PORT_DEFAULT, show_default=True)
@click.option("--detach", is_flag=True, help="Return once it is healthy, and leave it running; `down` stops it.")
def up(directory: Path, client_port: int, peer_port: int, detach: bool) -> None:
    """Run one member with mutual TLS on loopback until Ctrl-C. Certificates and data are kept for the next time."""
    place = Place(directory, client_port, peer_port)
    if (pid := member.running_pid(place)) is not None:
        raise Failure(Exit.ERROR, f"the member runs already, as process {pid}; stop it with: make down")
    member.check_ports(place)
    for name in ensure_certificates(place, datetime.datetime.now(datetime.UTC)):
        click.echo(f"made {place.pem(name)[0]}")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    process = member.start(place, detached=detach)
    keep = False
    try:
        with ask.asking(place) as asker:
            waited = member.wait_healthy(place, process, lambda: stopping.is_set() or asker.is_healthy())
            if not stopping.is_set():
                keep = detach
                click.echo(f"controller-0 serves {place.endpoint} (healthy after {waited:.1f} s; log: {place.log})\n")
                click.echo(show.guide(place))
            if not detach:
                watch = show.watch_live if sys.stdout.isatty() else show.watch_plainly
                watch(asker, process, stopping)
    finally:
        if not keep:
            ended_by_itself = process.poll() is not None
            status = member.stop_child(place, process)
    if keep:
        click.echo("It runs in the background; stop it with: make down")
    elif ended_by_itself and not stopping.is_set():
        raise Failure(Exit.ERROR, f"the member ended with status {status}:\n{member.log_tail(place)}")
    else:
        click.echo("stopped")


@local.command("down", cls=Command, short_help="Stop the member that `up` started")
@_directory_option
def down(directory: Path) -> None:
    """Stop the member, wherever `up` runs it. That there is none is no error."""
    pid = member.stop_running(Place(directory))
    click.echo("nothing runs" if pid is None else f"stopped process {pid}")


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code."""
    return run_tool(local, "etcdpy.local", words)


if __name__ == "__main__":
    sys.exit(run())
