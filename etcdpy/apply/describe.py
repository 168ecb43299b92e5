"""A request as a log line may show it: as etcd writes it, with the sizes of values in place of values.

Only what is named here is shown. Of a request about users that is the user's or the role's name, never a password or a
token; of a kind that is not named here, its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.text_encoding import CEscape
from google.protobuf.text_format import MessageToString

from etcdpy.limits import LOG_BYTES_FIELD_MAX, LOG_REQUEST_CHARS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etcdpy.proto import rpc_pb2

_OPERATIONS: Final = {
    "request_put": "put",
    "request_range": "range",
    "request_delete_range": "delete_range",
    "request_txn": "txn",
}

_WITHOUT_SECRETS: Final = frozenset(
    (
        "range",
        "delete_range",
        "compaction",
        "alarm",
        "lease_checkpoint",
        "cluster_version_set",
        "cluster_member_attr_set",
        "downgrade_info_set",
    )
)
"""Kinds whose every field may be shown."""

_NAMES: Final = ("name", "user", "role")


def describe(kind: str, request: Any) -> str:
    """`put:<key:"foo" value_size:3 >`. Cut at a bound, however long the request is."""
    return _cut("".join(_up_to(_parts(kind, request))))


def content(kind: str, request: Any) -> str:
    """The same without the kind around it, as etcd's `request content` has it."""
    return _cut("".join(_up_to(_inside(kind, request))))


def _up_to(parts: Iterator[str]) -> Iterator[str]:
    """No more parts than a line shows: a transaction may have hundreds of thousands of operations."""
    size = 0
    for part in parts:
        yield part
        size += len(part)
        if size > LOG_REQUEST_CHARS_MAX:
            return


def _cut(text: str) -> str:
    return text if len(text) <= LOG_REQUEST_CHARS_MAX else text[:LOG_REQUEST_CHARS_MAX] + "..."


def _parts(kind: str, request: Any) -> Iterator[str]:
    yield f"{kind}:<"
    yield from _inside(kind, request)
    yield ">"


def _inside(kind: str, request: Any) -> Iterator[str]:
    if kind == "put":
        yield _put(request)
    elif kind == "txn":
        yield "compare:<"
        for compare in request.compare:
            yield _compare(compare)
        for name, branch in (("success", request.success), ("failure", request.failure)):
            yield f"> {name}:<"
            yield from _branch(branch)
        yield ">"
    elif kind == "lease_grant":
        yield f"ttl:{request.TTL}-second id:{request.ID:016x}"
    elif kind == "lease_revoke":
        yield f"id:{request.ID:016x}"
    elif kind in _WITHOUT_SECRETS:
        yield MessageToString(_shortened(request), as_one_line=True)
    else:
        shown = ((name, getattr(request, name, "")) for name in _NAMES)
        yield " ".join(f"{name}:{value}" for name, value in shown if isinstance(value, str) and value)


def _branch(operations: Iterable[rpc_pb2.RequestOp]) -> Iterator[str]:
    for operation in operations:
        chosen = operation.WhichOneof("request")
        if chosen is not None:
            yield f"{chosen}:<"
            yield from _inside(_OPERATIONS[chosen], getattr(operation, chosen))
            yield "> "


def _put(request: Any) -> str:
    text = f'key:"{_text(request.key)}" value_size:{len(request.value)} '
    if request.lease:
        text += f"lease:{request.lease} "
    flags = ("prev_kv", "ignore_value", "ignore_lease")
    return text + "".join(f"{name}:true " for name in flags if getattr(request, name))


def _compare(compare: rpc_pb2.Compare) -> str:
    target = compare.WhichOneof("target_union")
    shown = _shortened(compare)
    if target != "value":
        return MessageToString(shown, as_one_line=True) + " "
    size = len(compare.value)
    shown.ClearField("value")
    return f"{MessageToString(shown, as_one_line=True)} value_size:{size} "


def _shortened(request: Any) -> Any:
    """A copy whose keys are no longer than a line shows."""
    shown = request.__class__()
    shown.CopyFrom(request)
    for name in ("key", "range_end"):
        value = getattr(shown, name, b"")
        if len(value) > LOG_BYTES_FIELD_MAX:
            setattr(shown, name, value[:LOG_BYTES_FIELD_MAX])
    return shown


def _text(key: bytes) -> str:
    return str(CEscape(key[:LOG_BYTES_FIELD_MAX], as_utf8=False))
