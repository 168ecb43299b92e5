"""`put`, `get`, `del`."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import INT, Command, Exit, Failure, parse_go_int
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from etcdpy.proto import rpc_pb2

DELETE_WARNING_SECONDS: Final = 2.0

_BOTH = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
_TOO_MANY = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"


def prefix_end(prefix: bytes) -> bytes:
    """The range_end of all keys that begin with `prefix`; `\\0`, meaning no end, where there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


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
@click.option("--lease", default="0", help="lease ID (in hexadecimal) to attach to the key")
@click.option("--prev-kv", is_flag=True, help="return the previous key-value pair before modification")
@click.option("--ignore-value", is_flag=True, help="updates the key using its current value")
@click.option("--ignore-lease", is_flag=True, help="updates the key using its current lease")
@click.argument("words", nargs=-1, metavar="<key> [value]")
@click.pass_context
def put(
    ctx: click.Context, lease: str, prev_kv: bool, ignore_value: bool, ignore_lease: bool, words: tuple[str, ...]
) -> None:
    """Put a key. Without a value it is read from standard input; after `--`, key and value may begin with `-`.

    \b
    Examples:
      etcdpyctl put greeting hello
      etcdpyctl put manifest < manifest.yaml
      etcdpyctl put --prev-kv -- greeting -hello-
    """
    from etcdpy.client.stubs import KV
    from etcdpy.ctl.kv_answers import PutAnswer
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
    request = rpc_pb2.PutRequest(
        key=os.fsencode(words[0]),
        value=value,
        lease=lease_id,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )
    session = Session(ctx)
    with session.channel() as channel:
        session.show(PutAnswer(session.call(KV(channel).Put, request)))


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
def get(ctx: click.Context, /, words: tuple[str, ...], **flags: Any) -> None:
    """Get a key, or a range of keys.

    \b
    Examples:
      etcdpyctl get greeting
      etcdpyctl get /registry/ --prefix --keys-only
      etcdpyctl get a z --limit 10 -w json
    """
    from etcdpy.client.stubs import KV
    from etcdpy.ctl.kv_answers import RangeAnswer

    request = range_request(words, flags)
    session = Session(ctx)
    with session.channel() as channel:
        stub = KV(channel)
        if flags["stream"]:
            answer = session.within_deadline(lambda seconds: _streamed(stub, request, seconds))
        else:
            answer = session.call(stub.Range, request)
    session.show(RangeAnswer(answer, values_only=flags["print_value_only"], count_only=flags["count_only"]))


def _streamed(stub: Any, request: rpc_pb2.RangeRequest, seconds: float) -> rpc_pb2.RangeResponse:
    from etcdpy.proto import rpc_pb2

    whole = rpc_pb2.RangeResponse()
    for chunk in stub.RangeStream(request, timeout=seconds, wait_for_ready=True):
        whole.MergeFrom(chunk.range_response)
    return whole


def serializable(consistency: str) -> bool:
    """Whether --consistency asks for a local read. Raises Failure for what is neither."""
    if consistency not in ("l", "s"):
        raise Failure(Exit.BAD_FEATURE, f'unknown consistency flag "{consistency}"')
    return consistency == "s"


def range_request(words: tuple[str, ...], flags: dict[str, Any]) -> rpc_pb2.RangeRequest:
    """The request that the flags of `get` describe. Raises Failure where they contradict each other."""
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
def delete(
    ctx: click.Context, prefix: bool, prev_kv: bool, from_key: bool, range_: bool, words: tuple[str, ...]
) -> None:
    """Delete a key, or a range of keys. `del "" --prefix` deletes everything.

    \b
    Examples:
      etcdpyctl del greeting --prev-kv
      etcdpyctl del /registry/ --prefix
      etcdpyctl del a z --range
    """
    from etcdpy.client.stubs import KV
    from etcdpy.ctl.kv_answers import DeleteAnswer
    from etcdpy.proto import rpc_pb2

    if not 1 <= len(words) <= 2:
        text = "del command needs one argument as key and an optional argument as range_end"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    key, range_end = key_range(words, prefix=prefix, from_key=from_key)
    if len(words) == 2 and not range_:
        click.echo(
            f'Warning: Keys between "{words[0]}" and "{words[1]}" will be deleted. Please interrupt the command within '
            "next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
            err=True,
        )
        time.sleep(DELETE_WARNING_SECONDS)
    session = Session(ctx)
    with session.channel() as channel:
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        session.show(DeleteAnswer(session.call(KV(channel).DeleteRange, request)))
