"""A lease with an owner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from etcdpy.client import op
from etcdpy.errors import LeaseNotFound

if TYPE_CHECKING:
    from etcdpy.client.core import View
    from etcdpy.proto import rpc_pb2


async def lease(view: View, ttl: int, lease_id: int = 0, *, timeout: float | None = None) -> AsyncLease:
    """A lease of `ttl` seconds that is kept alive until it is revoked; as a context manager it ends with it."""
    asked_at = time.monotonic()
    return AsyncLease(view, await view.do(op.grant(ttl, lease_id, timeout=timeout)), asked_at)


class AsyncLease:
    """A lease that the client keeps alive. A context manager that revokes it at its end."""

    def __init__(self, view: View, granted: rpc_pb2.LeaseGrantResponse, asked_at: float) -> None:
        """`asked_at`: when the server was asked for it."""
        self._view = view
        self._keeper = view.core.keeper
        self._changed = view.core.io.new_condition()
        self.id: int = granted.ID
        self.ttl: int = granted.TTL
        """Seconds that it lives without being kept alive, as the server decided."""
        self.lost = False
        """Whether it has ended against the will of its owner: revoked by somebody, or not renewed in time."""
        self._keeper.keep(self.id, self.ttl, asked_at, self._was_lost)

    @property
    def alive(self) -> bool:
        """Whether it lives for sure: false as soon as the server might have ended it."""
        return self._keeper.lives(self.id)

    async def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait until it is lost, `timeout` seconds at the most; whether it is."""
        async with self._changed:
            return await self._changed.wait_until(lambda: self.lost, timeout)

    def forget(self) -> None:
        """Keep it alive no longer; it ends by itself."""
        self._keeper.forget(self.id)

    async def revoke(self, *, timeout: float | None = None) -> None:
        """End it, which deletes its keys. It may have ended before. Raises EtcdError."""
        self.forget()
        try:
            await self._view.do(op.revoke(self.id, timeout=timeout))
        except LeaseNotFound:
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.revoke()

    async def _was_lost(self) -> None:
        async with self._changed:
            self.lost = True
            self._changed.notify_all()
