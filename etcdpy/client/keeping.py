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
    from collections.abc import Callable, Sequence

    from etcdpy.client.core import Core

LEASES_PER_STREAM: Final = 1000


class Keeper:
    """Renews the leases of one client. One worker runs `work` now and then; the rest may come from elsewhere."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.schedule = KeepAlives()
        self._told: dict[int, Callable[[], None]] = {}

    def keep(self, lease_id: int, ttl: float, asked_at: float, lost: Callable[[], None]) -> None:
        """Keep a lease; `lost` is called once, by the worker, when it has ended against our will."""
        self._told[lease_id] = lost
        self.schedule.add(lease_id, ttl, asked_at)

    def forget(self, lease_id: int) -> None:
        """Keep it no longer."""
        self._told.pop(lease_id, None)
        self.schedule.remove(lease_id)

    def lives(self, lease_id: int) -> bool:
        """Whether the lease has not ended for sure: its time since the last renewal was asked for is not over."""
        return self.schedule.ends_at(lease_id) > time.monotonic()

    async def work(self) -> float:
        """Renew what is due; how many seconds there is nothing to do then."""
        due = self.schedule.due(time.monotonic())
        for start in range(0, len(due), LEASES_PER_STREAM):
            await self._renew(due[start : start + LEASES_PER_STREAM])
        for lease_id in self.schedule.overdue(time.monotonic()):
            self._lost(lease_id)
        return max(0.0, self.schedule.next_at() - time.monotonic())

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
                    self._lost(answer.ID)
        except grpc.RpcError as error:
            failure = Failure.of(error)
            self._core.note(number, failure)
            await self._core.renew_token(failure.error)
        finally:
            stream.cancel()

    def _lost(self, lease_id: int) -> None:
        told = self._told.pop(lease_id, None)
        if told is not None:
            told()
