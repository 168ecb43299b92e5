"""`lease grant`, `lease revoke`, `lease timetolive`, `lease list`, `lease keep-alive`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import Command, Exit, Failure, Group, parse_go_int
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import CallFailed, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.proto import rpc_pb2

RENEWALS_PER_TTL: Final = 3
"""A lease is renewed when a third of its time is over, as etcd's client does."""


@click.group("lease", cls=Group, globals_=global_options, short_help="Lease related commands")
@click.pass_context
def lease(ctx: click.Context) -> None:
    """Grant leases, renew them, end them. What is attached to a lease is deleted when it ends.

    \b
    Examples:
      etcdpyctl lease grant 60
      etcdpyctl lease list
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _lease_id(text: str) -> int:
    try:
        return parse_go_int(text, 16)
    except ValueError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"bad lease ID arg ({error}), expecting ID in Hex") from None


def _only(words: tuple[str, ...], complaint: str) -> str:
    if len(words) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, complaint)
    return words[0]


@lease.command("grant", cls=Command, globals_=global_options, short_help="Creates leases")
@click.argument("words", nargs=-1, metavar="<ttl>")
@click.pass_context
def grant(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Create a lease of so many seconds, and print its id.

    \b
    Example:
      etcdpyctl lease grant 60
    """
    text = _only(words, "lease grant command needs TTL argument")
    try:
        ttl = parse_go_int(text, 10)
    except ValueError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"bad TTL ({error})") from None
    session = Session(ctx)
    from etcdpy.client.call import LEASE_GRANT
    from etcdpy.ctl.lease_answers import GrantAnswer
    from etcdpy.proto import rpc_pb2

    try:
        answer = session.do(LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=ttl))
    except CallFailed as failed:
        raise Failure(Exit.ERROR, f"failed to grant lease ({failed.text})") from None
    session.show(GrantAnswer(answer))


@lease.command("revoke", cls=Command, globals_=global_options, short_help="Revokes leases")
@click.argument("words", nargs=-1, metavar="<leaseID>")
@click.pass_context
def revoke(ctx: click.Context, words: tuple[str, ...]) -> None:
    """End a lease, which deletes its keys.

    \b
    Example:
      etcdpyctl lease revoke 694d9a1c2b3f5a07
    """
    lease_id = _lease_id(_only(words, "lease revoke command needs 1 argument"))
    session = Session(ctx)
    from etcdpy.client.call import LEASE_REVOKE
    from etcdpy.ctl.lease_answers import RevokeAnswer
    from etcdpy.proto import rpc_pb2

    try:
        answer = session.do(LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=lease_id))
    except CallFailed as failed:
        raise Failure(Exit.ERROR, f"failed to revoke lease ({failed.text})") from None
    session.show(RevokeAnswer(answer, lease_id))


@lease.command("timetolive", cls=Command, globals_=global_options, short_help="Shows what is left of a lease")
@click.option("--keys", is_flag=True, help="Show the keys that end with it, too")
@click.argument("words", nargs=-1, metavar="<leaseID>")
@click.pass_context
def timetolive(ctx: click.Context, keys: bool, words: tuple[str, ...]) -> None:
    """Show how long a lease was granted for, and how much of that is left.

    \b
    Example:
      etcdpyctl lease timetolive --keys 694d9a1c2b3f5a07
    """
    text = _only(words, "lease timetolive command needs lease ID as argument")
    session = Session(ctx)
    from etcdpy.client.call import LEASE_TIME_TO_LIVE
    from etcdpy.ctl.lease_answers import TimeToLiveAnswer
    from etcdpy.proto import rpc_pb2

    request = rpc_pb2.LeaseTimeToLiveRequest(ID=_lease_id(text), keys=keys)
    session.show(TimeToLiveAnswer(session.do(LEASE_TIME_TO_LIVE, request, Exit.BAD_CONNECTION), keys=keys))


@lease.command("list", cls=Command, globals_=global_options, short_help="Lists all leases")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def list_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """List the leases that have not ended.

    \b
    Example:
      etcdpyctl lease list
    """
    session = Session(ctx)
    from etcdpy.client.call import LEASE_LEASES
    from etcdpy.ctl.lease_answers import LeasesAnswer
    from etcdpy.proto import rpc_pb2

    session.show(LeasesAnswer(session.do(LEASE_LEASES, rpc_pb2.LeaseLeasesRequest(), Exit.BAD_CONNECTION)))


@lease.command("keep-alive", cls=Command, globals_=global_options, short_help="Keeps leases alive (renew)")
@click.option("--once", is_flag=True, help="Renew it once and end")
@click.argument("words", nargs=-1, metavar="<leaseID>")
@click.pass_context
def keep_alive(ctx: click.Context, once: bool, words: tuple[str, ...]) -> None:
    """Renew a lease again and again, until it has ended or this is interrupted.

    \b
    Examples:
      etcdpyctl lease keep-alive 694d9a1c2b3f5a07
      etcdpyctl lease keep-alive --once 694d9a1c2b3f5a07
    """
    lease_id = _lease_id(_only(words, "lease keep-alive command needs lease ID as argument"))
    session = Session(ctx)
    from etcdpy.ctl.lease_answers import KeepAliveAnswer

    for answer in _renewals(session, lease_id):
        if once:
            if answer.TTL <= 0:
                raise Failure(Exit.BAD_CONNECTION, "etcdserver: requested lease not found")
            session.show(KeepAliveAnswer(answer))
            return
        if answer.TTL <= 0:
            break
        session.show(KeepAliveAnswer(answer))
        time.sleep(answer.TTL / RENEWALS_PER_TTL)
    if session.format == "simple":
        click.echo(f"lease {lease_id:016x} expired or revoked.")


def _renewals(session: Session, lease_id: int) -> Iterator[rpc_pb2.LeaseKeepAliveResponse]:
    """One answer for each time that it is asked for one."""
    from etcdpy.client.call import LEASE_KEEP_ALIVE
    from etcdpy.proto import rpc_pb2

    while True:
        session.restart_clock()
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
        yield from session.stream(LEASE_KEEP_ALIVE, request, Exit.BAD_CONNECTION)
