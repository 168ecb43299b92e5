"""`grpc-proxy start --experimental-leasing-prefix`: proxies of both kinds own keys of one cluster and yield them to
each other. What an owner reads is right though it does not ask, which shows while the member stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.interop.test_grpc_proxy import proxies_before
from tests.support.client import CALL_SECONDS_MAX, Client, prefix_end, refusal_of, wait_until
from tests.support.histories import perform
from tests.support.linear_kv import Compare, Get, Put, Txn, check
from tests.support.linearizability import Call
from tests.support.members import KINDS, Member
from tests.support.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.linear_kv import Request

pytestmark = pytest.mark.reference

LEASES: Final = b"leases/"
FLAG: Final = f"--experimental-leasing-prefix={LEASES.decode()}"
Op = rpc_pb2.RequestOp


class Before:
    """A client of a proxy of each kind, of another of ours, and of the member behind them."""

    def __init__(self, member: Member, clients: dict[str, Client], beside: Client) -> None:
        self.member = member
        self.clients = clients
        self.beside = beside

    def owner(self, key: bytes) -> list[kv_pb2.KeyValue]:
        """The record of a key's owner."""
        return list(self.beside.range(LEASES + key).kvs)

    def own(self, kind: str, key: bytes) -> None:
        """Let a proxy own a key, which a writer may have taken from it a little while ago."""

        def owned() -> bool:
            self.clients[kind].range(key)
            records = self.owner(key)
            return bool(records) and records[0].lease not in others and records[0].value == b""

        others = {lease for other, lease in self.leases.items() if other != kind}
        wait_until(owned)
        self.leases.setdefault(kind, self.owner(key)[0].lease)

    leases: Final[dict[str, int]] = {}
    """Of the proxies' sessions, as far as they are known."""


@pytest.fixture(scope="module")
def before(member: Member, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Before]:
    directory = tmp_path_factory.mktemp("leasing")
    with (
        proxies_before([member.endpoint], directory, FLAG) as proxies,
        Proxy("etcdpy", "grpc-proxy", directory, [member.endpoint], [FLAG]) as third,
        contextlib.ExitStack() as stack,
    ):
        endpoints: dict[str, str] = {kind: proxies[kind].endpoint for kind in KINDS} | {"other": third.endpoint}
        clients = {name: stack.enter_context(Client(endpoint)) for name, endpoint in endpoints.items()}
        found = Before(member, clients, stack.enter_context(Client.of(member)))
        found.leases.clear()
        for name in clients:
            found.own(name, b"first/" + name.encode())
        yield found


@contextlib.contextmanager
def standing_still(member: Member) -> Iterator[None]:
    os.kill(member.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(member.pid, signal.SIGCONT)


def put(key: bytes, value: bytes) -> Op:
    return Op(request_put=rpc_pb2.PutRequest(key=key, value=value))


def delete(key: bytes, end: bytes = b"") -> Op:
    return Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end))


WRITES: Final[dict[str, Callable[[Client, bytes], Any]]] = {
    "put": lambda client, key: client.put(key, b"new"),
    "delete": lambda client, key: client.delete(key),
    "delete-range": lambda client, key: client.delete(key, prefix_end(key)),
    "txn": lambda client, key: client.txn(success=[put(key, b"new")]),
    "txn-nested": lambda client, key: client.txn(
        success=[Op(request_txn=rpc_pb2.TxnRequest(success=[put(key, b"new"), put(key + b"2", b"new")]))]
    ),
    "txn-range": lambda client, key: client.txn(success=[delete(key, prefix_end(key)), put(b"/elsewhere", b"x")]),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("owner", "writer"), [("etcd", "etcdpy"), ("etcdpy", "etcd"), ("etcdpy", "other")])
def test_who_writes_takes_the_key_from_its_owner(
    before: Before, prefix: bytes, owner: str, writer: str, write: str
) -> None:
    key = prefix + b"k"
    before.clients[writer].put(key, b"old")
    before.own(owner, key)
    WRITES[write](before.clients[writer], key)
    found = before.clients[owner].range(key)
    assert [record.value for record in found.kvs] == (
        [b"new"] if "delete" not in write and write != "txn-range" else []
    )
    assert found.kvs == before.beside.range(key).kvs
    assert not before.owner(key)


@pytest.mark.parametrize("write", WRITES)
def test_the_owner_writes(before: Before, prefix: bytes, write: str) -> None:
    """What it reads afterwards is what the member has, to the last field, and it may still own the key."""
    key, ours = prefix + b"k", before.clients["etcdpy"]
    before.own("etcdpy", key)
    for value in (b"1", b"2"):
        ours.put(key, value)
        assert ours.range(key).kvs == before.beside.range(key).kvs
    WRITES[write](ours, key)
    assert ours.range(key).kvs == before.beside.range(key).kvs
    if write != "txn-range":
        assert before.owner(key)[0].lease == before.leases["etcdpy"]
        with standing_still(before.member):
            assert ours.range(key).count == (0 if "delete" in write else 1)


REQUESTS: Final = [
    {},
    {"keys_only": True},
    {"count_only": True},
    {"limit": 1},
    {"serializable": True},
    *({name: number} for name in ("min_mod_revision", "max_create_revision") for number in (1, 1 << 40)),
    *({name: number} for name in ("max_mod_revision", "min_create_revision") for number in (1, 1 << 40)),
    {"sort_order": 2, "sort_target": 3},
]


def test_reads_without_the_member(before: Before, prefix: bytes) -> None:
    """They are answered while it stands still, as it answers them. So are transactions that only read."""
    there, nothing, ours = prefix + b"there", prefix + b"nothing", before.clients["etcdpy"]
    ours.put(there, b"value")
    requests = [rpc_pb2.RangeRequest(key=key, **fields) for key in (there, nothing) for fields in REQUESTS]  # type: ignore[arg-type]
    compares = [
        rpc_pb2.Compare(key=key, result=result, target=target, **{name: operand})  # type: ignore[arg-type]
        for key in (there, nothing)
        for result in rpc_pb2.Compare.CompareResult.values()
        for target, name, operands in (
            (rpc_pb2.Compare.VALUE, "value", (b"", b"value", b"w")),
            (rpc_pb2.Compare.VERSION, "version", (0, 1, 2)),
            (rpc_pb2.Compare.LEASE, "lease", (0, 1)),
            (rpc_pb2.Compare.MOD, "mod_revision", (0, 1 << 40)),
        )
        for operand in operands
    ]
    reads = [Op(request_range=request) for request in requests]
    transactions = [rpc_pb2.TxnRequest(compare=[each], success=reads[:9], failure=reads[9:]) for each in compares]
    truth = [before.beside.kv.Range(request) for request in requests]
    truths = [before.beside.kv.Txn(transaction) for transaction in transactions]
    for key in (there, nothing):
        before.own("etcdpy", key)
    with standing_still(before.member):
        found = [ours.kv.Range(request, timeout=CALL_SECONDS_MAX) for request in requests]
        answers = [ours.kv.Txn(transaction, timeout=CALL_SECONDS_MAX) for transaction in transactions]
    for answer in (*truth, *found):
        answer.header.Clear()
    assert found == truth
    for one in (*truths, *answers):
        one.header.Clear()
        for response in one.responses:
            assert response.response_range.header.revision
            response.response_range.header.Clear()
    assert answers == truths


def test_what_is_not_owned(before: Before, prefix: bytes) -> None:
    """A key with a lease goes by itself, so nobody owns it; ranges and the past are read at the member."""
    ours, lease = before.clients["etcdpy"], before.beside.grant(60).ID
    first, second = prefix + b"1", prefix + b"2"
    ours.put(first, b"x", lease=lease)
    assert ours.range(first).kvs[0].lease == lease
    before.own("etcdpy", second)
    ours.put(second, b"x", lease=lease)
    ours.range(prefix, prefix_end(prefix))
    ours.range(second, revision=1)
    wait_until(lambda: not before.owner(first) and not before.owner(second))
    before.beside.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease))
    assert [ours.range(key).count for key in (first, second)] == [0, 0]


def test_refusals_are_the_members(before: Before, prefix: bytes) -> None:
    ours, key = before.clients["etcdpy"], prefix + b"k"
    before.own("etcdpy", key)
    calls: list[Callable[[Client], Any]] = [
        lambda client: client.put(b"", b"x"),
        lambda client: client.put(key, b"", ignore_value=True),
        lambda client: client.put(key, b"", lease=4711),
        lambda client: client.delete(b""),
        lambda client: client.range(b""),
        lambda client: client.txn(success=[put(key, b"1"), put(key, b"2")]),
        lambda client: client.txn(success=[Op(request_txn=rpc_pb2.TxnRequest(success=[put(b"", b"")]))]),
    ]
    for call in calls:
        refusals = []
        for client in (ours, before.beside):
            with pytest.raises(grpc.RpcError) as caught:
                call(client)
            refusals.append(refusal_of(caught.value))
        assert refusals[0] == refusals[1]
    assert ours.range(key).kvs == before.beside.range(key).kvs


def test_a_session_that_is_lost(before: Before, prefix: bytes) -> None:
    """Another takes its place; until then everything is read at the member."""
    ours, key = before.clients["etcdpy"], prefix + b"k"
    ours.put(key, b"1")
    before.own("etcdpy", key)
    before.beside.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=before.leases.pop("etcdpy")))
    before.beside.put(key, b"2")
    wait_until(lambda: ours.range(key).kvs[0].value == b"2")
    before.own("etcdpy", key)


def test_a_proxy_that_stops_gives_its_keys_back(member: Member, before: Before, prefix: bytes, tmp_path: Any) -> None:
    key = prefix + b"k"
    flags = [FLAG, f"--namespace={prefix.decode()}"]
    with (
        Proxy("etcdpy", "grpc-proxy", tmp_path, [member.endpoint], flags) as proxy,
        Client(proxy.endpoint) as client,
    ):
        client.put(b"k", b"1")
        # The keys of owners stand in the namespace, as etcd's proxy has it.
        wait_until(lambda: bool(client.range(b"k").kvs and before.beside.range(prefix + LEASES + b"k").kvs))
        client.put(b"k", b"2")
        assert client.range(b"k").kvs[0].key == b"k"
        assert before.beside.range(key).kvs[0].value == b"2"
    assert not before.beside.range(prefix + LEASES + b"k").kvs


def test_histories_are_linearizable(before: Before, prefix: bytes) -> None:
    """Clients of two proxies that take the same keys from each other all the time."""
    calls: list[Call] = []
    ends_at = time.monotonic() + 2.0
    versions: dict[bytes, int] = {}

    def run(number: int, client: Client) -> None:
        random = Random(number)
        count = 0
        while time.monotonic() < ends_at:
            count += 1
            key, draw, value = prefix + b"%d" % random.randrange(3), random.random(), b"%d.%d" % (number, count)
            request: Request = Get(key)
            if draw > 0.96:
                request = Put(key, value, previous=True)
            elif draw > 0.92:
                request = Txn((Compare(key, versions.get(key, 0)),), (Put(key, value),), (Get(key),))
            called = time.monotonic()
            response = perform(client, request, CALL_SECONDS_MAX)
            calls.append(Call(number, request, called, time.monotonic(), response))
            if isinstance(request, Get) and response is not None:
                versions[key] = response.version  # type: ignore[attr-defined]

    clients = [before.clients[name] for name in ("etcdpy", "other", "etcdpy", "other")]
    threads = [threading.Thread(target=run, args=item) for item in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) > 200
    violation = check(calls)
    assert violation is None, str(violation)
