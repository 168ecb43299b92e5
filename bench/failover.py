"""How long a cluster does not take writes when its leader is killed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from bench.load import Load, LoadError
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.cluster import Cluster

RETRY_SECONDS: Final = 0.01
TRY_SECONDS_MAX: Final = 10.0
"""Longer than an election, so that a try that waits for one in the server is not given up."""
FAILOVER_SECONDS_MAX: Final = 30.0


def kill_leader(cluster: Cluster, total: int) -> Load:
    """Kill the leader (once: `total` is 1) and put through every other member each 10 ms until one acknowledges.

    Raises LoadError when none does.
    """
    assert total == 1, "one cluster, one leader to kill"
    leader = cluster.leader()
    clients = [cluster.client(member) for member in cluster.others(leader)]
    for client in clients:
        client.put(b"failover", b"before")
    acknowledged = threading.Event()
    answered_at: list[float] = []

    def answered(call: Any) -> None:
        if call.exception() is None:
            answered_at.append(time.monotonic())
            acknowledged.set()

    leader.kill()
    begun = time.monotonic()
    while not acknowledged.wait(RETRY_SECONDS):
        if time.monotonic() - begun > FAILOVER_SECONDS_MAX:
            raise LoadError(f"no write was acknowledged in {FAILOVER_SECONDS_MAX:.0f} s after the leader was killed")
        for client in clients:
            _put(client).add_done_callback(answered)
    seconds = min(answered_at) - begun
    return Load(1, seconds, seconds * 1000, seconds * 1000)


def _put(client: Client) -> Any:
    request = rpc_pb2.PutRequest(key=b"failover", value=b"after")
    return client.kv.Put.future(request, timeout=TRY_SECONDS_MAX)
