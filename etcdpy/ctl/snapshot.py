"""`snapshot`: the whole state in a file. What works on files alone is etcdpyutl's, and found here too."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.ctl.calls import exactly
from etcdpy.ctl.offline import run_offline
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import DEADLINE_TEXT, Session


@click.group("snapshot", cls=Group, globals_=global_options, short_help="Manages etcd node snapshots")
@click.pass_context
def snapshot(ctx: click.Context) -> None:
    """Save the state of a member in a file.

    \b
    Examples:
      etcdpyctl snapshot save backup.db
      etcdpyctl --endpoints https://10.0.0.1:2379 --cacert ca.pem --cert client.pem --key client-key.pem \\
        snapshot save backup.db
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@snapshot.command("save", cls=Command, globals_=global_options, short_help="Stores the state of a member in a file")
@click.argument("words", nargs=-1, metavar="<filename>")
@click.pass_context
def save(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Save the state of one member in a file, which appears when all of it is there.

    It takes as long as it takes: --command-timeout counts only where it is given.

    \b
    Example:
      etcdpyctl snapshot save backup.db
    """
    (name,) = exactly(1, words, "snapshot save expects one argument <filename>")
    session = Session(ctx)
    endpoints = session.options.endpoints
    if len(endpoints) != 1:
        listed = " ".join(endpoints)
        text = f"snapshot must be requested to one selected node, not multiple [{listed}]"
        raise Failure(Exit.INTERRUPTED, text)
    version = _save(session, Path(name))
    click.echo(f"Snapshot saved at {name}")
    if version:
        click.echo(f"Server version {version}")


def _save(session: Session, path: Path) -> str:
    from etcdpy.client.snapshot import SnapshotFailed
    from etcdpy.errors import Code, EtcdError
    from etcdpy.progress import Progress

    timeout = session.seconds_left() if "command_timeout" in session.options.given else None
    progress = Progress("saving", 0)
    try:
        return session.client.snapshot(path, progress.show_of, timeout=timeout)
    except EtcdError as error:
        late = error.code is Code.DEADLINE_EXCEEDED
        if late or error.code is Code.UNAVAILABLE:
            session.explain(session.options.endpoints)
        # Here etcdctl shows gRPC's words, which it takes away elsewhere.
        text = DEADLINE_TEXT if late else f"rpc error: code = {error.code.label} desc = {error.message}"
    except SnapshotFailed as error:
        text = str(error)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        part = error.filename  # of what cannot be opened; writing knows no name
        text = f"could not open {part} (open {part}: {reason})" if part else f"could not write snapshot: {reason}"
    finally:
        progress.end()
    raise Failure(Exit.INTERRUPTED, text)


def _moved(name: str, short_help: str) -> None:
    @snapshot.command(
        name,
        short_help=short_help,
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def pass_on(ctx: click.Context, words: tuple[str, ...]) -> NoReturn:
        run_offline(ctx, "snapshot", name, *words)


_moved("status", "The same as `etcdpyutl snapshot status`")
_moved("restore", "The same as `etcdpyutl snapshot restore`")
