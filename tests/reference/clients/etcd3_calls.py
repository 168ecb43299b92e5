"""The main calls of the Python package etcd3, before and after the leader dies: tests/interop/test_foreign_clients.py.

It talks to one endpoint, a follower; it has no elections.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import etcd3
import grpc


def insist(call: Any) -> Any:
    """Make a call until it succeeds: after a leader's death calls fail for a while."""
    end = time.monotonic() + 20
    while True:
        try:
            return call()
        except (etcd3.exceptions.Etcd3Exception, grpc.RpcError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def put(etcd: Any, key: str, value: str) -> None:
    insist(lambda: etcd.put(key, value))
    assert insist(lambda: etcd.get(key))[0] == value.encode()


def txn(etcd: Any, key: str) -> None:
    parts = etcd.transactions
    succeeded, answers = insist(
        lambda: etcd.transaction(
            compare=[parts.version(key) == 0], success=[parts.put(key, "new")], failure=[parts.get(key)]
        )
    )
    assert succeeded or answers[0][0][0] == b"new"


def main() -> None:
    given = json.loads(sys.argv[1])
    host, port = given["endpoints"][0].split(":")
    etcd = etcd3.client(
        host=host,
        port=int(port),
        ca_cert=given["ca"],
        cert_cert=given["cert"],
        cert_key=given["key"],
        user=given["user"],
        password=given["password"],
        timeout=3,
    )
    put(etcd, "py/k", "1")
    txn(etcd, "py/t1")
    seen: list[bytes] = []
    etcd.add_watch_prefix_callback("py/w/", lambda answer: seen.extend(event.value for event in answer.events))
    put(etcd, "py/w/1", "one")
    lease = etcd.lease(20)
    etcd.put("py/leased", "x", lease=lease)
    lock = etcd.lock("py/lock", ttl=20)
    assert lock.acquire(timeout=5)
    print("ready", flush=True)
    sys.stdin.readline()

    put(etcd, "py/k", "2")
    txn(etcd, "py/t2")
    put(etcd, "py/w/2", "two")
    end = time.monotonic() + 20
    while b"two" not in seen:
        assert time.monotonic() < end, seen
        time.sleep(0.02)
    assert seen.count(b"one") == 1
    assert insist(lease.refresh)[0].TTL == 20
    assert insist(lambda: etcd.get("py/leased"))[0] == b"x"
    assert insist(lock.is_acquired)
    # Its lock cannot wait for another one: what it calls for that has changed since.
    assert not insist(lambda: etcd.put_if_not_exists(lock.key, "mine"))
    assert insist(lock.release)
    assert insist(lambda: etcd.lock("py/lock", ttl=20).acquire(timeout=5))
    print("done", flush=True)


main()
