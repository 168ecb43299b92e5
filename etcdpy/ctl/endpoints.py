"""`endpoint`, `defrag`: what is asked of each endpoint by itself."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import INT, Command, Exit, Failure, Group, global_option, global_values
from etcdpy.ctl.calls import ask
from etcdpy.ctl.offline import run_offline
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import CallFailed, Session
from etcdpy.duration import format_duration
from etcdpy.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etcdpy.ctl.cluster_answers import Health

PARALLEL_CHECKS_MAX: Final = 16


def _cluster_options() -> list[click.Option]:
    cluster = global_option("--cluster", is_flag=True, help="use all endpoints from the cluster member list")
    cluster.hidden = False
    return [*global_options(), cluster]


def _cluster(ctx: click.Context) -> bool:
    return bool(global_values(ctx).get("cluster"))


@click.group("endpoint", cls=Group, globals_=_cluster_options, short_help="Endpoint related commands")
@click.pass_context
def endpoint(ctx: click.Context) -> None:
    """Ask endpoints one by one."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _endpoints(session: Session, *, cluster: bool) -> Sequence[str]:
    if not cluster:
        return session.options.endpoints
    from etcdpy.proto import rpc_pb2

    try:
        answer = ask(session, "MEMBER_LIST", rpc_pb2.MemberListRequest(linearizable=True))
    except CallFailed as failed:
        text = f"failed to fetch endpoints from etcd cluster member list: {failed.text}"
        raise Failure(Exit.ERROR, text) from None
    return [url for member in answer.members for url in member.clientURLs]


@endpoint.command(
    "health", cls=Command, globals_=_cluster_options, short_help="Checks the healthiness of the endpoints"
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
    endpoints = _endpoints(session, cluster=_cluster(ctx))
    session.restart_clock()
    with ThreadPoolExecutor(PARALLEL_CHECKS_MAX) as pool:
        found = list(pool.map(lambda each: _check(session, each), endpoints))
    session.show(HealthAnswer(found))
    if any(each.error for each in found):
        raise Failure(Exit.ERROR, "unhealthy cluster")


def _check(session: Session, place: str) -> Health:
    from etcdpy.ctl.cluster_answers import Health
    from etcdpy.proto import rpc_pb2

    begun = time.monotonic_ns()
    error = ""
    try:
        # Any key will do: that the read is answered is what counts.
        ask(session, "RANGE", rpc_pb2.RangeRequest(key=b"health"), place)
    except CallFailed as failed:
        # To refuse the caller takes consensus as well.
        error = "" if failed.code is Code.PERMISSION_DENIED else failed.text
    took = format_duration(time.monotonic_ns() - begun)
    error = error or _alarms(session, place)
    return Health(place, not error, took, error)


def _alarms(session: Session, place: str) -> str:
    from etcdpy.proto import rpc_pb2

    try:
        raised = ask(session, "ALARM", rpc_pb2.AlarmRequest(), place).alarms
    except CallFailed:
        return "Unable to fetch the alarm list"
    names = {rpc_pb2.NOSPACE: "NOSPACE ", rpc_pb2.CORRUPT: "CORRUPT "}
    return "Active Alarm(s): " + "".join(names.get(each.alarm, "UNKNOWN ") for each in raised) if raised else ""


def _ask_each(session: Session, endpoints: Sequence[str], name: str, request: Any) -> Iterator[tuple[str, Any, int]]:
    """What each endpoint answers to a call of Maintenance, or CallFailed; and how many nanoseconds that took."""
    for place in endpoints:
        session.restart_clock()
        begun = time.monotonic_ns()
        try:
            answer = ask(session, name, request, place)
        except CallFailed as failed:
            answer = failed
        yield place, answer, time.monotonic_ns() - begun


@endpoint.command("status", cls=Command, globals_=_cluster_options, short_help="Prints out the status of endpoints")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def status(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the status of endpoints: id, version, sizes, leader, raft term and indexes, errors.

    \b
    Examples:
      etcdpyctl endpoint status -w table
      etcdpyctl endpoint status --cluster -w json
    """
    from etcdpy.ctl.cluster_answers import StatusAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    found, failed = _sorted_out(ctx, session, "STATUS", rpc_pb2.StatusRequest(), "status")
    session.show(StatusAnswer(found))
    if failed:
        raise Failure(Exit.ERROR)


def _sorted_out(
    ctx: click.Context, session: Session, name: str, request: Any, what: str
) -> tuple[list[tuple[str, Any]], CallFailed | None]:
    """The answers with their endpoints, and the last failure; every failure is told on the way."""
    found, last = [], None
    endpoints = _endpoints(session, cluster=_cluster(ctx))
    for place, answer, _ in _ask_each(session, endpoints, name, request):
        if isinstance(answer, CallFailed):
            last = answer
            click.echo(f"Failed to get the {what} of endpoint {place} ({answer.text})", err=True)
        else:
            found.append((place, answer))
    return found, last


@endpoint.command("hashkv", cls=Command, globals_=_cluster_options, short_help="Prints the KV history hash")
@click.option("--rev", type=INT, default=0, help="maximum revision to hash (default: latest revision)")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def hashkv(ctx: click.Context, rev: int, words: tuple[str, ...]) -> None:
    """Show the hash over all revisions up to --rev: it is the same on all members that hold the same.

    \b
    Examples:
      etcdpyctl endpoint hashkv --cluster -w table
      etcdpyctl endpoint hashkv --cluster --rev 1000
    """
    from etcdpy.ctl.cluster_answers import HashAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    found, failed = _sorted_out(ctx, session, "HASH_KV", rpc_pb2.HashKVRequest(revision=rev), "hash")
    session.show(HashAnswer(found))
    if failed:
        raise Failure(Exit.ERROR, failed.text)


@click.command("defrag", cls=Command, globals_=global_options, short_help="Defragments the storage of members")
@click.option("--cluster", is_flag=True, help="use all endpoints from the cluster member list")
@click.option("--data-dir", default="", help="deprecated: `etcdpyutl defrag`, for a member that is stopped")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def defrag(ctx: click.Context, cluster: bool, data_dir: str, words: tuple[str, ...]) -> None:
    """Have members give back to the disk what was deleted and compacted, one after the other.

    A member of real etcd answers nothing while it does that. --command-timeout ends the waiting, not the work.
    For a member that is stopped: `etcdpyutl defrag --data-dir DIR`.

    \b
    Examples:
      etcdpyctl defrag --command-timeout 60s
      etcdpyctl defrag --cluster
    """
    if data_dir:
        run_offline(ctx, "defrag", "--data-dir", data_dir)
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    failures = 0
    endpoints = _endpoints(session, cluster=cluster)
    for place, answer, took_ns in _ask_each(session, endpoints, "DEFRAGMENT", rpc_pb2.DefragmentRequest()):
        took = format_duration(took_ns)
        if isinstance(answer, CallFailed):
            failures += 1
            click.echo(f"Failed to defragment etcd member[{place}]. took {took}. ({answer.text})", err=True)
        else:
            click.echo(f"Finished defragmenting etcd member[{place}]. took {took}")
    if failures:
        raise Failure(Exit.ERROR)
