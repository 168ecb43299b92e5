"""The Python client: `Client` for threads, `AsyncClient` for asyncio. `docs/client.md` shows how to use them.

Names are found when they are first used, so that what needs one part of this package does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from etcdpy.client import op
    from etcdpy.client.aio import AsyncClient
    from etcdpy.client.channels import TlsFiles
    from etcdpy.client.claims import Election, Lock
    from etcdpy.client.client import Client, Lease, Watch
    from etcdpy.client.failures import ClientClosed
    from etcdpy.client.following import WatchEnded
    from etcdpy.client.leasing import AsyncLease
    from etcdpy.client.recipes import AsyncElection, AsyncLock, NotHeld, SessionExpired
    from etcdpy.client.snapshot import SnapshotFailed
    from etcdpy.client.watch_state import WatchCompacted
    from etcdpy.client.watching import AsyncWatch

__all__ = [
    "AsyncClient",
    "AsyncElection",
    "AsyncLease",
    "AsyncLock",
    "AsyncWatch",
    "Client",
    "ClientClosed",
    "Election",
    "Lease",
    "Lock",
    "NotHeld",
    "SessionExpired",
    "SnapshotFailed",
    "TlsFiles",
    "Watch",
    "WatchCompacted",
    "WatchEnded",
    "op",
]

_MODULES: Final = {
    "AsyncClient": "aio",
    "AsyncElection": "recipes",
    "AsyncLease": "leasing",
    "AsyncLock": "recipes",
    "AsyncWatch": "watching",
    "Client": "client",
    "ClientClosed": "failures",
    "Election": "claims",
    "Lease": "client",
    "Lock": "claims",
    "NotHeld": "recipes",
    "SessionExpired": "recipes",
    "SnapshotFailed": "snapshot",
    "TlsFiles": "channels",
    "Watch": "client",
    "WatchCompacted": "watch_state",
    "WatchEnded": "following",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
