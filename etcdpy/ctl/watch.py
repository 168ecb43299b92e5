"""`watch`: events as they happen, printed or handed to a command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import INT, Command, Exit, Failure, FlagError, without_globals
from etcdpy.ctl.gotext import quote
from etcdpy.ctl.options import global_options
from etcdpy.ctl.processes import exit_text, start_text
from etcdpy.ctl.session import Session, go_text
from etcdpy.ctl.watch_arguments import BadWatch, Target, make_target, named_by_environment, split_command
from etcdpy.ctl.words import split_line
from etcdpy.errors import EtcdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.client.client import Watch
    from etcdpy.proto import kv_pb2

_COMMAND: Final = "etcdpy.watch.command"


class _WatchCommand(Command):
    """Keeps what stands behind `--` from being taken for keys."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line up to `--`."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = args[end:]
        return super().parse_args(ctx, args[:end])


@click.command("watch", cls=_WatchCommand, globals_=global_options, short_help="Watches keys or prefixes")
@click.option("--interactive", "-i", is_flag=True, help="Read watches from standard input, a line each")
@click.option("--prefix", is_flag=True, help="Watch all keys that begin so")
@click.option("--rev", type=INT, default=0, help="The revision to begin with")
@click.option("--prev-kv", is_flag=True, help="Show the pair that was there before, too")
@click.option("--progress-notify", is_flag=True, help="Show now and then how far the watch has come")
@click.argument("words", nargs=-1, metavar="[key] [range_end] [-- command ...]")
@click.pass_context
def watch(ctx: click.Context, /, interactive: bool, words: tuple[str, ...], **flags: Any) -> None:
    """Print each event of a key or a range, or run a command for it, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE,
    ETCD_WATCH_KEY and ETCD_WATCH_VALUE set. ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END can name the keys.

    With -i, lines such as `watch --prefix /registry` and `progress` are read.

    \b
    Examples:
      etcdpyctl watch greeting
      etcdpyctl watch --prefix /registry --rev 1234 --prev-kv
      etcdpyctl watch greeting -- sh -c 'echo "$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE"'
      etcdpyctl watch -i
    """
    try:
        named = named_by_environment(os.environ)
        if interactive:
            _interactive(Session(ctx), named)
        _, command = split_command(ctx.meta[_COMMAND])
        session = Session(ctx)  # whose format is complained of first
        target = make_target(words, command, named, prefix=flags["prefix"])
    except BadWatch as bad:
        raise Failure(Exit.BAD_ARGUMENTS, str(bad)) from None
    found = _open(session, target, flags)
    if found is not None:
        _print_all(session, found, target.command)
    raise Failure(Exit.INTERRUPTED, "watch is canceled by the server")


def _print_all(session: Session, found: Watch, command: Sequence[str]) -> None:
    """Print what happens until the server ends the watch. Raises Failure."""
    from etcdpy.ctl.kv_answers import WatchAnswer

    try:
        while (answer := found.next()) is not None:
            if not answer.events:
                click.echo(f"progress notify: {answer.header.revision}")
            session.show(WatchAnswer(answer))
            for event in answer.events if command else ():
                _run(command, answer.header.revision, event)
    except EtcdError as error:
        _print_end(session, error)


def _print_end(session: Session, error: EtcdError) -> None:
    from etcdpy.client.watch_state import WatchCompacted
    from etcdpy.ctl.kv_answers import WatchAnswer
    from etcdpy.proto import rpc_pb2

    click.echo(f"watch was canceled ({go_text(error.code, error.message)})", err=True)
    ended = rpc_pb2.WatchResponse(canceled=True)
    if isinstance(error, WatchCompacted):
        ended.header.CopyFrom(error.header)
        ended.compact_revision = error.compact_revision
    session.show(WatchAnswer(ended))


def _open(session: Session, target: Target, flags: dict[str, Any]) -> Watch | None:
    """A watch that the server has taken; None where it did not, and that was said."""
    try:
        return _asked(session, target, flags)
    except EtcdError as error:
        _print_end(session, error)
        return None


def _asked(session: Session, target: Target, flags: dict[str, Any]) -> Watch:
    return session.client.with_leader().watch(
        os.fsencode(target.key),
        b"" if target.range_end is None else os.fsencode(target.range_end),
        prefix=flags["prefix"],
        progress=flags["progress_notify"],
        start_revision=flags["rev"],
        prev_kv=flags["prev_kv"],
        timeout=threading.TIMEOUT_MAX,  # --command-timeout is for short commands
    )


def _run(command: Sequence[str], revision: int, event: kv_pb2.Event) -> None:
    """Run the command for one event. Raises Failure where it fails, after etcdctl's words about it."""
    from etcdpy.proto import kv_pb2

    named = {
        "ETCD_WATCH_REVISION": str(revision),
        "ETCD_WATCH_EVENT_TYPE": quote(kv_pb2.Event.EventType.Name(event.type)),
        "ETCD_WATCH_KEY": quote(event.kv.key),
        "ETCD_WATCH_VALUE": quote(event.kv.value),
    }
    try:
        done = subprocess.run(command, check=False, env={**os.environ, **named})  # noqa: S603  # what it is for
        trouble = exit_text(done.returncode)
    except OSError as error:
        trouble = start_text(command[0], error)
    if trouble:
        click.echo(f"command [{' '.join(map(quote, command))}] error ({trouble})", err=True)
        raise Failure(Exit.ERROR)


# --- interactive ---


def _interactive(session: Session, named: Sequence[str]) -> None:
    """Read lines until there are no more, which is an error. Raises BadWatch, Failure."""
    running: list[Watch] = []
    while line := sys.stdin.readline():
        words = split_line(line.rstrip("\n"))
        if not words:
            click.echo(f"Invalid command: {line.rstrip()} (watch and progress supported)", err=True)
        elif words[0] == "watch":
            _watch_line(session, line.rstrip("\n"), words[1:], named, running)
        elif words[0] == "progress":
            for each in running:
                each.request_progress()
        else:
            click.echo(f"Invalid command {line.rstrip()} (only support watch)", err=True)
    raise Failure(Exit.BAD_INPUT, "error reading watch request line: EOF")


def _watch_line(session: Session, line: str, words: list[str], named: Sequence[str], running: list[Watch]) -> None:
    if not words and not named:
        click.echo(f"Invalid command {line} (command type or key is not provided)", err=True)
        return
    before, command = split_command(words)
    try:
        flags: dict[str, Any] = without_globals(watch).make_context("watch", before).params
    except FlagError as error:
        raise BadWatch(error.message) from None
    target = make_target(flags.pop("words"), command, named, prefix=flags["prefix"])
    found = _open(session, target, flags)
    if found is not None:
        running.append(found)
        threading.Thread(target=_in_background, args=(session, found, command), daemon=True).start()


def _in_background(session: Session, found: Watch, command: Sequence[str]) -> None:
    from etcdpy.client.failures import ClientClosed

    try:
        _print_all(session, found, command)
    except ClientClosed:
        return
    except Failure as failure:
        # Nobody must wait for the next line to end the process.
        if failure.text:
            click.echo(f"Error: {failure.text}", err=True)
        os._exit(failure.exit_code)
