"""Locks and elections, as etcd's own clients make them of keys: data and names are shared with Go's `concurrency`
package, `etcdctl lock` and `etcdctl elect`, and with the Lock and Election services.

Who wants the lock, or the leadership, puts the key `name/<lease id>` with a lease. The key that was created first has
it; each other one waits until those before it are gone. As a key ends with its lease, nobody has to be waited for
longer than a lease lives without being renewed. All writes here are transactions that name the revision which created
the key: made twice they have one effect, and so they may be made again when a connection breaks.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Self

from etcdpy.client import op
from etcdpy.client.call import Answer, Call
from etcdpy.client.failures import deadline_exceeded
from etcdpy.client.following import Following
from etcdpy.client.keys import Key, as_bytes, prefix_end
from etcdpy.client.leasing import AsyncLease
from etcdpy.client.leasing import lease as new_lease
from etcdpy.errors import Compacted, EtcdError
from etcdpy.proto import election_pb2, kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from etcdpy.client.core import View

CLEANUP_SECONDS_MAX: Final = 5.0
"""How long one who gave up waiting goes on trying to leave the queue; the lease ends it anyway."""


class SessionExpired(Exception):
    """The lease ended while its owner waited or held."""


class NotHeld(Exception):
    """The lock, or the leadership, is not held (any more)."""


class Claim:
    """One key among those of a name. Whose key is the oldest holds what the name stands for."""

    def __init__(self, view: View, name: Key, lease: AsyncLease) -> None:
        self._view = view
        self._lease = lease
        self._name = name
        self.prefix = as_bytes(name) + b"/"
        self.key = self.prefix + b"%x" % lease.id
        self.revision = 0
        """The revision that created our key; 0 while there is none."""
        self._put = False
        """Whether the key is there since we put it, and not since somebody else with our lease did."""
        self.first = False
        """Whether ours is known to be the oldest key."""

    @property
    def held(self) -> bool:
        """Whether it was reached, and the lease lives for sure: nobody else can have it then."""
        return self.first and self._lease.alive

    async def reach(self, value: Key, give_up: float | None) -> None:
        """Put the key, and wait until it is the oldest.

        Raises SessionExpired, EtcdError; then the key is gone, or will be with the lease.
        """
        try:
            if not await self.enter(value, give_up):
                await self._wait_for_those_before(give_up)
                await self._check_own_key(give_up)
            if not self._lease.alive:
                raise SessionExpired("the lease ended while its owner waited")
        except BaseException:
            await self._leave_quietly()
            raise
        self.first = True

    async def reach_now(self, value: Key, give_up: float | None) -> bool:
        """Put the key if it is the oldest then; whether it is. Raises EtcdError."""
        self.first = await self.enter(value, give_up)
        if not self.first:
            await self.leave(give_up)
        return self.first

    async def enter(self, value: Key, give_up: float | None) -> bool:
        """Put the key unless it is there already; whether it is the oldest."""
        oldest = oldest_of(self._name)
        put = op.put(self.key, value, lease=self._lease.id)
        answer = await self._do(
            op.txn([op.create_revision(self.key) == 0], [put, oldest], [op.get(self.key), oldest]), give_up
        )
        self.revision, self._put = answer.header.revision, answer.succeeded
        if not answer.succeeded:
            own = answer.responses[0].response_range.kvs[0]
            self.revision = own.create_revision
            if own.value != as_bytes(value):
                await self.set_value(value, give_up)
        owners = answer.responses[1].response_range.kvs
        return not owners or owners[0].create_revision == self.revision

    async def set_value(self, value: Key, give_up: float | None) -> None:
        """Change the value of our key. Raises NotHeld where it is gone, EtcdError."""
        put = op.put(self.key, value, lease=self._lease.id)
        answer = await self._do(op.txn([op.create_revision(self.key) == self.revision], [put]), give_up)
        if not answer.succeeded:
            self.first = False
            raise NotHeld("the key is gone")

    async def leave(self, give_up: float | None) -> bool:
        """Delete our key; whether it was still there. Raises EtcdError."""
        if not self.revision:
            return False
        self.first = False
        answer = await self._do(op.txn([op.create_revision(self.key) == self.revision], [op.delete(self.key)]), give_up)
        self.revision = 0
        return answer.succeeded

    async def _leave_quietly(self) -> None:
        if self._put:
            try:
                await self.leave(until(CLEANUP_SECONDS_MAX))
            except EtcdError:
                pass

    async def _wait_for_those_before(self, give_up: float | None) -> None:
        """Wait until no key of the name is older; one by one, so that a release wakes one waiter."""
        while True:
            newest = op.get(
                self.prefix,
                prefix=True,
                limit=1,
                sort_order=rpc_pb2.RangeRequest.DESCEND,
                sort_target=rpc_pb2.RangeRequest.CREATE,
                max_create_revision=self.revision - 1,
            )
            before = await self._do(newest, give_up)
            if not before.kvs:
                return
            await self._wait_deleted(before.kvs[0].key, before.header.revision, give_up)

    async def _wait_deleted(self, key: bytes, revision: int, give_up: float | None) -> None:
        """Wait until a key that was there at that revision is deleted."""
        request = rpc_pb2.WatchCreateRequest(key=key, start_revision=revision + 1)
        following = Following(self._view, request, _left(give_up))
        try:
            while not any(event.type == kv_pb2.Event.DELETE for event in (await following.next()).events):
                pass
        finally:
            following.end()

    async def _check_own_key(self, give_up: float | None) -> None:
        found = await self._do(op.get(self.key), give_up)
        if not found.kvs or found.kvs[0].create_revision != self.revision:
            raise SessionExpired("the lease ended while its owner waited")

    async def _do(self, call: Call[Answer], give_up: float | None) -> Answer:
        return await self._view.do(Call(call.method, call.request, _left(give_up), repeatable=True))


def until(seconds: float | None) -> float | None:
    """When a wait of so many seconds is over."""
    return None if seconds is None else time.monotonic() + seconds


def _left(give_up: float | None) -> float | None:
    """What is left of the time; None stands for the client's own limit, for each call."""
    if give_up is None:
        return None
    left = give_up - time.monotonic()
    if left <= 0:
        raise deadline_exceeded()
    return left


def oldest_of(name: Key, timeout: float | None = None) -> Call[rpc_pb2.RangeResponse]:
    """The call that finds the key of who holds what has that name."""
    order, target = rpc_pb2.RangeRequest.ASCEND, rpc_pb2.RangeRequest.CREATE
    prefix = as_bytes(name) + b"/"
    return op.get(prefix, prefix=True, limit=1, sort_order=order, sort_target=target, timeout=timeout)


async def observed(view: View, name: Key) -> AsyncGenerator[election_pb2.LeaderResponse, None]:
    """The key of an election's leader, each time that there is another leader or another value of it, with the header
    of the answer that brought it.
    """
    prefix = as_bytes(name) + b"/"
    while True:
        answer = await view.do(oldest_of(name))
        try:
            if answer.kvs:
                leader = election_pb2.LeaderResponse(header=answer.header, kv=answer.kvs[0])
            else:
                leader = await _first_leader(view, prefix, answer.header.revision + 1)
            yield leader
            async with aclosing(_changes(view, leader.kv.key, leader.header.revision + 1)) as changes:
                async for change in changes:
                    yield change
        except Compacted:
            pass  # values in between were missed; the one of now is read afresh


async def _first_leader(view: View, prefix: bytes, start_revision: int) -> election_pb2.LeaderResponse:
    """Who puts the first key below the prefix."""
    request = rpc_pb2.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix), start_revision=start_revision)
    following = Following(view, request)
    try:
        while True:
            answer = await following.next()
            for event in answer.events:
                if event.type == kv_pb2.Event.PUT:
                    leader = election_pb2.LeaderResponse(header=answer.header, kv=event.kv)
                    leader.header.revision = event.kv.mod_revision  # what came with it is seen as a change of it
                    return leader
    finally:
        following.end()


async def _changes(view: View, key: bytes, start_revision: int) -> AsyncGenerator[election_pb2.LeaderResponse, None]:
    """Each new value of a leader's key until it is deleted."""
    following = Following(view, rpc_pb2.WatchCreateRequest(key=key, start_revision=start_revision))
    try:
        while True:
            answer = await following.next()
            for event in answer.events:
                if event.type == kv_pb2.Event.DELETE:
                    return
                yield election_pb2.LeaderResponse(header=answer.header, kv=event.kv)
    finally:
        following.end()


class _Claimant:
    """Who claims something under a name: with a lease of its own, or with one that it was given."""

    def __init__(self, view: View, name: Key, ttl: int, lease: AsyncLease | None) -> None:
        self._view = view
        self._name = name
        self._ttl = ttl
        self._given = lease
        self._lease: AsyncLease | None = None
        self._claim: Claim | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours for sure: it was reached, and the lease has been renewed in time since."""
        return self._claim is not None and self._claim.held

    @property
    def key(self) -> bytes:
        """The key that stands for us. Raises NotHeld."""
        return self._reached.key

    def is_held(self) -> rpc_pb2.Compare:
        """A comparison for a transaction that is to be done only by who holds it then. Raises NotHeld."""
        return op.create_revision(self.key) == self._reached.revision

    @property
    def _reached(self) -> Claim:
        if self._claim is None:
            raise NotHeld("it is not held")
        return self._claim

    async def _begin(self, timeout: float | None) -> Claim:
        if self._claim is not None:
            raise RuntimeError("it is held or waited for already")
        self._lease = self._given or await new_lease(self._view, self._ttl, timeout=timeout)
        self._claim = Claim(self._view, self._name, self._lease)
        return self._claim

    async def _end(self) -> None:
        lease, self._lease, self._claim = self._lease, None, None
        if lease is not None and lease is not self._given:
            await lease.revoke()

    async def _reach(self, value: Key, timeout: float | None) -> None:
        give_up = until(timeout)
        claim = await self._begin(timeout)
        try:
            await claim.reach(value, give_up)
        except BaseException:
            await self._end_quietly()
            raise

    async def _end_quietly(self) -> None:
        try:
            await self._end()
        except EtcdError:
            pass  # the lease ends by itself

    async def _leave(self, timeout: float | None) -> bool:
        try:
            return await self._reached.leave(until(timeout))
        finally:
            await self._end()


class AsyncLock(_Claimant):
    """A lock that one client in the whole cluster can hold. A context manager; not reentrant.

    It is held as long as its lease lives, which the client keeps alive. Should that fail, `held` turns false before
    anybody else can get the lock. A write that must not happen then belongs in a transaction with `is_held()`.
    """

    async def acquire(self, *, timeout: float | None = None) -> None:
        """Wait until it is ours, `timeout` seconds at the most.

        Raises SessionExpired where the lease ends meanwhile, EtcdError (DEADLINE_EXCEEDED when the time is over).
        """
        await self._reach(b"", timeout)

    async def try_acquire(self, *, timeout: float | None = None) -> bool:
        """Take it if nobody has it; whether it is ours. Raises EtcdError."""
        give_up = until(timeout)
        claim = await self._begin(timeout)
        reached = False
        try:
            reached = await claim.reach_now(b"", give_up)
        finally:
            if not reached:
                await self._end_quietly()
        return reached

    async def release(self, *, timeout: float | None = None) -> None:
        """Let others have it. Raises NotHeld where it was lost before, EtcdError."""
        if not await self._leave(timeout):
            raise NotHeld("the lock was lost before it was released")

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, kind: object, *_error: object) -> None:
        if kind is None:
            await self.release()
        else:
            await self._leave(None)


class AsyncElection(_Claimant):
    """One leader among those who campaign; it tells the others a value. A context manager that resigns at its end.

    As with a lock, who leads does so as long as its lease lives: `held` says whether that is for sure.
    """

    async def campaign(self, value: Key, *, timeout: float | None = None) -> None:
        """Wait until we are the leader, `timeout` seconds at the most. Raises SessionExpired, EtcdError."""
        await self._reach(value, timeout)

    async def proclaim(self, value: Key, *, timeout: float | None = None) -> None:
        """Tell another value, as the leader. Raises NotHeld, EtcdError."""
        await self._reached.set_value(value, until(timeout))

    async def resign(self, *, timeout: float | None = None) -> None:
        """Let another one lead. It does no harm to who leads no more. Raises EtcdError."""
        if self._claim is not None:
            await self._leave(timeout)

    async def leader(self, *, timeout: float | None = None) -> kv_pb2.KeyValue | None:
        """The key of the leader with its value; None while there is no leader. Raises EtcdError."""
        found = (await self._view.do(oldest_of(self._name, timeout))).kvs
        return found[0] if found else None

    async def observe(self) -> AsyncGenerator[kv_pb2.KeyValue, None]:
        """The leader's key, now and each time that there is another leader or another value. Raises EtcdError."""
        async with aclosing(self.observe_responses()) as answers:
            async for answer in answers:
                yield answer.kv

    def observe_responses(self) -> AsyncGenerator[election_pb2.LeaderResponse, None]:
        """The same, each with the header that brought it. Raises EtcdError."""
        return observed(self._view, self._name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.resign()
