"""Linearizable reads without the cluster: the leasing protocol of etcd's clients and proxies.

A proxy that reads a key makes itself the key's owner: it writes an empty record at the same key under a prefix, with
its own lease. From then on whoever writes the key says in the same transaction that nobody else owns it; where that
fails he writes REVOKE there, and waits until the owner has deleted the record. The owner therefore knows what stands at
the key, and need not ask.

    owner      txn  if create(prefix + key) = 0 and lease(key) = 0   then range key, put prefix + key with the lease
    writer     txn  if create(prefix + key) < 1                      then put key        else put prefix + key = REVOKE
    the owner  txn  if create(prefix + key) < since + 1              then put key, range key
    lets go    txn  if create(prefix + key) < revision of the event  then delete prefix + key

A write whose outcome is unknown may come to pass later: the key is let go of, so that it finds another owner, or none.
A session that may have ended is none. Keys with a lease of their own are never owned: they go without a writer.

Callers with a token read at the cluster, which alone knows what they may read. Their writes keep to the protocol, for
which they need the right to write under the prefix, as with etcd's proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.client.call import DELETE_RANGE, PUT, RANGE, TXN, Answer, Method
from etcdpy.client.keys import prefix_end
from etcdpy.client.namespace import Namespace
from etcdpy.client.watch_state import WatchState
from etcdpy.errors import Code, EtcdError, LeaseNotFound
from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.proxy.asking import Changing
from etcdpy.proxy.owned import Owned, OwnedKeys, ranged
from etcdpy.proxy.session import Session, watch_once
from etcdpy.proxy.upstream import NOBODY, StreamBroken
from etcdpy.proxy.written import written
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from google.protobuf.message import Message

    from etcdpy.proxy.asking import Asker
    from etcdpy.proxy.upstream import Caller, Upstream
    from etcdpy.proxy.written import Interval

log = logs.get("leasing")

SESSION_SECONDS: Final = 60
"""etcd's number. As long may a writer have to wait for a proxy that was killed."""

_REVOKE: Final = b"REVOKE"


class _Ends:
    """When the ownership of one key ends, for who waits for that."""

    __slots__ = ("_news", "at")

    def __init__(self) -> None:
        self.at = 0
        """The newest revision at which it was to end or has ended."""
        self._news = asyncio.Event()

    def seen(self, revision: int) -> None:
        """It ends at that revision."""
        self.at = max(self.at, revision)
        self._news.set()

    async def after(self, revision: int) -> None:
        """Wait until it has ended after that revision, or for so long that one had better look."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.PROXY_LEASING_WAIT_SECONDS):
                while self.at <= revision:
                    self._news.clear()
                    await self._news.wait()


class _EndsByKey:
    """Everybody who waits for the end of an ownership."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[_Ends]] = {}

    @contextlib.contextmanager
    def of(self, key: bytes) -> Iterator[_Ends]:
        """Notice all ends from now on."""
        ends = _Ends()
        self._waiting.setdefault(key, []).append(ends)
        try:
            yield ends
        finally:
            self._waiting[key].remove(ends)
            if not self._waiting[key]:
                del self._waiting[key]

    def seen(self, key: bytes, revision: int) -> None:
        """An ownership of that key ended."""
        for ends in self._waiting.get(key, ()):
            ends.seen(revision)


class Leasing(Changing):
    """--experimental-leasing-prefix."""

    def __init__(
        self, inner: Asker, upstream: Upstream, namespace: Namespace | None, prefix: bytes, tasks: asyncio.TaskGroup
    ) -> None:
        """`prefix` stands inside the namespace, as on etcd's proxy."""
        self._inner = inner
        self._upstream = upstream
        self._namespace = namespace
        self._leases = Namespace(prefix)
        self._tasks: asyncio.TaskGroup = tasks
        self._owned = OwnedKeys(self._dropped)
        self._owning: set[bytes] = set()
        """Keys that the proxy is about to own."""
        self._removed = _EndsByKey()
        self._revoked = _EndsByKey()
        self._session: Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._handlers: dict[str, Callable[[Any, Caller], Awaitable[Any]]] = {
            PUT.path: self._put,
            DELETE_RANGE.path: self._delete,
            TXN.path: self._txn,
        }

    # --- the session ---

    def start(self) -> None:
        """Begin to own keys."""
        self._running = self._tasks.create_task(self._run())

    async def close(self) -> None:
        """Own nothing any more, and say so to the cluster."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        while True:
            try:
                session = await Session.begin(self._upstream, SESSION_SECONDS)
            except EtcdError as error:
                log.warn("failed to create a session", error=error.message)
            else:
                await self._hold(session)
            await asyncio.sleep(limits.PROXY_REGISTER_RETRY_SECONDS)

    async def _hold(self, session: Session) -> None:
        watching = self._tasks.create_task(self._watch(session))
        self._session = session
        try:
            await session.keep()
        finally:
            watching.cancel()
            self._session = None
            self._owned.clear()
            await session.revoke()

    async def _watch(self, session: Session) -> None:
        """Follow who owns what. One watcher for all keys: the members need not keep one for each."""
        prefix = self._leases.prefix
        request = rpc_pb2.WatchCreateRequest(
            key=prefix, range_end=prefix_end(prefix), start_revision=session.revision + 1
        )
        state = WatchState(request if self._namespace is None else self._namespace.into(request))
        while True:
            try:
                await watch_once(self._upstream, self._namespace, state, self._seen)
            except StreamBroken as broken:
                log.debug("the watch of the leasing keys broke", error=broken.failure.error.message)
            except EtcdError as error:
                log.warn("the leasing keys cannot be watched", error=error.message)
                session.end()
                return
            await asyncio.sleep(limits.PROXY_RESUME_SECONDS)

    def _seen(self, answer: rpc_pb2.WatchResponse) -> None:
        for event in answer.events:
            key, revision = event.kv.key[len(self._leases.prefix) :], event.kv.mod_revision
            if event.type == kv_pb2.Event.DELETE:
                self._removed.seen(key, revision)
                owned = self._owned.get(key)
                if owned is not None and owned.since < revision:
                    self._owned.let_go(key)
            elif event.kv.value == _REVOKE and self._session is not None and event.kv.lease == self._session.id:
                self._revoked.seen(key, revision)
                if self._owned.let_go(key) is None:
                    self._release(key, event.kv.create_revision)

    def _dropped(self, key: bytes, owned: Owned) -> None:
        self._release(key, owned.since)

    def _release(self, key: bytes, since: int) -> None:
        if self._session is not None:
            self._tasks.create_task(self._remove(self._session, key, since))

    async def _remove(self, session: Session, key: bytes, since: int) -> None:
        """Delete the record that made this proxy the owner, unless it is gone and there is a newer one."""
        txn = self._guarded([(key, since)])
        txn.success.add().request_delete_range.key = self._leases.prefix + key
        while session.lives:
            try:
                await self._inner.call(TXN, txn, NOBODY)
                return
            except EtcdError as error:
                if error.code is not Code.UNAVAILABLE:
                    log.warn("a leasing key cannot be removed", error=error.message)
                    session.end()  # with which it goes
                    return
            await asyncio.sleep(limits.PROXY_RESUME_SECONDS)

    def _guarded(self, keys: Iterable[tuple[bytes, int]]) -> rpc_pb2.TxnRequest:
        """A transaction that fails where one of the keys has an owner since a later revision than is said with it."""
        txn = rpc_pb2.TxnRequest()
        for key, since in keys:
            self._guard(txn, (key, b""), since)
        return txn

    def _guard(self, txn: rpc_pb2.TxnRequest, interval: Interval, since: int) -> None:
        key, end = self._leases.interval(*interval)
        txn.compare.add(
            key=key,
            range_end=end,
            target=rpc_pb2.Compare.CREATE,
            result=rpc_pb2.Compare.LESS,
            create_revision=since + 1,
        )

    # --- requests ---

    async def call(self, method: Method[Any, Answer], request: Message, caller: Caller) -> Answer:
        """See Asker."""
        handler = self._handlers.get(method.path)
        if handler is None:
            return await self._inner.call(method, request, caller)
        answer: Answer = await handler(request, caller)
        return answer

    async def encoded(self, method: Method[Any, Any], request: Message, caller: Caller) -> bytes:
        """See Asker."""
        if isinstance(request, rpc_pb2.RangeRequest):
            return await self._range(request, caller)
        return await super().encoded(method, request, caller)

    # --- reads ---

    async def _range(self, request: rpc_pb2.RangeRequest, caller: Caller) -> bytes:
        owned = await self._settled(request, caller)
        if owned is not None:
            return owned.encoded(request)
        if self._may_own(request, caller):
            session = self._session
            assert session is not None
            try:
                return (await self._own(session, request)).SerializeToString()
            except LeaseNotFound:
                session.end()  # somebody has revoked it
        return await self._inner.encoded(RANGE, request, caller)

    def _readable(self, request: rpc_pb2.RangeRequest) -> Owned | None:
        """What is owned and answers the request, or will once the writes under way have been answered."""
        session = self._session
        if request.range_end or request.revision > 0 or session is None or not session.lives:
            return None
        return self._owned.get(request.key)

    async def _settled(self, request: rpc_pb2.RangeRequest, caller: Caller) -> Owned | None:
        owned = None if caller else self._readable(request)
        if owned is not None and owned.writing:
            # Of later writes this read need not know: they have been answered no earlier than it began.
            await asyncio.wait(list(owned.writing))
            return owned if self._readable(request) is owned else None
        return owned

    def _may_own(self, request: rpc_pb2.RangeRequest, caller: Caller) -> bool:
        return (
            not caller
            and not request.serializable
            and not request.range_end
            and request.revision <= 0
            and request.key not in self._owning
            and self._session is not None
            and self._session.lives
            and self._owned.may_own(request.key)
        )

    async def _own(self, session: Session, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Read a key, and own it from now on where nobody does."""
        key, lease_key = request.key, self._leases.prefix + request.key
        txn = rpc_pb2.TxnRequest()
        txn.compare.add(key=lease_key, target=rpc_pb2.Compare.CREATE, create_revision=0)
        txn.compare.add(key=key, target=rpc_pb2.Compare.LEASE, lease=0)
        for branch in (txn.success, txn.failure):
            branch.add().request_range.key = key
        txn.success.add(request_put=rpc_pb2.PutRequest(key=lease_key, lease=session.id))
        self._owning.add(key)
        try:
            with self._removed.of(key) as removed, self._revoked.of(key) as revoked:
                answer = await self._inner.call(TXN, txn, NOBODY)
        finally:
            self._owning.discard(key)
        found, since = answer.responses[0].response_range, answer.header.revision
        found.header.CopyFrom(answer.header)
        owned = Owned(since, found)
        if not answer.succeeded:
            self._owned.let_go(key)  # for a while it is read without an attempt, which costs a proposal each
        elif self._session is session and since >= max(removed.at, revoked.at):
            self._owned.own(key, owned)
        return ranged(answer.header, owned.record, request)

    # --- writes ---

    async def _put(self, request: rpc_pb2.PutRequest, caller: Caller) -> rpc_pb2.PutResponse:
        answer = await self._write_key(rpc_pb2.RequestOp(request_put=request), request.key, caller)
        found = answer.responses[0].response_put
        found.header.CopyFrom(answer.header)
        return found

    async def _delete(self, request: rpc_pb2.DeleteRangeRequest, caller: Caller) -> rpc_pb2.DeleteRangeResponse:
        operation = rpc_pb2.RequestOp(request_delete_range=request)
        if request.range_end:
            answer = await self._delete_range(operation, (request.key, request.range_end), caller)
        else:
            answer = await self._write_key(operation, request.key, caller)
        found = answer.responses[0].response_delete_range
        found.header.CopyFrom(answer.header)
        return found

    async def _write_key(self, operation: rpc_pb2.RequestOp, key: bytes, caller: Caller) -> rpc_pb2.TxnResponse:
        while True:
            owned = self._owned.get(key)
            txn = self._guarded([(key, owned.since if owned is not None else 0)])
            txn.success.append(operation)
            txn.failure.append(self._revocation(key))
            with self._removed.of(key) as removed:
                answer = await self._write(txn, [(key, owned)] if owned is not None else [], caller)
                if answer.succeeded:
                    return answer
                if owned is not None:
                    self._let_go(key, owned)  # somebody has taken it away
                await removed.after(answer.header.revision)

    async def _delete_range(
        self, operation: rpc_pb2.RequestOp, interval: Interval, caller: Caller
    ) -> rpc_pb2.TxnResponse:
        while True:
            txn = rpc_pb2.TxnRequest(success=[operation])
            self._guard(txn, interval, await self._revoke_range(interval, caller))
            gone = list(self._owned.within(*interval))
            answer = await self._write(txn, gone, caller, deletes=True)
            if answer.succeeded:
                return answer

    async def _write(
        self,
        txn: rpc_pb2.TxnRequest,
        touched: Sequence[tuple[bytes, Owned]],
        caller: Caller,
        *,
        deletes: bool = False,
    ) -> rpc_pb2.TxnResponse:
        """Make a write, whose first operation is the caller's, and learn what it leaves at keys that are owned."""
        if not deletes:
            for key, _ in touched:
                txn.success.add().request_range.key = key
        answered = asyncio.get_running_loop().create_future()
        for _, owned in touched:
            owned.writing.add(answered)
        try:
            answer = await self._inner.call(TXN, txn, caller)
        except BaseException:
            for key, owned in touched:
                self._let_go(key, owned)
            raise
        else:
            if answer.succeeded:
                self._changed(answer, touched, deletes=deletes)
            return answer
        finally:
            for _, owned in touched:
                owned.writing.discard(answered)
            answered.set_result(None)

    def _let_go(self, key: bytes, owned: Owned) -> None:
        if self._owned.get(key) is owned:
            self._owned.let_go(key)

    def _changed(self, answer: rpc_pb2.TxnResponse, touched: Sequence[tuple[bytes, Owned]], *, deletes: bool) -> None:
        for number, (key, owned) in enumerate(touched, 1):
            kvs = () if deletes else answer.responses[number].response_range.kvs
            self._owned.changed(key, owned, answer.header, kvs[0] if kvs else None)

    def _revocation(self, key: bytes) -> rpc_pb2.RequestOp:
        put = rpc_pb2.PutRequest(key=self._leases.prefix + key, value=_REVOKE, ignore_lease=True)
        return rpc_pb2.RequestOp(request_put=put)

    async def _revoke(self, key: bytes, caller: Caller) -> None:
        """Ask the owner of a key to let go of it, and wait until he has, or for some time."""
        txn = self._guarded([(key, 0)])
        txn.failure.append(self._revocation(key))
        with self._removed.of(key) as removed:
            answer = await self._inner.call(TXN, txn, caller)
            if not answer.succeeded:
                await removed.after(answer.header.revision)

    async def _revoke_range(self, interval: Interval, caller: Caller) -> int:
        """Let no other proxy own a key of a range; the newest revision since when one was owned there."""
        key, end = self._leases.interval(*interval)
        answer = await self._inner.call(RANGE, rpc_pb2.RangeRequest(key=key, range_end=end), caller)
        await self._revoke_foreign(answer.kvs, caller)
        return max((record.create_revision for record in answer.kvs), default=0)

    async def _revoke_foreign(self, records: Iterable[kv_pb2.KeyValue], caller: Caller) -> None:
        for record in records:
            key = record.key[len(self._leases.prefix) :]
            ours = self._session is not None and record.lease == self._session.id
            if not ours or self._owned.get(key) is None:
                await self._revoke(key, caller)

    # --- transactions ---

    async def _txn(self, request: rpc_pb2.TxnRequest, caller: Caller) -> rpc_pb2.TxnResponse:
        known = None if caller else self._txn_of_owned(request)
        if known is not None:
            return known
        writes = list(dict.fromkeys(written(request)))
        if not writes:
            return await self._inner.call(TXN, request, caller)
        while True:
            txn, touched = await self._guarded_txn(request, writes, caller)
            answer = await self._write(txn, touched, caller)
            if answer.succeeded:
                found = answer.responses[0].response_txn
                found.header.CopyFrom(answer.header)
                return found
            for response in answer.responses:
                await self._revoke_foreign(response.response_range.kvs, caller)

    async def _guarded_txn(
        self, request: rpc_pb2.TxnRequest, writes: Sequence[Interval], caller: Caller
    ) -> tuple[rpc_pb2.TxnRequest, list[tuple[bytes, Owned]]]:
        """The caller's transaction within one that fails where somebody else owns what it writes; and the owned keys
        of which one wants to know afterwards. Of ranges, and of very many keys, none stays owned."""
        ranges = [(interval, await self._revoke_range(interval, caller)) for interval in writes if interval[1]]
        txn = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=request)])
        for interval, since in ranges:
            self._guard(txn, interval, since)
            for key, _ in list(self._owned.within(*interval)):
                self._owned.let_go(key)
        touched = []
        for key in (key for key, end in writes if not end):
            owned = self._owned.get(key)
            self._guard(txn, (key, b""), owned.since if owned is not None else 0)
            if owned is not None:
                touched.append((key, owned))
        for key, _ in touched[limits.PROXY_LEASED_KEYS_PER_TXN_MAX :]:
            self._owned.let_go(key)
        for interval in writes:
            key, end = self._leases.interval(*interval)
            txn.failure.append(rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, range_end=end)))
        return txn, touched[: limits.PROXY_LEASED_KEYS_PER_TXN_MAX]

    def _txn_of_owned(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse | None:
        """The answer to a transaction that only reads, all of it owned keys; None where the cluster must be asked."""
        seen: list[Owned] = []
        succeeded = True
        for compare in request.compare:
            owned = self._readable(rpc_pb2.RangeRequest(key=compare.key, range_end=compare.range_end))
            holds = None if owned is None or owned.writing else owned.holds(compare)
            if owned is None or holds is None:
                return None
            seen.append(owned)
            succeeded = succeeded and holds
        answer = rpc_pb2.TxnResponse(succeeded=succeeded)
        for operation in request.success if succeeded else request.failure:
            asked = operation.request_range
            owned = self._readable(asked) if operation.HasField("request_range") else None
            if owned is None or owned.writing:
                return None
            seen.append(owned)
            answer.responses.add().response_range.CopyFrom(owned.answer(asked))
        if not seen:
            return None
        newest = max(seen, key=lambda owned: owned.header.revision).header
        answer.header.CopyFrom(newest)
        for response in answer.responses:
            response.response_range.header.Clear()
            response.response_range.header.revision = newest.revision
        return answer
