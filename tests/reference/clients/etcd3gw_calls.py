"""The main calls of the Python package etcd3gw, which speaks JSON, before and after the leader dies; see
tests/interop/test_foreign_clients.py. It talks to one endpoint, a follower; it has no elections and no users.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import etcd3gw
import requests


def insist(call: Any) -> Any:
    """Make a call until it succeeds: after a leader's death calls fail for a while."""
    end = time.monotonic() + 20
    while True:
        try:
            return call()
        except (etcd3gw.exceptions.Etcd3Exception, requests.RequestException):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def put(etcd: Any, key: str, value: str) -> None:
    assert insist(lambda: etcd.put(key, value))
    assert insist(lambda: etcd.get(key)) == [value.encode()]


def main() -> None:
    given = json.loads(sys.argv[1])
    host, port = given["endpoints"][0].split(":")
    etcd = etcd3gw.client(
        host=host,
        port=int(port),
        protocol="https",
        ca_cert=given["ca"],
        cert_cert=given["cert"],
        cert_key=given["key"],
        timeout=5,
    )
    put(etcd, "gw/k", "1")
    assert insist(lambda: etcd.create("gw/t1", "new"))
    seen: list[bytes] = []
    events, cancel = etcd.watch_prefix("gw/w/")

    def watch() -> None:
        seen.extend(event["kv"]["value"] for event in events)

    threading.Thread(target=watch, daemon=True).start()
    put(etcd, "gw/w/1", "one")
    lease = etcd.lease(20)
    assert etcd.put("gw/leased", "x", lease=lease)
    lock = etcd.lock("gw-lock", ttl=20)
    assert lock.acquire()
    print("ready", flush=True)
    sys.stdin.readline()

    put(etcd, "gw/k", "2")
    assert not insist(lambda: etcd.create("gw/t1", "newer"))
    assert insist(lambda: etcd.replace("gw/t1", "new", "newer"))
    put(etcd, "gw/w/2", "two")
    end = time.monotonic() + 20
    while b"two" not in seen:
        assert time.monotonic() < end, seen
        time.sleep(0.02)
    assert seen.count(b"one") == 1
    cancel()
    assert insist(lease.refresh) == 20
    assert insist(lambda: etcd.get("gw/leased")) == [b"x"]
    assert insist(lock.is_acquired)
    assert not insist(lambda: etcd.lock("gw-lock", ttl=20).acquire())
    assert insist(lock.release)
    assert insist(lambda: etcd.lock("gw-lock", ttl=20).acquire())
    print("done", flush=True)


main()
