"""Leases that are kept alive while their owner lives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import grpc

from etcdpy.client.call import LEASE_KEEP_ALIVE
from etcdpy.client.failures import ClientClosed, Failure
from etcdpy.client.keepalive import RETRY_SECONDS, KeepAlives
from etcdpy.errors import EtcdError
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from etcdpy.client.core import Core

LEASES_PER_STREAM: Final = 1000


class Keeper:
    """Renews the leases of one client, with a worker that begins with the first one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.schedule = KeepAlives()
        self._told: dict[int, Callable[[], Awaitable[None]]] = {}
        self._works = False

    def keep(self, lease_id: int, ttl: float, asked_at: float, lost: Callable[[], Awaitable[None]]) -> None:
        """Keep a lease; the worker calls `lost` once, when it has ended against our will."""
        self._told[lease_id] = lost
        self.schedule.add(lease_id, ttl, asked_at)
        if self._works:
            self._core.io.wake()
        else:
            self._works = True
            self._core.io.spawn(self._work())

    def forget(self, lease_id: int) -> None:
        """Keep it no longer."""
        self._told.pop(lease_id, None)
        self.schedule.remove(lease_id)

    def lives(self, lease_id: int) -> bool:
        """Whether the lease has not ended for sure: its time since the last renewal was asked for is not over."""
        return self.schedule.ends_at(lease_id) > time.monotonic()

    async def _work(self) -> None:
        try:
            await self._keep_all()
        finally:
            for lease_id in list(self._told):  # nobody keeps them any more
                self.schedule.remove(lease_id)
                await self._lost(lease_id)

    async def _keep_all(self) -> None:
        while not self._core.closed:
            due = self.schedule.due(time.monotonic())
            for start in range(0, len(due), LEASES_PER_STREAM):
                await self._renew(due[start : start + LEASES_PER_STREAM])
            for lease_id in self.schedule.overdue(time.monotonic()):
                await self._lost(lease_id)
            seconds = self.schedule.next_at() - time.monotonic()
            await self._core.io.wait_woken(None if seconds == float("inf") else max(0.0, seconds))

    async def _renew(self, lease_ids: Sequence[int]) -> None:
        asked_at = time.monotonic()
        ends_at = min(self.schedule.ends_at(lease_id) for lease_id in lease_ids)
        # Another attempt must fit in, should this endpoint not answer.
        timeout = max(RETRY_SECONDS, (ends_at - asked_at) / 2)
        requests = [rpc_pb2.LeaseKeepAliveRequest(ID=lease_id) for lease_id in lease_ids]
        try:
            number, stream = await self._core.open(LEASE_KEEP_ALIVE, requests, timeout, require_leader=True)
        except (EtcdError, ClientClosed):
            return
        try:
            while (answer := await stream.read()) is not None:
                if not self.schedule.renewed(answer.ID, answer.TTL, asked_at):
                    await self._lost(answer.ID)
        except grpc.RpcError as error:
            await self._failed(number, Failure.of(error))
        finally:
            stream.cancel()

    async def _failed(self, number: int, failure: Failure) -> None:
        """Another attempt is made soon; it may need another token."""
        self._core.note(number, failure)
        try:
            await self._core.renew_token(failure.error)
        except (EtcdError, ClientClosed):
            pass  # the next attempt fails by it, until the lease is lost

    async def _lost(self, lease_id: int) -> None:
        told = self._told.pop(lease_id, None)
        if told is not None:
            await told()
