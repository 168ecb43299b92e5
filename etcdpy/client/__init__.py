"""The Python client: `Client` for threads, `AsyncClient` for asyncio. `docs/client.md` shows how to use them.

Names are found when they are first used, so that what needs one part of this package does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from etcdpy.client import op
    from etcdpy.client.channels import TlsFiles
    from etcdpy.client.client import Client, Lease, Watch
    from etcdpy.client.failures import ClientClosed
    from etcdpy.client.following import WatchEnded
    from etcdpy.client.watch_state import WatchCompacted

__all__ = ["Client", "ClientClosed", "Lease", "TlsFiles", "Watch", "WatchCompacted", "WatchEnded", "op"]

_MODULES: Final = {
    "Client": "client",
    "ClientClosed": "failures",
    "Lease": "client",
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
