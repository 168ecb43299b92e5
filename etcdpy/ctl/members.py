"""`member`: who is in the cluster, and changes to that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from etcdpy.commandline import Command, Exit, Failure, Group, parse_go_hex_uint
from etcdpy.ctl.calls import ask, exactly
from etcdpy.ctl.gotext import quote
from etcdpy.ctl.kv import serializable
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etcdpy.proto import rpc_pb2


_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<host>[^/?#]*))?(?P<path>[^?#]*).*")
_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[0-9]*")


@click.group("member", cls=Group, globals_=global_options, short_help="Membership related commands")
@click.pass_context
def member(ctx: click.Context) -> None:
    """Show and change who is in the cluster."""
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
    from etcdpy.ctl.cluster_answers import MembersAnswer
    from etcdpy.proto import rpc_pb2

    request = rpc_pb2.MemberListRequest(linearizable=not serializable(consistency))
    session = Session(ctx)
    session.show(MembersAnswer(ask(session, "MEMBER_LIST", request)))


@member.command("add", cls=Command, globals_=global_options, short_help="Adds a member into the cluster")
@click.option("--peer-urls", default="", help="comma separated peer URLs for the new member")
@click.option("--learner", is_flag=True, help="add it as a learner, which gets the log and has no vote")
@click.argument("words", nargs=-1, metavar="<memberName>")
@click.pass_context
def member_add(ctx: click.Context, peer_urls: str, learner: bool, words: tuple[str, ...]) -> None:
    """Add a member, and print the settings to start it with.

    \b
    Examples:
      etcdpyctl member add m4 --peer-urls https://10.0.0.4:2380
      etcdpyctl member add m4 --peer-urls https://10.0.0.4:2380 --learner
    """
    if not words:
        raise Failure(Exit.BAD_ARGUMENTS, "member name not provided")
    if len(words) > 1:
        meant = [f", did you mean --peer-urls={word}" for word in words if word.lower().startswith("http")]
        raise Failure(Exit.BAD_ARGUMENTS, "too many arguments" + "".join(meant))
    urls = _urls(peer_urls)
    from etcdpy.ctl.cluster_answers import MemberAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    _check_urls(urls)
    answer = ask(session, "MEMBER_ADD", rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=learner))
    kind = " as learner " if answer.member.isLearner else " "
    told = f"Member {answer.member.ID:16x} added{kind}to cluster {answer.header.cluster_id:16x}"
    session.show(MemberAnswer(answer, told, "", *_settings(words[0], peer_urls, answer), has_fields=False))


def _settings(name: str, peer_urls: str, answer: rpc_pb2.MemberAddResponse) -> Iterator[str]:
    cluster = [
        f"{name if each.ID == answer.member.ID else each.name}={url}"
        for each in answer.members
        for url in each.peerURLs
    ]
    yield f"ETCD_NAME={quote(name)}"
    yield f"ETCD_INITIAL_CLUSTER={quote(','.join(cluster))}"
    yield f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(peer_urls)}"
    yield 'ETCD_INITIAL_CLUSTER_STATE="existing"'


def _urls(peer_urls: str) -> list[str]:
    if not peer_urls:
        raise Failure(Exit.BAD_ARGUMENTS, "member peer urls not provided")
    return peer_urls.split(",")


def _check_urls(texts: Iterable[str]) -> None:
    """Raise Failure as etcd's client does for what is no URL of a peer; it does so once it has a connection."""
    for text in texts:
        form = _URL.fullmatch(text.strip())
        if form is None and ":" in text.partition("/")[0]:
            said = f"parse {quote(text.strip())}: first path segment in URL cannot contain colon"
        elif form is None or form["scheme"].lower() not in ("http", "https", "unix", "unixs"):
            said = f"URL scheme must be http, https, unix, or unixs: {text.strip()}"
        elif form["scheme"].lower().startswith("unix"):
            continue
        elif not _HOST_PORT.fullmatch(form["host"] or ""):
            said = f'URL address does not have the form "host:port": {text.strip()}'
        elif form["path"]:
            said = f"URL must not contain a path: {text.strip()}"
        else:
            continue
        raise Failure(Exit.ERROR, said)


def _member_id(words: tuple[str, ...]) -> int:
    (word,) = exactly(1, words, "member ID is not provided")
    try:
        return parse_go_hex_uint(word)
    except ValueError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"bad member ID arg ({error}), expecting ID in Hex") from None


def _change(ctx: click.Context, call: str, request: Any, done: str) -> None:
    from etcdpy.ctl.cluster_answers import MemberAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    if isinstance(request, rpc_pb2.MemberUpdateRequest):
        _check_urls(request.peerURLs)
    answer = ask(session, call, request)
    told = f"Member {request.ID:16x} {done} cluster {answer.header.cluster_id:16x}"
    session.show(MemberAnswer(answer, told, has_fields=False))


@member.command("remove", cls=Command, globals_=global_options, short_help="Removes a member from the cluster")
@click.argument("words", nargs=-1, metavar="<memberID>")
@click.pass_context
def member_remove(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Remove a member by its id, as `member list` shows it. It stops, and its data directory is of no more use.

    \b
    Example:
      etcdpyctl member remove 8e9e05c52164694d
    """
    from etcdpy.proto import rpc_pb2

    _change(ctx, "MEMBER_REMOVE", rpc_pb2.MemberRemoveRequest(ID=_member_id(words)), "removed from")


@member.command("update", cls=Command, globals_=global_options, short_help="Updates a member in the cluster")
@click.option("--peer-urls", default="", help="comma separated peer URLs for the updated member")
@click.argument("words", nargs=-1, metavar="<memberID>")
@click.pass_context
def member_update(ctx: click.Context, peer_urls: str, words: tuple[str, ...]) -> None:
    """Tell the cluster at which peer URLs a member is reached from now on.

    \b
    Example:
      etcdpyctl member update 8e9e05c52164694d --peer-urls https://10.0.0.5:2380
    """
    from etcdpy.proto import rpc_pb2

    identity = _member_id(words)
    request = rpc_pb2.MemberUpdateRequest(ID=identity, peerURLs=_urls(peer_urls))
    _change(ctx, "MEMBER_UPDATE", request, "updated in")


@member.command("promote", cls=Command, globals_=global_options, short_help="Promotes a non-voting member")
@click.argument("words", nargs=-1, metavar="<memberID>")
@click.pass_context
def member_promote(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Give a learner a vote, once it has caught up with the leader.

    \b
    Example:
      etcdpyctl member promote 8e9e05c52164694d
    """
    from etcdpy.proto import rpc_pb2

    _change(ctx, "MEMBER_PROMOTE", rpc_pb2.MemberPromoteRequest(ID=_member_id(words)), "promoted in")
