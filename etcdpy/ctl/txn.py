"""`txn`: a transaction read from standard input, in etcdctl's grammar.

    mod("key") > "0"        comparisons, all of which must hold

    put key "a value"       what to do then: get, put and del with their flags

    get key                 what to do otherwise

An empty line ends each part.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import Command, Exit, Failure, FlagError, parse_go_int, without_globals
from etcdpy.ctl.gotext import quote, unquote
from etcdpy.ctl.kv import OPERATIONS
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session
from etcdpy.ctl.words import split_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.proto import rpc_pb2

_COMPARISON: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*")\)\s+(\S+)\s+("(?:[^"\\]|\\.)*")')
_TARGETS: Final = {
    "ver": "version", "version": "version",
    "c": "create_revision", "create": "create_revision",
    "m": "mod_revision", "mod": "mod_revision",
    "val": "value", "value": "value",
    "lease": "lease",
}  # fmt: skip
"""What may stand before the key, and the field of a comparison that it is about."""
_SIGNS: Final = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}


@click.command("txn", cls=Command, globals_=global_options, short_help="Does several requests as one transaction")
@click.option("--interactive", "-i", is_flag=True, help="Ask for each part")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def txn(ctx: click.Context, interactive: bool, words: tuple[str, ...]) -> None:
    """Read a transaction from standard input and commit it. Each of its three parts ends with an empty line:
    comparisons, requests for when all of them hold, requests for when one does not.

    A comparison is `version`, `create`, `mod`, `value` or `lease` with a key, one of = != < >, and a value in double
    quotes; a request is a get, put or del command.

    \b
    Example:
      etcdpyctl txn <<END
      mod("greeting") > "0"
    \b
      put greeting "hello again"
    \b
      put greeting hello
    \b
      END
    """
    if words:
        raise Failure(Exit.BAD_ARGUMENTS, "txn command does not accept argument")
    from etcdpy.client.call import TXN
    from etcdpy.ctl.kv_answers import TxnAnswer
    from etcdpy.proto import rpc_pb2

    session = Session(ctx)
    request = rpc_pb2.TxnRequest()
    _prompt("compares:", shown=interactive)
    request.compare.extend(parse_comparison(line) for line in _part())
    _prompt("success requests (get, put, del):", shown=interactive)
    request.success.extend(parse_operation(line) for line in _part())
    _prompt("failure requests (get, put, del):", shown=interactive)
    request.failure.extend(parse_operation(line) for line in _part())
    session.show(TxnAnswer(session.do(TXN, request)))


def _prompt(text: str, *, shown: bool) -> None:
    if shown:
        click.echo(text)


def _part() -> Iterator[str]:
    """The lines up to an empty one."""
    while line := sys.stdin.readline():
        if not line.endswith("\n"):
            break
        if not line.strip():
            return
        yield line.strip()
    raise Failure(Exit.BAD_INPUT, "EOF")


def parse_comparison(line: str) -> rpc_pb2.Compare:
    """A comparison such as `mod("key") > "0"`; a lease is written in hexadecimal. Raises Failure."""
    from etcdpy.proto import rpc_pb2

    target, bracket, rest = line.partition("(")
    if not bracket:
        raise Failure(Exit.BAD_INPUT, f"malformed comparison: {line}")
    key, sign, value = _read_comparison(line, target, rest)
    field = _TARGETS.get(target)
    if field is None:
        raise Failure(Exit.BAD_INPUT, f"malformed comparison: {line} (unknown target {target})")
    if sign not in _SIGNS:
        raise Failure(Exit.BAD_INPUT, f"malformed comparison: {line} (unknown result {sign})")
    compare = rpc_pb2.Compare(key=_raw(key), result=rpc_pb2.Compare.CompareResult.Value(_SIGNS[sign]))
    compare.target = _target_of(field)
    if field == "value":
        compare.value = _raw(value)
        return compare
    try:
        setattr(compare, field, parse_go_int(value, 16 if field == "lease" else 10))
    except ValueError:
        raise Failure(Exit.BAD_INPUT, f"invalid txn compare request: {line}") from None
    return compare


def _target_of(field: str) -> rpc_pb2.Compare.CompareTarget.ValueType:
    from etcdpy.proto.rpc_pb2 import Compare

    return Compare.CompareTarget.Value(field.removesuffix("_revision").upper())


def _read_comparison(line: str, target: str, rest: str) -> tuple[str, str, str]:
    found = _COMPARISON.match(rest)
    if found is None:
        raise Failure(Exit.BAD_INPUT, _malformed(line, target, rest))
    try:
        return unquote(found[1]), found[2], unquote(found[3])
    except ValueError as error:
        raise Failure(Exit.BAD_INPUT, f"malformed comparison: {line} ({error})") from None


def _malformed(line: str, target: str, rest: str) -> str:
    """etcdctl shows how far it could read."""
    key = re.match(r'\s*("(?:[^"\\]|\\.)*")', rest)
    sign = re.match(r"\)\s+(\S+)", rest[key.end() :]) if key else None
    read = f"{target}({key[1] if key else quote('')}) {sign[1] if sign else ''} {quote('')}"
    return f"malformed comparison: {line}; got {read}"


def parse_operation(line: str) -> rpc_pb2.RequestOp:
    """A line such as `put key value --lease=1a`. Raises Failure."""
    from etcdpy.proto import rpc_pb2

    words = split_line(line)
    if len(words) < 2:
        raise Failure(Exit.BAD_INPUT, f"invalid txn compare request: {line}")
    name, *arguments = words
    found = [each for each in OPERATIONS if each.name.startswith(name)]
    if len(found) != 1:
        raise Failure(Exit.BAD_INPUT, f"invalid txn request: {line}")
    operation = found[0]
    try:
        given: dict[str, Any] = without_globals(operation.command).make_context(operation.name, arguments).params
    except FlagError:
        raise Failure(Exit.BAD_INPUT, f"invalid txn request: {line}") from None
    return rpc_pb2.RequestOp(**{operation.field: operation.request(**given)})


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
