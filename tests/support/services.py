"""The services that recipes are made of, over a real store and watch hub in memory; a test says when to apply."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from etcdpy.api.header import HeaderSource
from etcdpy.api.proposals import Waiting
from etcdpy.api.recipes import Inside
from etcdpy.apply.alarms import AlarmStore
from etcdpy.apply.applier import Applier
from etcdpy.apply.entry_data import EntryEncoder
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import NoTokens
from etcdpy.lease.lessor import Lessor
from etcdpy.membership.members import Membership
from etcdpy.mvcc import txn
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.watch import WatchHub
from etcdpy.proto import rpc_pb2
from etcdpy.raft.entry import Entry
from etcdpy.transport.calls import Peer
from etcdpy.transport.heads import RequestHead
from etcdpy.transport.local_calls import LocalCall
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from google.protobuf.message import Message

    from etcdpy.errors import EtcdError
    from etcdpy.transport.calls import Call, StreamCall


def _last_of(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


class MemoryServices:
    """KV, Lease and Watch for `Inside`. Belongs to the running event loop."""

    def __init__(self) -> None:
        backend = MemoryBackend()
        self.lessor = Lessor(backend, minimum_ttl=2)
        self.store = Store(backend, self.lessor)
        self.hub = WatchHub(
            BackendHistory(backend, self.store),
            cluster_id=1,
            member_id=2,
            random=Random(1),
            progress_interval_seconds=600,
            max_request_bytes=1 << 20,
        )
        group = cast("Any", SimpleNamespace())
        self._applier = Applier(
            self.store,
            self.lessor,
            Membership(backend),
            AlarmStore(backend),
            AuthStore(backend, NoTokens()),
            group,
            now=lambda: 0.0,
            stopwatch=lambda: 0.0,
        )
        self._encoder = EntryEncoder(1)
        self._header = HeaderSource(1, 2)
        self.pending: deque[Waiting] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.bugs: list[Exception] = []
        self.refusal: EtcdError | None = None
        """What writes are refused with from now on."""
        services = cast("Any", self)
        self.inside = Inside(services, services, services, self.spawn, self.bugs.append)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # --- the services ---

    def range(self, call: Call, body: bytes) -> None:
        """Linearizable: it comes after all writes under way."""
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest.FromString(body))
        response = rpc_pb2.TxnResponse.FromString(self._read(rpc_pb2.TxnRequest(success=[read])))
        inner = response.responses[0].response_range
        inner.ClearField("header")
        call.finish(self._header.embed(self.store.current_revision) + inner.SerializeToString())

    def _read(self, request: rpc_pb2.TxnRequest) -> bytes:
        return cast("bytes", _last_of(txn.read_only_steps(self.store, request)))

    def txn(self, call: Call, body: bytes) -> None:
        self._propose("txn", rpc_pb2.TxnRequest.FromString(body), call)

    def delete_range(self, call: Call, body: bytes) -> None:
        self._propose("delete_range", rpc_pb2.DeleteRangeRequest.FromString(body), call)

    def grant(self, call: Call, body: bytes) -> None:
        request = rpc_pb2.LeaseGrantRequest.FromString(body)
        request.ID = 1000 + len(self.lessor.leases())
        self._propose("lease_grant", request, call)

    async def watch(self, call: StreamCall) -> None:
        stream = self.hub.open_stream(call, 0.0)
        try:
            while (body := await call.receive()) is not None:
                stream.handle(rpc_pb2.WatchRequest.FromString(body))
                self._deliver()
            await asyncio.Event().wait()
        finally:
            stream.close()

    # --- the log ---

    def _propose(self, kind: str, request: Message, call: Call) -> None:
        if self.refusal is not None:
            raise self.refusal
        data = self._encoder.encode(kind, request.SerializeToString())
        self.pending.append(Waiting(kind, request, data, call, self._header))

    def apply_one(self) -> bool:
        """Apply the oldest write that waits; whether there was one."""
        if not self.pending:
            return False
        proposal = self.pending.popleft()
        self._applier.apply_all([Entry(proposal.data, proposal, 1, self._applier.applied_index + 1)])
        self._deliver()
        return True

    def _deliver(self) -> None:
        changes, self.store.changes = self.store.changes, []
        self.hub.notify(changes or [])
        while self.hub.has_work:
            self.hub.sync_slice()

    # --- clients ---

    def call(self) -> LocalCall:
        """A call as a client's."""
        return LocalCall(RequestHead(), Peer("test"), self.bugs.append)

    def write(self, kind: str, request: Message) -> asyncio.Future[list[bytes]]:
        """A write of a client's own, among those that wait."""
        call = self.call()
        self._propose(kind, request, call)
        return call.outcome

    async def settle(self, *, apply: bool = True) -> None:
        """Until nothing happens any more; with `apply`, everything that waits is applied."""
        for _ in range(4):
            await asyncio.sleep(0)
        while apply and self.apply_one():
            for _ in range(12):
                await asyncio.sleep(0)

    async def close(self) -> None:
        while self.tasks:
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


def started(handler: Callable[[Call, bytes], None], services: MemoryServices, request: Message) -> LocalCall:
    """A call to a handler, under way."""
    call = services.call()
    call.begin(handler, request.SerializeToString())
    return call
