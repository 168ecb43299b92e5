"""`alarm`, `move-leader`, `downgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etcdpy.commandline import Command, Exit, Failure, Group, parse_go_hex_uint
from etcdpy.ctl.calls import ask, exactly
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from etcdpy.proto import rpc_pb2


# --- alarm ---


@click.group("alarm", cls=Group, globals_=global_options, short_help="Alarm related commands")
@click.pass_context
def alarm(ctx: click.Context) -> None:
    """Show and take back alarms: NOSPACE, CORRUPT."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@alarm.command("list", cls=Command, globals_=global_options, short_help="Lists all alarms")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def alarm_list(ctx: click.Context, words: tuple[str, ...]) -> None:
    """List the alarms with the members that raised them.

    \b
    Example:
      etcdpyctl alarm list
    """
    exactly(0, words, "alarm list command accepts no arguments")
    from etcdpy.ctl.cluster_answers import AlarmAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    session.show(AlarmAnswer(ask(session, "ALARM", rpc_pb2.AlarmRequest())))


@alarm.command("disarm", cls=Command, globals_=global_options, short_help="Disarms all alarms")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def alarm_disarm(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Take back all alarms, and print them. Make room first: compact, defrag, or raise --quota-backend-bytes.

    \b
    Example:
      etcdpyctl alarm disarm
    """
    exactly(0, words, "alarm disarm command accepts no arguments")
    from etcdpy.ctl.cluster_answers import AlarmAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    disarmed = rpc_pb2.AlarmResponse()
    for each in ask(session, "ALARM", rpc_pb2.AlarmRequest()).alarms:
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=each.memberID, alarm=each.alarm)
        disarmed.alarms.extend(ask(session, "ALARM", request).alarms)
    session.show(AlarmAnswer(disarmed))


# --- move-leader ---


@click.command(
    "move-leader", cls=Command, globals_=global_options, short_help="Transfers leadership to another cluster member"
)
@click.argument("words", nargs=-1, metavar="<transferee-member-id>")
@click.pass_context
def move_leader(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Have the leader hand over to another member. The leader must be among the --endpoints.

    \b
    Example:
      etcdpyctl --endpoints $ALL_ENDPOINTS move-leader 8e9e05c52164694d
    """
    (word,) = exactly(1, words, "move-leader command needs 1 argument")
    try:
        target = parse_go_hex_uint(word)
    except ValueError as error:
        raise Failure(Exit.BAD_ARGUMENTS, str(error)) from None
    from etcdpy.ctl.cluster_answers import Told
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    for endpoint in session.options.endpoints:
        status = ask(session, "STATUS", rpc_pb2.StatusRequest(), endpoint)
        if status.leader == status.header.member_id:
            break
    else:
        raise Failure(Exit.BAD_ARGUMENTS, f"no leader endpoint given at [{' '.join(session.options.endpoints)}]")
    answer = ask(session, "MOVE_LEADER", rpc_pb2.MoveLeaderRequest(targetID=target), endpoint)
    session.show(Told(answer, f"Leadership transferred from {status.leader:x} to {target:x}", has_fields=False))


# --- downgrade ---


@click.group("downgrade", cls=Group, globals_=global_options, short_help="Downgrade related commands")
@click.pass_context
def downgrade(ctx: click.Context) -> None:
    """Go back to the minor release before, in three steps: validate, enable, then exchange the members one by one."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _downgrade(
    ctx: click.Context, action: rpc_pb2.DowngradeRequest.DowngradeAction.ValueType, version: str, verb: str
) -> None:
    from etcdpy.ctl.cluster_answers import Told
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    answer = ask(session, "DOWNGRADE", rpc_pb2.DowngradeRequest(action=action, version=version))
    session.show(Told(answer, f"Downgrade {verb} success, cluster version {answer.version}", has_fields=False))


def _target(words: tuple[str, ...]) -> str:
    if not words:
        raise Failure(Exit.BAD_ARGUMENTS, "TARGET_VERSION not provided")
    if len(words) > 1:
        raise Failure(Exit.BAD_ARGUMENTS, "too many arguments")
    if not words[0]:
        raise Failure(Exit.BAD_ARGUMENTS, "target version not provided")
    return words[0]


@downgrade.command("validate", cls=Command, globals_=global_options, short_help="Says whether a downgrade can begin")
@click.argument("words", nargs=-1, metavar="<TARGET_VERSION>")
@click.pass_context
def downgrade_validate(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Ask whether the cluster could go back to a release, and change nothing.

    \b
    Example:
      etcdpyctl downgrade validate 3.6
    """
    from etcdpy.proto.rpc_pb2 import DowngradeRequest

    _downgrade(ctx, DowngradeRequest.VALIDATE, _target(words), "validate")


@downgrade.command("enable", cls=Command, globals_=global_options, short_help="Starts a downgrade of the cluster")
@click.argument("words", nargs=-1, metavar="<TARGET_VERSION>")
@click.pass_context
def downgrade_enable(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Begin to go back to a release: members of that release may join from now on.

    \b
    Example:
      etcdpyctl downgrade enable 3.6
    """
    from etcdpy.proto.rpc_pb2 import DowngradeRequest

    _downgrade(ctx, DowngradeRequest.ENABLE, _target(words), "enable")


@downgrade.command("cancel", cls=Command, globals_=global_options, short_help="Cancels the ongoing downgrade")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def downgrade_cancel(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Stay with the release that the cluster has.

    \b
    Example:
      etcdpyctl downgrade cancel
    """
    from etcdpy.proto.rpc_pb2 import DowngradeRequest

    _downgrade(ctx, DowngradeRequest.CANCEL, "", "cancel")
