"""`etcdpy systemd`: unit files of a cluster's nodes from one topology file."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.texttable import boxed
from etcdpy.units import place
from etcdpy.units.render import Rendered, render
from etcdpy.units.topology import Topology, TopologyError, read_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@click.group("systemd", cls=Group)
@click.pass_context
def systemd(ctx: click.Context) -> None:
    """Make the unit files of a cluster's nodes from one topology file, TOML or YAML.

    \b
    Example of a topology:
      nodes:
        controller-0: {address: 10.240.0.10}
        controller-1: {address: 10.240.0.11}
        controller-2: {address: 10.240.0.12}
      backup: {schedule: hourly}
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """The topology, and how to print."""
    form = click.option("-w", "--write-out", "form", type=click.Choice(["simple", "json", "table"]), default="simple")
    path = click.argument("path", metavar="TOPOLOGY", type=click.Path(dir_okay=False, path_type=Path))
    return path(form(command))


_node = click.option("--node", default="", help="Whose files  [default: that of this host's name]")
_root = click.option(
    "--root", type=click.Path(file_okay=False, path_type=Path), default=Path("/"), help="Where the host's files begin"
)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What cannot be read, written or run ends the command with the reason, a line each."""
    try:
        yield
    except TopologyError as error:
        raise Failure(Exit.ERROR, "\nError: ".join(error.faults)) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        reason = said[-1] if said else f"ended with {error.returncode}"
        raise Failure(Exit.ERROR, f"{' '.join(error.cmd)}: {reason}") from None
    except subprocess.TimeoutExpired as error:
        raise Failure(Exit.ERROR, f"{' '.join(error.cmd)}: not done after {error.timeout:.0f} s") from None
    except OSError as error:
        raise Failure(Exit.ERROR, f"{error.filename}: {(error.strerror or str(error)).lower()}") from None


def _files_of(topology: Topology, node: str) -> list[Rendered]:
    return render(topology, node or _own_name())


def _own_name() -> str:
    return socket.gethostname().partition(".")[0]


@systemd.command("render", cls=Command, short_help="Writes every node's files below a directory")
@_shared
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where: OUT/NODE/etc/...")
@click.option("--node", default="", help="This one's alone  [default: all]")
def render_files(path: Path, form: str, out: Path, node: str) -> None:
    """Write every node's files below a directory, to be looked at, kept in a repository, or copied.

    \b
    Example:
      etcdpy systemd render cluster.yaml --out rendered
    """
    with _failures():
        topology = read_topology(path)
        names = [node] if node else [each["name"] for each in topology.nodes]
        rows = []
        for name in names:
            wanted = place.changes(render(topology, name), out / name)
            place.put(wanted)
            rows += [(name, str(change.target)) for change in wanted]
    _print_rows(form, ("node", "written"), rows)


@systemd.command("diff", cls=Command, short_help="Shows what differs on a host")
@_shared
@_node
@_root
def diff(path: Path, form: str, node: str, root: Path) -> None:
    """Show how the files on this host differ from what they should be. Exit code 0: not at all; 1: somewhere.

    \b
    Example:
      etcdpy systemd diff cluster.yaml --node controller-0
    """
    with _failures():
        found = place.changes(_files_of(read_topology(path), node), root)
    if form == "simple":
        click.echo("".join(change.diff() for change in found), nl=False)
    else:
        _print_rows(form, ("path", "state", "member"), _states(found))
    if found:
        raise Failure(Exit.ERROR)


@systemd.command("check", cls=Command, short_help="Looks for faults before anything is changed")
@_shared
def check(path: Path, form: str) -> None:
    """Look at a topology, and let systemd judge the units that it makes, before anything is changed.

    A line for each fault. What only systemd-analyze can say is left out, with a note, where it is not installed.

    \b
    Example:
      etcdpy systemd check cluster.yaml
    """
    with _failures():
        topology = read_topology(path)
        rows = []
        if place.can_analyze():
            for node in topology.nodes:
                said = place.complaints(render(topology, node["name"]), topology.tables["service"]["program"])
                rows += [(node["name"], line) for line in said]
        else:
            click.echo("note: there is no systemd-analyze here, so the units were not judged", err=True)
    _print_rows(form, ("node", "fault"), rows)
    if rows:
        raise Failure(Exit.ERROR)
    if form == "simple":
        click.echo(f"{len(topology.nodes)} nodes, no fault")


@systemd.command("certificates", cls=Command, short_help="Lists the files of certificates that a node needs")
@_shared
@_node
def certificates(path: Path, form: str, node: str) -> None:
    """List the certificates and keys that a node needs, and where its units look for them.

    What somebody who brings them has to bring; `etcdpy pki verify` says whether they will do.

    \b
    Example:
      etcdpy systemd certificates cluster.yaml --node controller-0
    """
    with _failures():
        tables = read_topology(path).context(node or _own_name())
    rows = [(role, file) for role, file in tables["certificates"].items() if file and role != "directory"]
    _print_rows(form, ("role", "path"), rows)


@systemd.command("install", cls=Command, short_help="Puts a node's files in place")
@_shared
@_node
@_root
def install(path: Path, form: str, node: str, root: Path) -> None:
    """Put a node's files in place on this host; what is right already stays untouched.

    Users, directories and units are then taken in by systemd (not below another --root). Nothing is started or
    restarted: that is for who knows how the other members are. What a running member takes only by a restart is
    marked; the names of all members, which it reads once in its life, are not.

    \b
    Example:
      etcdpy systemd install cluster.yaml && systemctl enable --now etcdpy.service etcdpy.target
    """
    with _failures():
        wanted = place.changes(_files_of(read_topology(path), node), root)
        place.put(wanted)
        if root == Path("/"):
            place.take_in()  # also where nothing is to be written: an earlier run may have got no further than that
    _print_rows(form, ("path", "state", "member"), _states(wanted))


def _states(found: Sequence[place.Change]) -> list[tuple[str, str, str]]:
    return [
        (
            str(change.target),
            "missing" if change.before is None else "changed",
            "restart" if change.needs_restart else "",
        )
        for change in found
    ]


def _print_rows(form: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if form == "json":
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    elif form == "table":
        click.echo(boxed(names, rows))
    else:
        for row in rows:
            click.echo(" ".join(filter(None, row)))
