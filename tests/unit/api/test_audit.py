"""The audit log's lines: which calls have one, what is in it, and what never is."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy import limits
from etcdpy.api import audit
from etcdpy.api.audit import AuditLog
from etcdpy.api.services import method_table
from etcdpy.errors import Code, LeaseNotFound, NoSpace
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

SECRET = "hunter2"


class Call:
    def __init__(self) -> None:
        self.peer = Peer("10.0.0.7:4711", "ann")
        self.head = SimpleNamespace()
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self.answers: list[Any] = []

    def finish(self, message: bytes) -> None:
        self.answers.append(message)

    def finish_parts(self, parts: list[bytes]) -> None:
        self.answers.append(b"".join(parts))

    def fail(self, error: Exception) -> None:
        self.answers.append(error)


class World:
    """A method table whose handlers do what a test wants, under an audit log."""

    def __init__(self, handler: Callable[[Any, bytes], None], *, hash_keys: bool = False) -> None:
        self.lines: list[str] = []

        async def stream(_call: Any) -> None:
            handler(_call, b"")

        names = {name: handler for name in audit._SHOWN if name != "Maintenance.Snapshot"}
        nothing = {f"Health.{name}": handler for name in ("Check", "List", "Watch")}
        self.methods = method_table({**names, "KV.Range": handler, "Maintenance.Snapshot": stream, **nothing})
        log = AuditLog(self.lines.append, lambda call: call.peer.common_name or "", lambda: "now", hash_keys)
        log.wrap(self.methods)

    def call(self, name: str, request: Message) -> Call:
        service, _, method = name.partition(".")
        package = {"Lock": "v3lockpb", "Election": "v3electionpb"}.get(service, "etcdserverpb")
        made = Call()
        self.methods[f"/{package}.{service}/{method}".encode()].handler(made, request.SerializeToString())
        return made

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        found: dict[str, Any] = json.loads(line)
        return found


def well(call: Any, _body: bytes) -> None:
    call.finish(b"ok")


def put_op(key: bytes, value: bytes = b"v") -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))


def range_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))


def delete_op(key: bytes, end: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end))


def test_a_put() -> None:
    world = World(well)
    call = world.call("KV.Put", rpc_pb2.PutRequest(key=b"k\xff", value=SECRET.encode(), lease=7))
    assert world.line == {
        "time": "now",
        "user": "ann",
        "from": "10.0.0.7:4711",
        "method": "/etcdserverpb.KV/Put",
        "request": {"lease": 7},
        "keys": [{"op": "put", "key": "k\\xff"}],
        "outcome": "OK",
    }
    assert call.answers == [b"ok"]


def test_every_write_of_a_transaction_is_named_and_its_values_and_compares_are_not() -> None:
    world = World(well)
    inner = rpc_pb2.TxnRequest(failure=[delete_op(b"x", b"z")])
    request = rpc_pb2.TxnRequest(
        compare=[rpc_pb2.Compare(key=b"c", target=rpc_pb2.Compare.VALUE, value=SECRET.encode())],
        success=[put_op(b"a", SECRET.encode()), range_op(b"r"), rpc_pb2.RequestOp(request_txn=inner)],
        failure=[put_op(b"b")],
    )
    world.call("KV.Txn", request)
    assert world.line["keys"] == [
        {"op": "put", "key": "a"},
        {"op": "delete", "key": "x", "range_end": "z"},
        {"op": "put", "key": "b"},
    ]
    assert SECRET not in world.lines[0]


def test_reads_have_no_line() -> None:
    world = World(well)
    world.call("KV.Range", rpc_pb2.RangeRequest(key=b"k"))
    world.call("KV.Txn", rpc_pb2.TxnRequest(success=[range_op(b"k")]))
    world.call("Maintenance.Alarm", rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET))
    assert world.lines == []
    world.call(
        "Maintenance.Alarm",
        rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=7, alarm=rpc_pb2.NOSPACE),
    )
    assert world.line["request"] == {"action": 2, "memberID": 7, "alarm": 1}


def test_a_request_cannot_pass_off_another_as_its_caller() -> None:
    world = World(well)
    world.call("Auth.UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user="bob", role="root"))
    assert world.line["user"] == "ann"
    assert world.line["request"] == {"user": "bob", "role": "root"}


def test_every_method_that_is_no_read_has_a_line() -> None:
    """A method that comes to the API later must be listed, or be known to change nothing."""
    reads = {"KV.Range", "KV.RangeStream", "Watch.Watch", "Lease.LeaseKeepAlive", "Lease.LeaseTimeToLive"}
    reads |= {"Lease.LeaseLeases", "Cluster.MemberList", "Maintenance.Status", "Maintenance.Hash", "Maintenance.HashKV"}
    reads |= {"Election.Leader", "Election.Observe"}
    assert set(audit._request_types()) - reads == set(audit._SHOWN)


def test_what_is_shown_exists_and_is_no_secret() -> None:
    requests = audit._request_types()
    for name, shown in audit._SHOWN.items():
        fields = {field.name for field in requests[name].DESCRIPTOR.fields}
        assert set(shown) <= fields, name
        assert not {"password", "hashedPassword", "value", "token"} & set(shown)


@pytest.mark.parametrize("name", sorted(audit._SHOWN))
def test_no_password_value_or_token_reaches_a_line(name: str) -> None:
    """Every field that could hold one is filled with it."""
    if name == "Maintenance.Snapshot":
        return
    world = World(well)
    request: Any = audit._request_types()[name]()
    for field in request.DESCRIPTOR.fields:
        if field.name in ("password", "hashedPassword"):
            setattr(request, field.name, SECRET)
        elif field.name == "value":
            setattr(request, field.name, SECRET.encode())
        elif field.name in ("name", "user", "role") and field.type == field.TYPE_STRING:
            setattr(request, field.name, "bob")
    if name == "KV.Txn":
        request.success.add().request_put.value = SECRET.encode()
    if name == "Maintenance.Alarm":
        request.action = rpc_pb2.AlarmRequest.ACTIVATE
    world.call(name, request)
    assert SECRET not in world.lines[0]
    assert world.line["outcome"] == "OK"


def test_the_grant_of_a_permission() -> None:
    world = World(well)
    request: Any = rpc_pb2.AuthRoleGrantPermissionRequest(name="ops")
    request.perm.permType = 2
    request.perm.key, request.perm.range_end = b"a", b"b"
    world.call("Auth.RoleGrantPermission", request)
    assert world.line["request"] == {"name": "ops"}
    assert world.line["keys"] == [{"op": "grant readwrite", "key": "a", "range_end": "b"}]
    request.perm.permType = 9
    world.lines.clear()
    world.call("Auth.RoleGrantPermission", request)
    assert world.line["keys"][0]["op"] == "grant"


def test_keys_may_be_shown_as_digests() -> None:
    world = World(well, hash_keys=True)
    world.call("KV.DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"alpha", range_end=b"beta"))
    (entry,) = world.line["keys"]
    assert entry["key"] == "8ed3f6ad685b959ead7022518e1af76c"  # the start of: printf alpha | sha256sum
    assert len(entry["range_end"]) == audit.DIGEST_CHARS
    assert "alpha" not in world.lines[0]


def test_long_keys_and_long_transactions_are_cut() -> None:
    world = World(well)
    world.call("KV.Put", rpc_pb2.PutRequest(key=b"k" * 5000))
    assert len(world.line["keys"][0]["key"]) == limits.AUDIT_KEY_BYTES_MAX
    world.lines.clear()
    operations = [put_op(b"%d" % number) for number in range(limits.AUDIT_KEYS_MAX + 1)]
    world.call("KV.Txn", rpc_pb2.TxnRequest(success=operations))
    assert len(world.line["keys"]) == limits.AUDIT_KEYS_MAX
    assert world.line["more_keys"] is True
    world.lines.clear()
    world.call("KV.Txn", rpc_pb2.TxnRequest(success=[range_op(b"r")] * (limits.AUDIT_OPERATIONS_MAX + 1)))
    assert "keys" not in world.line


def test_outcomes() -> None:
    def fail(call: Any, _body: bytes) -> None:
        call.fail(LeaseNotFound())

    def refuse(_call: Any, _body: bytes) -> None:
        raise NoSpace

    def crash(_call: Any, _body: bytes) -> None:
        raise ZeroDivisionError

    request = rpc_pb2.PutRequest(key=b"k")
    world = World(fail)
    world.call("KV.Put", request)
    assert world.line["outcome"] == "NotFound"
    world = World(refuse)
    with pytest.raises(NoSpace):
        world.call("KV.Put", request)
    assert world.line["outcome"] == "ResourceExhausted"
    world = World(crash)
    with pytest.raises(ZeroDivisionError):
        world.call("KV.Put", request)
    assert world.line["outcome"] == "Internal"


def test_a_client_that_leaves_has_a_line_and_so_has_what_comes_of_its_request() -> None:
    kept: list[Any] = []
    ended: list[bool] = []

    def keep(call: Any, _body: bytes) -> None:
        call.on_cancel = lambda: ended.append(True)
        kept.append(call)

    world = World(keep)
    call = world.call("KV.Put", rpc_pb2.PutRequest(key=b"k"))
    assert world.lines == []
    assert call.on_cancel is not None
    call.on_cancel()
    assert ended == [True]
    assert world.line["outcome"] == "Canceled"
    kept[0].finish(b"late")
    assert [json.loads(line)["outcome"] for line in world.lines] == ["Canceled", "OK"]


def test_what_is_no_request_is_left_to_the_handler() -> None:
    seen: list[bytes] = []
    world = World(lambda _call, body: seen.append(body))
    world.methods[b"/etcdserverpb.KV/Put"].handler(SimpleNamespace(), b"\x0a\x7f")
    assert (seen, world.lines) == ([b"\x0a\x7f"], [])


@pytest.mark.parametrize(("error", "outcome"), [(None, "OK"), (NoSpace(), Code.RESOURCE_EXHAUSTED.label)])
def test_a_snapshot_is_a_stream(error: Exception | None, outcome: str) -> None:
    def handler(_call: Any, _body: bytes) -> None:
        if error is not None:
            raise error

    world = World(handler)
    method = world.methods[b"/etcdserverpb.Maintenance/Snapshot"]
    assert method.kind is Kind.SERVER_STREAM
    try:
        asyncio.run(method.handler(Call()))
    except NoSpace:
        pass
    assert world.line["outcome"] == outcome
