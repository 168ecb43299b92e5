"""`endpoint health`, `endpoint status`, `member list`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import Command, Exit, Failure, Group, global_option, global_values
from etcdpy.ctl.kv import serializable
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import CallFailed, Session
from etcdpy.duration import format_duration
from etcdpy.errors import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from etcdpy.ctl.cluster_answers import Health

PARALLEL_CHECKS_MAX: Final = 16


def _endpoint_options() -> list[click.Option]:
    cluster = global_option("--cluster", is_flag=True, help="use all endpoints from the cluster member list")
    cluster.hidden = False
    return [*global_options(), cluster]


@click.group("endpoint", cls=Group, globals_=_endpoint_options, short_help="Endpoint related commands")
@click.pass_context
def endpoint(ctx: click.Context) -> None:
    """Ask endpoints one by one."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _endpoints(ctx: click.Context, session: Session) -> Sequence[str]:
    if not global_values(ctx).get("cluster"):
        return session.options.endpoints
    from etcdpy.client.stubs import Cluster
    from etcdpy.proto import rpc_pb2

    with session.channel() as channel:
        try:
            answer = session.call(Cluster(channel).MemberList, rpc_pb2.MemberListRequest(linearizable=True))
        except CallFailed as failed:
            text = f"failed to fetch endpoints from etcd cluster member list: {failed.text}"
            raise Failure(Exit.ERROR, text) from None
    return [url for member in answer.members for url in member.clientURLs]


@endpoint.command(
    "health", cls=Command, globals_=_endpoint_options, short_help="Checks the healthiness of the endpoints"
)
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def health(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Check endpoints: each must commit a read within --command-timeout, and have no alarm.

    \b
    Examples:
      etcdpyctl endpoint health
      etcdpyctl endpoint health --cluster -w json
    """
    from etcdpy.ctl.cluster_answers import HealthAnswer

    session = Session(ctx)
    endpoints = _endpoints(ctx, session)
    session.restart_clock()
    with ThreadPoolExecutor(PARALLEL_CHECKS_MAX) as pool:
        found = list(pool.map(lambda each: _check(session, each), endpoints))
    session.show(HealthAnswer(found))
    if any(each.error for each in found):
        raise Failure(Exit.ERROR, "unhealthy cluster")


def _check(session: Session, place: str) -> Health:
    from etcdpy.client.stubs import KV
    from etcdpy.ctl.cluster_answers import Health
    from etcdpy.proto import rpc_pb2

    with session.channel(place) as channel:
        begun = time.monotonic_ns()
        error = ""
        try:
            # Any key will do: that the read is answered is what counts.
            session.call(KV(channel).Range, rpc_pb2.RangeRequest(key=b"health"))
        except CallFailed as failed:
            # To refuse the caller takes consensus as well.
            error = "" if failed.code is Code.PERMISSION_DENIED else failed.text
        took = format_duration(time.monotonic_ns() - begun)
        error = error or _alarms(session, channel)
        return Health(place, not error, took, error)


def _alarms(session: Session, channel: grpc.Channel) -> str:
    from etcdpy.client.stubs import Maintenance
    from etcdpy.proto import rpc_pb2

    try:
        raised = session.call(Maintenance(channel).Alarm, rpc_pb2.AlarmRequest()).alarms
    except CallFailed:
        return "Unable to fetch the alarm list"
    names = {rpc_pb2.NOSPACE: "NOSPACE ", rpc_pb2.CORRUPT: "CORRUPT "}
    return "Active Alarm(s): " + "".join(names.get(each.alarm, "UNKNOWN ") for each in raised) if raised else ""


@endpoint.command("status", cls=Command, globals_=_endpoint_options, short_help="Prints out the status of endpoints")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def status(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the status of endpoints: id, version, sizes, leader, raft term and indexes, errors.

    \b
    Examples:
      etcdpyctl endpoint status
      etcdpyctl endpoint status --cluster -w json
    """
    from etcdpy.client.stubs import Maintenance
    from etcdpy.ctl.cluster_answers import StatusAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    found = []
    failures = 0
    for place in _endpoints(ctx, session):
        session.restart_clock()
        with session.channel(place) as channel:
            try:
                found.append((place, session.call(Maintenance(channel).Status, rpc_pb2.StatusRequest())))
            except CallFailed as failed:
                failures += 1
                click.echo(f"Failed to get the status of endpoint {place} ({failed.text})", err=True)
    session.show(StatusAnswer(found))
    if failures:
        raise Failure(Exit.ERROR)


@click.group("member", cls=Group, globals_=global_options, short_help="Membership related commands")
@click.pass_context
def member(ctx: click.Context) -> None:
    """Ask about the members of the cluster."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@member.command("list", cls=Command, globals_=global_options, short_help="Lists all members in the cluster")
@click.option("--consistency", default="l", help="Linearizable(l) or Serializable(s)")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def member_list(ctx: click.Context, consistency: str, words: tuple[str, ...]) -> None:
    """List the members: id, status, name, peer addresses, client addresses, whether it is a learner.

    \b
    Examples:
      etcdpyctl member list
      etcdpyctl member list -w json --hex
    """
    from etcdpy.client.stubs import Cluster
    from etcdpy.ctl.cluster_answers import MemberListAnswer
    from etcdpy.proto import rpc_pb2

    request = rpc_pb2.MemberListRequest(linearizable=not serializable(consistency))
    session = Session(ctx)
    with session.channel() as channel:
        session.show(MemberListAnswer(session.call(Cluster(channel).MemberList, request)))
