"""`get`, `put`, `del`, `compaction`."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from etcdpy.client.keys import prefix_end
from etcdpy.commandline import INT, Command, Exit, Failure, parse_go_int
from etcdpy.ctl.gotext import quote
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.proto import rpc_pb2

DELETE_WARNING_SECONDS: Final = 2.0

_BOTH = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
_TOO_MANY = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"


def key_range(words: tuple[str, ...], *, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Key and range_end that the arguments ask for. Raises Failure where they contradict each other."""
    if prefix and from_key:
        raise Failure(Exit.BAD_ARGUMENTS, _BOTH)
    key = os.fsencode(words[0])
    if len(words) > 1:
        if prefix or from_key:
            raise Failure(Exit.BAD_ARGUMENTS, _TOO_MANY)
        return key, os.fsencode(words[1])
    if prefix and key:
        return key, prefix_end(key)
    return (key or b"\0", b"\0") if prefix or from_key else (key, b"")


@click.command("put", cls=Command, globals_=global_options, short_help="Puts the given key into the store")
@click.option(
    "--lease", default="0", metavar="string", help='The lease that the key ends with, in hexadecimal (default "0")'
)
@click.option("--prev-kv", is_flag=True, help="Show the pair that was there before")
@click.option("--ignore-value", is_flag=True, help="Leave the value as it is")
@click.option("--ignore-lease", is_flag=True, help="Leave the lease as it is")
@click.argument("words", nargs=-1, metavar="<key> [value]")
@click.pass_context
def put(ctx: click.Context, /, **given: Any) -> None:
    """Put a key. Without a value it is read from standard input; after `--`, key and value may begin with `-`.

    \b
    Examples:
      etcdpyctl put greeting hello
      etcdpyctl put manifest < manifest.yaml
      etcdpyctl put --prev-kv -- greeting -hello-
    """
    request = put_request(**given)
    session = Session(ctx)
    from etcdpy.client.call import PUT
    from etcdpy.ctl.kv_answers import PutAnswer

    session.show(PutAnswer(session.do(PUT, request)))


def put_request(
    words: tuple[str, ...], *, lease: str, prev_kv: bool, ignore_value: bool, ignore_lease: bool
) -> rpc_pb2.PutRequest:
    """The request that `put` describes. Raises Failure where it makes no sense."""
    from etcdpy.proto import rpc_pb2

    usage = "put command needs 1 argument and input from stdin or 2 arguments"
    if not words:
        raise Failure(Exit.BAD_ARGUMENTS, usage)
    if ignore_value and len(words) > 1:
        raise Failure(Exit.BAD_ARGUMENTS, "put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not ignore_value:
        value = os.fsencode(words[1]) if len(words) > 1 else sys.stdin.buffer.read()
        if len(words) == 1 and not value:
            raise Failure(Exit.BAD_ARGUMENTS, usage)
    try:
        lease_id = parse_go_int(lease, 16)
    except ValueError as error:
        raise Failure(Exit.BAD_ARGUMENTS, f"bad lease ID ({error}), expecting ID in Hex") from None
    return rpc_pb2.PutRequest(
        key=os.fsencode(words[0]),
        value=value,
        lease=lease_id,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )


@click.command("get", cls=Command, globals_=global_options, short_help="Gets the key or a range of keys")
@click.option("--consistency", default="l", help="Linearizable(l) or Serializable(s)")
@click.option("--order", default="", help="Order of results; ASCEND or DESCEND (ASCEND by default)")
@click.option("--sort-by", default="", help="Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
@click.option("--limit", type=INT, default=0, help="Maximum number of results")
@click.option("--prefix", is_flag=True, help="Get keys with matching prefix")
@click.option("--from-key", is_flag=True, help="Get keys from the given one on, by byte order")
@click.option("--rev", type=INT, default=0, help="Specify the kv revision")
@click.option("--keys-only", is_flag=True, help="Get only the keys")
@click.option("--count-only", is_flag=True, help="Get only the count (with a --write-out that shows it)")
@click.option("--print-value-only", is_flag=True, help='Only write values when using the "simple" output format')
@click.option("--min-create-rev", type=INT, default=0, help="Minimum create revision")
@click.option("--max-create-rev", type=INT, default=0, help="Maximum create revision")
@click.option("--min-mod-rev", type=INT, default=0, help="Minimum modification revision")
@click.option("--max-mod-rev", type=INT, default=0, help="Maximum modification revision")
@click.option("--stream", is_flag=True, help="Use the RangeStream RPC")
@click.argument("words", nargs=-1, metavar="<key> [range_end]")
@click.pass_context
def get(ctx: click.Context, /, print_value_only: bool, stream: bool, **given: Any) -> None:
    """Get a key, or a range of keys.

    \b
    Examples:
      etcdpyctl get greeting
      etcdpyctl get /registry/ --prefix --keys-only
      etcdpyctl get a z --limit 10 -w json
    """
    request = range_request(**given)
    session = Session(ctx)
    from etcdpy.client.call import RANGE
    from etcdpy.ctl.kv_answers import RangeAnswer

    answer = _streamed(session, request) if stream else session.do(RANGE, request)
    session.show(RangeAnswer(answer, values_only=print_value_only, count_only=given["count_only"]))


def _streamed(session: Session, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
    from etcdpy.client.call import RANGE_STREAM
    from etcdpy.proto import rpc_pb2

    whole = rpc_pb2.RangeResponse()
    for chunk in session.stream(RANGE_STREAM, request):
        whole.MergeFrom(chunk.range_response)
    return whole


def _range_operation(*, print_value_only: bool, stream: bool, **given: Any) -> rpc_pb2.RangeRequest:
    """How an answer is fetched and shown is no part of a transaction."""
    return range_request(**given)


def serializable(consistency: str) -> bool:
    """Whether --consistency asks for a local read. Raises Failure for what is neither."""
    if consistency not in ("l", "s"):
        raise Failure(Exit.BAD_FEATURE, f'unknown consistency flag "{consistency}"')
    return consistency == "s"


def range_request(words: tuple[str, ...], **flags: Any) -> rpc_pb2.RangeRequest:
    """The request that `get` describes. Raises Failure where its flags contradict each other."""
    from etcdpy.proto import rpc_pb2

    if not words:
        text = "get command needs one argument as key and an optional argument as range_end"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    if flags["prefix"] and flags["from_key"]:
        raise Failure(Exit.BAD_ARGUMENTS, _BOTH)
    if flags["keys_only"] and flags["count_only"]:
        text = "`--keys-only` and `--count-only` cannot be set at the same time, choose one"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    local = serializable(flags["consistency"])
    key, range_end = key_range(words, prefix=flags["prefix"], from_key=flags["from_key"])
    order, target = _sorting(flags["order"], flags["sort_by"])
    for name in ("create", "mod"):
        least, most = flags[f"min_{name}_rev"], flags[f"max_{name}_rev"]
        if 0 < most < least:
            title = name.title()
            raise Failure(Exit.BAD_FEATURE, f"getMin{title}Rev(={least}) > getMax{title}Rev(={most})")
    return rpc_pb2.RangeRequest(
        key=key,
        range_end=range_end,
        limit=flags["limit"],
        revision=max(flags["rev"], 0),
        sort_order=order,
        sort_target=target,
        serializable=local,
        keys_only=flags["keys_only"],
        count_only=flags["count_only"],
        min_create_revision=max(flags["min_create_rev"], 0),
        max_create_revision=max(flags["max_create_rev"], 0),
        min_mod_revision=max(flags["min_mod_rev"], 0),
        max_mod_revision=max(flags["max_mod_rev"], 0),
    )


def _sorting(order: str, target: str) -> tuple[Any, Any]:
    from etcdpy.proto.rpc_pb2 import RangeRequest

    orders = {"": RangeRequest.NONE, "ASCEND": RangeRequest.ASCEND, "DESCEND": RangeRequest.DESCEND}
    targets = {
        "": RangeRequest.KEY,
        "KEY": RangeRequest.KEY,
        "CREATE": RangeRequest.CREATE,
        "MODIFY": RangeRequest.MOD,
        "VALUE": RangeRequest.VALUE,
        "VERSION": RangeRequest.VERSION,
    }
    if order.upper() not in orders:
        raise Failure(Exit.BAD_FEATURE, f"bad sort order {order}")
    if target.upper() not in targets:
        raise Failure(Exit.BAD_FEATURE, f"bad sort target {target}")
    chosen = orders[order.upper()], targets[target.upper()]
    # Ascending by key is the store's own order: asking for it would only cost a sort.
    return (RangeRequest.NONE, RangeRequest.KEY) if chosen == (RangeRequest.ASCEND, RangeRequest.KEY) else chosen


@click.command("del", cls=Command, globals_=global_options, short_help="Removes the specified key or range of keys")
@click.option("--prefix", is_flag=True, help="delete keys with matching prefix")
@click.option("--prev-kv", is_flag=True, help="return deleted key-value pairs")
@click.option("--from-key", is_flag=True, help="delete keys from the given one on, by byte order")
@click.option("--range", "range_", is_flag=True, help="delete range of keys without the two seconds to think again")
@click.argument("words", nargs=-1, metavar="<key> [range_end]")
@click.pass_context
def delete(ctx: click.Context, /, **given: Any) -> None:
    """Delete a key, or a range of keys. `del "" --prefix` deletes everything.

    \b
    Examples:
      etcdpyctl del greeting --prev-kv
      etcdpyctl del /registry/ --prefix
      etcdpyctl del a z --range
    """
    request = delete_request(**given)
    session = Session(ctx)
    from etcdpy.client.call import DELETE_RANGE
    from etcdpy.ctl.kv_answers import DeleteAnswer

    session.show(DeleteAnswer(session.do(DELETE_RANGE, request)))


def delete_request(
    words: tuple[str, ...], *, prefix: bool, prev_kv: bool, from_key: bool, range_: bool
) -> rpc_pb2.DeleteRangeRequest:
    """The request that `del` describes; a range that was not asked for by --range waits. Raises Failure."""
    from etcdpy.proto import rpc_pb2

    if not 1 <= len(words) <= 2:
        text = "del command needs one argument as key and an optional argument as range_end"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    key, range_end = key_range(words, prefix=prefix, from_key=from_key)
    if len(words) == 2 and not range_:
        click.echo(
            f"Warning: Keys between {quote(words[0])} and {quote(words[1])} will be deleted. Please interrupt the "
            "command within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
            err=True,
        )
        time.sleep(DELETE_WARNING_SECONDS)
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)


class Operation(NamedTuple):
    """A command that can be part of a transaction."""

    name: str
    command: click.Command
    field: str
    """Of a RequestOp."""
    request: Callable[..., Any]
    """From what the command was given to its request."""


OPERATIONS: Final = (
    Operation("put", put, "request_put", put_request),
    Operation("get", get, "request_range", _range_operation),
    Operation("del", delete, "request_delete_range", delete_request),
)


@click.command("compaction", cls=Command, globals_=global_options, short_help="Compacts the history of keys")
@click.option("--physical", is_flag=True, help="Wait until the old revisions are gone from the disk")
@click.argument("words", nargs=-1, metavar="<revision>")
@click.pass_context
def compaction(ctx: click.Context, physical: bool, words: tuple[str, ...]) -> None:
    """Forget what was superseded at a revision: reads and watches of older ones end with an error.

    \b
    Examples:
      etcdpyctl compaction 1234
      etcdpyctl compaction --physical 1234
    """
    if len(words) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, "compaction command needs 1 argument")
    try:
        revision = parse_go_int(words[0], 10)
    except ValueError as error:
        raise Failure(Exit.ERROR, str(error)) from None
    session = Session(ctx)
    from etcdpy.client.call import COMPACT
    from etcdpy.proto import rpc_pb2

    session.do(COMPACT, rpc_pb2.CompactionRequest(revision=revision, physical=physical))
    click.echo(f"compacted revision {revision}")
