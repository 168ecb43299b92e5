"""What clients did to a cluster and what they saw, for the linearizability checker."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final, Self

import grpc

from etcdpy.proto import rpc_pb2
from tests.support.client import Client
from tests.support.cluster import SOON
from tests.support.linear_kv import Compare, Get, Item, Put, Txn, check
from tests.support.linearizability import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.proto import kv_pb2
    from tests.support.cluster import Cluster, ClusterMember
    from tests.support.linear_kv import Request

CLIENTS: Final = 4
KEYS: Final = 4
CALL_SECONDS_MAX: Final = 1.0
PAUSE_SECONDS: Final = 0.003
"""Between a client's calls: some thousand calls in a scenario, which the checker gets through in a second or two."""
PAUSE_AFTER_FAILURE_SECONDS: Final = 0.05


def item_of(pairs: Sequence[kv_pb2.KeyValue]) -> Item | None:
    """A key as the model sees it."""
    return Item(pairs[0].value, pairs[0].version) if pairs else None


def perform(client: Client, request: Request, seconds_max: float = CALL_SECONDS_MAX) -> object:
    """Send a request of the model's; the response in the model's terms. Raises grpc.RpcError."""
    if isinstance(request, Get):
        return item_of(client.kv.Range(rpc_pb2.RangeRequest(key=request.key), timeout=seconds_max).kvs)
    if isinstance(request, Put):
        put = rpc_pb2.PutRequest(key=request.key, value=request.value, prev_kv=request.previous)
        answer = client.kv.Put(put, timeout=seconds_max)
        return item_of([answer.prev_kv] if answer.HasField("prev_kv") else [])
    assert isinstance(request, Txn)
    (compare,), (then,), (otherwise,) = request.compares, request.success, request.failure
    assert isinstance(then, Put)
    assert isinstance(otherwise, Get)
    version = rpc_pb2.Compare(
        key=compare.key, result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.VERSION, version=compare.version
    )
    transaction = rpc_pb2.TxnRequest(
        compare=[version],
        success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=then.key, value=then.value))],
        failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=otherwise.key))],
    )
    done = client.kv.Txn(transaction, timeout=seconds_max)
    return done.succeeded, (None if done.succeeded else item_of(done.responses[0].response_range.kvs),)


def changes(call: Call) -> bool:
    """Whether the call is known to have written."""
    if call.returned is None or isinstance(call.request, Get):
        return False
    return isinstance(call.request, Put) or bool(call.response[0])


class Histories:
    """Clients that read and write from threads of their own until the end of the context, each call written down.

    A client stays with a member until a call fails, then goes to the next.
    """

    def __init__(self, cluster: Cluster, prefix: bytes, *, seed: str = "histories") -> None:
        """`prefix`: of the keys; nobody else may have written there."""
        self._cluster = cluster
        self._prefix = prefix
        self._seed = seed
        self._ending = threading.Event()
        self._arrived = threading.Condition()
        self.calls: list[Call] = []
        self.writes = 0
        """Acknowledged puts, and transactions that changed something."""
        self._versions: dict[bytes, int] = {}
        """Of each key the newest version that was seen: what a transaction has a chance with."""
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait_writes(self, count: int = 10, seconds_max: float = 10.0) -> None:
        """Wait until that many more writes were acknowledged."""
        with self._arrived:
            wanted = self.writes + count
            assert self._arrived.wait_for(lambda: self.writes >= wanted, seconds_max), (
                f"{self.writes} of {wanted} writes were acknowledged"
            )

    def assert_linearizable(self) -> None:
        """Some order explains all that the clients saw. Not before the end."""
        assert not any(thread.is_alive() for thread in self._threads)
        violation = check(self.calls)
        assert violation is None, str(violation)

    # --- a client ---

    def _run(self, number: int) -> None:
        random = Random(f"{self._seed}/{number}")
        clients: dict[str, Client] = {}
        member = self._next_member(number)
        try:
            for count in itertools.count():
                if self._ending.is_set():
                    return
                if member.name not in clients:
                    clients[member.name] = Client(member.endpoint, member.tls, SOON)
                request = self._draw(random, b"%d.%d" % (number, count))
                if self._call(number, clients[member.name], request):
                    time.sleep(PAUSE_SECONDS)
                else:
                    time.sleep(PAUSE_AFTER_FAILURE_SECONDS)
                    member = self._next_member(number, member)
        finally:
            for client in clients.values():
                client.close()

    def _next_member(self, number: int, after: ClusterMember | None = None) -> ClusterMember:
        members = [member for member in self._cluster.members if member.running] or self._cluster.members
        place = members.index(after) + 1 if after in members else number
        return members[place % len(members)]

    def _draw(self, random: Random, value: bytes) -> Request:
        key = self._prefix + b"%d" % random.randrange(KEYS)
        draw = random.random()
        if draw < 0.4:
            return Get(key)
        if draw < 0.7:
            return Put(key, value, previous=True)
        return Txn((Compare(key, self._versions.get(key, 0)),), (Put(key, value),), (Get(key),))

    def _call(self, number: int, client: Client, request: Request) -> bool:
        called = time.monotonic()
        try:
            response = perform(client, request)
        except grpc.RpcError:
            if not isinstance(request, Get):  # it may have happened all the same, or may yet
                self._note(Call(number, request, called))
            return False
        self._note(Call(number, request, called, time.monotonic(), response))
        return True

    def _note(self, call: Call) -> None:
        with self._arrived:
            self.calls.append(call)
            self.writes += changes(call)
            if isinstance(call.response, Item):
                self._versions[call.request.key] = call.response.version
            self._arrived.notify_all()


def replaced(calls: Sequence[Call], chosen: Callable[[Call], bool], response: object) -> list[Call]:
    """The same history with another response in the last call that is chosen."""
    place = max(number for number, call in enumerate(calls) if chosen(call))
    return [*calls[:place], replace(calls[place], response=response), *calls[place + 1 :]]
