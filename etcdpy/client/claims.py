"""Locks and elections of the blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from etcdpy.client.blocking import Blocking, seen_through
from etcdpy.client.core import run_each
from etcdpy.client.recipes import AsyncElection, AsyncLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.proto import election_pb2, kv_pb2, rpc_pb2

C = TypeVar("C", AsyncLock, AsyncElection)


class _BlockingClaim(Blocking[C]):
    @property
    def held(self) -> bool:
        """Whether it is ours for sure: it was reached, and the lease has been renewed in time since."""
        return self.work.held

    @property
    def key(self) -> bytes:
        """The key that stands for us. Raises NotHeld."""
        return self.work.key

    def is_held(self) -> rpc_pb2.Compare:
        """A comparison for a transaction that is to be done only by who holds it then. Raises NotHeld."""
        return self.work.is_held()


class Lock(_BlockingClaim[AsyncLock]):
    """A lock; see `AsyncLock`, which has the same methods."""

    acquire = seen_through(AsyncLock.acquire)
    try_acquire = seen_through(AsyncLock.try_acquire)
    release = seen_through(AsyncLock.release)
    __enter__ = seen_through(AsyncLock.__aenter__)
    __exit__ = seen_through(AsyncLock.__aexit__)


class Election(_BlockingClaim[AsyncElection]):
    """An election; see `AsyncElection`, which has the same methods."""

    campaign = seen_through(AsyncElection.campaign)
    proclaim = seen_through(AsyncElection.proclaim)
    resign = seen_through(AsyncElection.resign)
    leader = seen_through(AsyncElection.leader)

    def observe(self) -> Iterator[kv_pb2.KeyValue]:
        """The leader's key, now and each time that there is another leader or another value. Raises EtcdError."""
        return run_each(self.work.observe())

    def observe_responses(self) -> Iterator[election_pb2.LeaderResponse]:
        """The same, each with the header that brought it. Raises EtcdError."""
        return run_each(self.work.observe_responses())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.resign()
