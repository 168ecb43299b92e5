"""`python -m etcdpy.local`: three members on this machine with mutual TLS, for trying things out. `make up` runs it."""

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
from etcdpy.local.place import CLIENT_PORT_DEFAULT, PEER_PORT_DEFAULT, PORT_STEP, Place

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
    """A cluster on this machine."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@local.command("up", cls=Command, short_help="Run three members, and show how to talk to them")
@_directory_option
@click.option(
    "--client-port",
    type=int,
    default=CLIENT_PORT_DEFAULT,
    help=f"The first member's; the others' are {PORT_STEP} and {2 * PORT_STEP} up.  [default: {CLIENT_PORT_DEFAULT}]",
)
@click.option("--peer-port", type=int, default=PEER_PORT_DEFAULT, help=f"Likewise.  [default: {PEER_PORT_DEFAULT}]")
@click.option("--detach", is_flag=True, help="Return once all are healthy, and leave them running; `down` stops them.")
def up(directory: Path, client_port: int, peer_port: int, detach: bool) -> None:
    """Run three members with mutual TLS on loopback until Ctrl-C. Certificates and data are kept for the next time."""
    place = Place(directory, client_port, peer_port)
    for each in place.members:
        if (pid := member.running_pid(each)) is not None:
            raise Failure(Exit.ERROR, f"{each.name} runs already, as process {pid}; stop all with: make down")
    member.check_ports(place)
    for name in ensure_certificates(place, datetime.datetime.now(datetime.UTC)):
        click.echo(f"made {place.pem(name)[0]}")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    children = [member.Child(each, detached=detach) for each in place.members]
    keep = False
    try:
        with ask.asking(place) as askers:
            _serve(place, children, askers, stopping, detach=detach)
            keep = detach and not stopping.is_set()
    finally:
        ended_by_themselves = [child for child in children if child.status is not None]
        if not keep:
            member.stop_children(children)
    if keep:
        click.echo("They run in the background; stop them with: make down")
    elif ended_by_themselves and not stopping.is_set():
        raise Failure(Exit.ERROR, "\n".join(child.end_text() for child in ended_by_themselves))
    else:
        click.echo("stopped")


def _serve(
    place: Place, children: list[member.Child], askers: list[ask.Asker], stopping: threading.Event, *, detach: bool
) -> None:
    """Wait until all are healthy; then, in the foreground, show how they are until a signal or until none is left."""
    waited = member.wait_healthy(children, lambda: stopping.is_set() or all(asker.is_healthy() for asker in askers))
    if not stopping.is_set():
        for each in place.members:
            click.echo(f"{each.name} serves {each.endpoint} (log: {each.log})")
        click.echo(f"all are healthy after {waited:.1f} s\n")
        click.echo(show.guide(place))
    if not detach:

        def goes_on(seconds: float) -> bool:
            return not stopping.wait(seconds) and any(child.status is None for child in children)

        watch = show.watch_live if sys.stdout.isatty() else show.watch_plainly
        watch(askers, goes_on)


@local.command("down", cls=Command, short_help="Stop the members that `up` started")
@_directory_option
def down(directory: Path) -> None:
    """Stop the members, wherever `up` runs them. That there is none is no error."""
    stopped = member.stop_running(Place(directory))
    click.echo(f"stopped processes {', '.join(map(str, stopped))}" if stopped else "nothing runs")


def run(words: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's); returns the exit code."""
    return run_tool(local, "etcdpy.local", words)


if __name__ == "__main__":
    sys.exit(run())
