"""`etcdpy pki rotate`: a new root authority under running members."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import click

from pki import options
from pki.options import access_options, directory_option, form_option, note, print_json, print_made
from pki.rotation import NEXT_STEPS, PROBE_NAME, Rotation, State
from pki.store import NO_KEY, KeyAccess, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@click.group(cls=options.Group)
def rotate() -> None:
    """Replace a root CA without downtime: trust both, reissue, drop the old one.

    Between the steps, copy what changed to the members' hosts. Each step asks every port named with --taken-by, by a
    handshake, whether it took the last one, and refuses to run before all did. A step that was cut off is run again.

    \b
    Example:
      etcdpy pki rotate start --dir pki --taken-by https://10.0.0.1:2379 --taken-by https://10.0.0.1:2380
      etcdpy pki rotate reissue --dir pki
      etcdpy pki rotate drop --dir pki
      etcdpy pki rotate finish --dir pki
    """


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    ca = click.option("--ca", "ca_name", default="ca", show_default=True, help="The root that is replaced.")
    return ca(directory_option(form_option(command)))


_members = click.option(
    "--taken-by",
    "members",
    multiple=True,
    metavar="URL",
    help="The client or peer port of a member, as https://HOST:PORT. Repeat it; later steps remember them.",
)


def _checked(command: Callable[..., Any]) -> Callable[..., Any]:
    unchecked = click.option("--unchecked", is_flag=True, help="Do not ask the members; you have looked yourself.")
    common = click.option(
        "--probe-cn", default=PROBE_NAME, show_default=True, help="Whom to come as, where members let in only some."
    )
    return _members(unchecked(common(access_options(_shared(command)))))


@rotate.command()
@_members
@click.option("--cn", default="", help="The common name of the new CA.  [default: the old one's, G2 and so on]")
@click.option("--days", type=int, help="How long it is valid.  [default: 3650]")
@access_options
@_shared
def start(
    members: tuple[str, ...],
    cn: str,
    days: int | None,
    access: KeyAccess,
    directory: Path,
    ca_name: str,
    form: str,
) -> None:
    """Make the new CA, and write ca.pem with both. Give that to every member and client.

    \b
    Example:
      etcdpy pki rotate start --dir pki --taken-by https://10.0.0.1:2379 --taken-by https://10.0.0.1:2380
    """
    with _open(directory, ca_name, access) as rotation:
        state = rotation.start(members, common=cn, days=days)
        _print_state(form, rotation, state)


@rotate.command()
@_checked
def reissue(members: tuple[str, ...], unchecked: bool, form: str, **where: Any) -> None:
    """Sign with the new CA, and make every certificate anew. Give each member and client its own.

    Refused before every member lets in what the new CA signs.

    \b
    Example:
      etcdpy pki rotate reissue --dir pki
    """
    with _open(**where) as rotation:
        print_made(form, rotation.reissue(members, unchecked=unchecked))


@rotate.command()
@_checked
def drop(members: tuple[str, ...], unchecked: bool, form: str, **where: Any) -> None:
    """Take the old CA out of ca.pem. Give that to every member and client.

    Refused before every member serves a certificate of the new CA. Clients cannot be asked: make sure of them.

    \b
    Example:
      etcdpy pki rotate drop --dir pki
    """
    with _open(**where) as rotation:
        rotation.drop(members, unchecked=unchecked)
        _print_state(form, rotation, rotation.state())


@rotate.command()
@_checked
def finish(members: tuple[str, ...], unchecked: bool, form: str, **where: Any) -> None:
    """End the rotation: the old CA is put aside as ca-retired-*.pem; delete its key when nobody needs it any more.

    Refused before every member refuses what the old CA signs.

    \b
    Example:
      etcdpy pki rotate finish --dir pki
    """
    with _open(**where) as rotation:
        retired = rotation.finish(members, unchecked=unchecked)
    for text in rotation.notes:
        note(text)
    if form == "json":
        print_json({"retired": [str(path) for path in retired], "notes": rotation.notes})
    else:
        click.echo("\n".join(map(str, retired)) or "done")


@rotate.command()
@_shared
def abort(directory: Path, ca_name: str, form: str) -> None:
    """Go back to the old CA alone; only before `reissue`.

    \b
    Example:
      etcdpy pki rotate abort --dir pki
    """
    with _open(directory, ca_name) as rotation:
        rotation.abort()
        _print_state(form, rotation, None)


@rotate.command()
@_shared
def status(directory: Path, ca_name: str, form: str) -> None:
    """Say how far a rotation got, what comes next, and what the old CA has still signed.

    \b
    Example:
      etcdpy pki rotate status --dir pki -w json
    """
    rotation = Rotation(Store(directory, options.now()), ca_name, NO_KEY)
    _print_state(form, rotation, rotation.state())


@contextlib.contextmanager
def _open(
    directory: Path,
    ca_name: str,
    access: KeyAccess = NO_KEY,
    probe_cn: str = PROBE_NAME,
) -> Iterator[Rotation]:
    with Store.locked(directory, options.now()) as store:
        yield Rotation(store, ca_name, access, probe_cn)


def _print_state(form: str, rotation: Rotation, state: State | None) -> None:
    shown: dict[str, Any] = {"ca": rotation.ca, "stage": "none", "next": "start", "members": [], "started": ""}
    late: Sequence[str] = []
    if state is not None:
        shown = {**dataclasses.asdict(state), "next": NEXT_STEPS[state.stage]}
        del shown["version"]
        late = [entry.name for entry in rotation.pending()]
    shown["pending"] = late
    rows = [(name, ", ".join(value) if isinstance(value, (list, tuple)) else value) for name, value in shown.items()]
    if form == "json":
        print_json(shown)
    elif form == "table":
        options.print_table([name.upper() for name, _ in rows], [[value for _, value in rows]])
    else:
        click.echo("\n".join(f"{name:<8} {value}".rstrip() for name, value in rows))
