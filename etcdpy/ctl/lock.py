"""`lock` and `elect`: one holder, one leader in the whole cluster, for as long as the command runs."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

import click

from etcdpy.commandline import INT, Command, Exit, Failure
from etcdpy.ctl.options import global_options
from etcdpy.ctl.processes import exit_text, start_text
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from etcdpy.client.client import Lease

ELECTION_TTL_SECONDS: Final = 60
"""etcd's client has this for sessions that do not say."""
NO_STATUS: Final = 255
"""The exit status for a command that a signal ended, as etcdctl's."""


class _Interrupted(BaseException):
    """Ctrl-C, or a request to end. What is held is let go of on the way out."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise _Interrupted. What nobody catches ends the command: raises Failure."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise _Interrupted

    kept = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Interrupted:
        raise Failure(Exit.ERROR, "context canceled") from None
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@click.command("lock", cls=Command, globals_=global_options, short_help="Acquires a named lock")
@click.option("--ttl", type=INT, default=10, help="Seconds until others get it if this machine dies (default 10)")
@click.argument("words", nargs=-1, metavar="<lockname> [command ...]")
@click.pass_context
def lock(ctx: click.Context, ttl: int, words: tuple[str, ...]) -> None:
    """Wait for a lock, print its key, and hold it until this is interrupted; or run a command while it is held, with
    ETCD_LOCK_KEY and ETCD_LOCK_REV set, and end with its exit status.

    \b
    Examples:
      etcdpyctl lock backup
      etcdpyctl lock backup -- tar -czf /backup/home.tgz /home
    """
    if not words:
        text = "lock takes a lock name argument and an optional command to execute"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    session = Session(ctx)
    name, *command = words
    with session.failing(), _interruptible(), session.client.lease(ttl) as lease:
        held = session.client.lock(os.fsencode(name), lease=lease)
        _reach(held.acquire)
        try:
            if command:
                _run_locked(session, held.key, command)
            else:
                _hold(session, held.key, lease, "lock lost on init", "session expired")
        finally:
            with suppress(_not_held()):
                held.release()


@click.command("elect", cls=Command, globals_=global_options, short_help="Takes part in an election, or observes it")
@click.option("--listen", "-l", is_flag=True, help="Only show who leads, each time that it changes")
@click.argument("words", nargs=-1, metavar="<election-name> [proposal]")
@click.pass_context
def elect(ctx: click.Context, listen: bool, words: tuple[str, ...]) -> None:
    """Wait until this process is the leader, print its key and proposal, and lead until this is interrupted.

    \b
    Examples:
      etcdpyctl elect scheduler "$(hostname)"
      etcdpyctl elect -l scheduler
    """
    if len(words) not in (1, 2):
        text = "elect takes one election name argument and an optional proposal argument"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    session = Session(ctx)
    if len(words) == 1 and not listen:
        raise Failure(Exit.BAD_ARGUMENTS, "no proposal argument but -l not set")
    if len(words) == 2 and listen:
        raise Failure(Exit.BAD_ARGUMENTS, "proposal given but -l is set")
    name, *proposal = map(os.fsencode, words)
    with session.failing(), _interruptible():
        if listen:
            _observe(session, name)
        else:
            _campaign(session, name, proposal[0])


def _observe(session: Session, name: bytes) -> None:
    from etcdpy.ctl.kv_answers import RangeAnswer
    from etcdpy.proto import rpc_pb2

    try:
        for leader in session.client.election(name).observe_responses():
            session.show(RangeAnswer(rpc_pb2.RangeResponse(header=leader.header, kvs=[leader.kv])))
    except _Interrupted:
        return


def _campaign(session: Session, name: bytes, proposal: bytes) -> None:
    with session.client.lease(ELECTION_TTL_SECONDS) as lease:
        election = session.client.election(name, lease=lease)
        _reach(lambda: election.campaign(proposal))
        try:
            _hold(session, election.key, lease, "", "elect: session expired")
        finally:
            election.resign()


def _reach(wait: Callable[[], object]) -> None:
    """Wait for the turn. Raises Failure where it comes too late."""
    from etcdpy.client.recipes import SessionExpired

    try:
        wait()
    except SessionExpired:
        raise Failure(Exit.ERROR, "mutex: session is expired") from None


def _not_held() -> type[Exception]:
    from etcdpy.client.recipes import NotHeld

    return NotHeld


def _hold(session: Session, key: bytes, lease: Lease, gone: str, expired: str) -> None:
    """Show the key, and wait for an interrupt. Raises Failure where the lease ends before."""
    from etcdpy.ctl.kv_answers import RangeAnswer

    with suppress(_Interrupted):
        found = session.client.get(key)
        if gone and not found.kvs:
            raise Failure(Exit.ERROR, gone)
        session.show(RangeAnswer(found))
        lease.wait_lost()
        raise Failure(Exit.ERROR, expired)


def _run_locked(session: Session, key: bytes, command: Sequence[str]) -> None:
    """Run a command while the lock is held. Raises Failure with its exit status where it fails."""
    revision = session.client.get(key).header.revision
    named = {"ETCD_LOCK_KEY": os.fsdecode(key), "ETCD_LOCK_REV": str(revision)}
    try:
        with subprocess.Popen(command, env={**named, **os.environ}) as process:  # noqa: S603  # what it is for
            status = _status_of(process)
    except OSError as error:
        raise Failure(Exit.ERROR, start_text(command[0], error)) from None
    if status:
        raise Failure(status if status > 0 else NO_STATUS, exit_text(status))


def _status_of(process: subprocess.Popen[bytes]) -> int:
    while True:
        # Ctrl-C reaches the command too: it decides whether and when that ends it.
        with suppress(_Interrupted):
            return process.wait()
