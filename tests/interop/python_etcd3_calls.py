"""The calls of the Python client `etcd3` against one endpoint; run by test_python_etcd3 in a process of its own.

The package brings protobuf modules of the same names as ours, so the two cannot live in one process.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import etcd3


def key_value(etcd: Any) -> None:
    assert etcd.get("absent") == (None, None)
    etcd.put("/k/one", "1")
    value, meta = etcd.get("/k/one")
    assert (value, meta.key, meta.version, meta.lease_id) == (b"1", b"/k/one", 1, 0)
    etcd.put("/k/two", b"\x00\xff")
    etcd.put("/k/three", "3")
    assert [value for value, _ in etcd.get_prefix("/k/")] == [b"1", b"3", b"\x00\xff"]
    assert [meta.key for _, meta in etcd.get_prefix("/k/", sort_order="descend")] == [b"/k/two", b"/k/three", b"/k/one"]
    assert [meta.key for _, meta in etcd.get_range("/k/o", "/k/tw")] == [b"/k/one", b"/k/three"]
    assert len(list(etcd.get_all())) == 3
    assert [meta.key for _, meta in etcd.get_all(sort_order="ascend", sort_target="mod")] == [
        b"/k/one",
        b"/k/two",
        b"/k/three",
    ]
    assert etcd.put_if_not_exists("/k/one", "again") is False
    assert etcd.put_if_not_exists("/k/four", "4") is True
    assert etcd.replace("/k/four", "4", "four") is True
    assert etcd.replace("/k/four", "4", "five") is False
    assert etcd.delete("/k/four") is True
    assert etcd.delete("/k/four") is False
    assert etcd.delete("/k/one", prev_kv=True, return_response=True).prev_kvs[0].value == b"1"
    assert etcd.delete_prefix("/k/").deleted == 2


def transactions(etcd: Any) -> None:
    etcd.put("/t", "v")
    in_order = etcd.transactions
    succeeded, responses = etcd.transaction(
        compare=[in_order.value("/t") == "v", in_order.version("/t") > 0, in_order.create("/t") > 0],
        success=[in_order.put("/t", "w"), in_order.get("/t")],
        failure=[in_order.delete("/t")],
    )
    assert succeeded is True
    assert responses[1][0][0] == b"w"
    succeeded, _ = etcd.transaction(
        compare=[in_order.mod("/t") == 1], success=[], failure=[in_order.delete("/t"), in_order.put("/u", "x")]
    )
    assert succeeded is False
    assert etcd.get("/t")[0] is None
    assert etcd.get("/u")[0] == b"x"


def leases(etcd: Any) -> None:
    lease = etcd.lease(60)
    assert lease.id > 0
    etcd.put("/leased", "v", lease=lease)
    assert etcd.get("/leased")[1].lease_id == lease.id
    assert lease.granted_ttl == 60
    assert 55 <= lease.remaining_ttl <= 60
    assert lease.keys == [b"/leased"]
    assert lease.refresh()[0].TTL == 60
    lease.revoke()
    assert etcd.get("/leased")[0] is None
    own = etcd.lease(30, lease_id=4242)
    assert own.id == 4242
    etcd.revoke_lease(4242)


def watches(etcd: Any) -> None:
    seen: list[tuple[str, bytes]] = []
    watch_id = etcd.add_watch_prefix_callback(
        "/w/", lambda response: seen.extend((type(event).__name__, event.key) for event in response.events)
    )
    etcd.put("/w/a", "1")
    etcd.put("/w/b", "2")
    etcd.delete("/w/a")
    deadline = time.monotonic() + 5
    while len(seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    etcd.cancel_watch(watch_id)
    assert seen == [("PutEvent", b"/w/a"), ("PutEvent", b"/w/b"), ("DeleteEvent", b"/w/a")], seen
    first = etcd.get("/w/b")[1].mod_revision
    events, cancel = etcd.watch("/w/b", start_revision=first)
    assert next(events).value == b"2"
    cancel()


def maintenance(etcd: Any) -> None:
    status = etcd.status()
    assert status.version == "3.7.3"
    assert status.db_size > 0
    assert status.leader.id == next(iter(etcd.members)).id
    (member,) = etcd.members
    assert member.name == "m1"
    assert list(etcd.list_alarms()) == []
    assert etcd.hash() != 0
    etcd.put("/c", "1")
    revision = etcd.get("/c")[1].mod_revision
    etcd.compact(revision, physical=True)
    refused = ""
    try:
        etcd.compact(revision)
    except Exception as error:  # grpc's own error: the client does not translate OutOfRange
        refused = str(error)
    assert "has been compacted" in refused
    etcd.defragment()


def locks(etcd: Any) -> None:
    """A recipe on the client's side: lease, transaction and watch together."""
    lock = etcd.lock("mutex", ttl=10)
    assert lock.acquire(timeout=2) is True
    assert lock.is_acquired() is True
    other = etcd.lock("mutex", ttl=10)
    assert lock.release() is True
    assert other.acquire(timeout=2) is True
    other.release()


def users(etcd: Any) -> None:
    """The client logs in by itself; its other calls for users and roles are the service's own stub."""
    channel = etcd.channel
    auth = etcd3.etcdrpc.AuthStub(channel)
    rpc = etcd3.etcdrpc
    auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="pw"))
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    auth.AuthEnable(rpc.AuthEnableRequest())
    host, port = sys.argv[1].rsplit(":", 1)
    refused = ""
    try:
        etcd.get("/u")
    except Exception as error:  # grpc's own error
        refused = str(error)
    assert "user name is empty" in refused, refused
    root = etcd3.client(host=host, port=int(port), user="root", password="pw", timeout=10)
    # The client shows its token by credentials of a call, which grpcio sends over TLS alone.
    root.call_credentials = None
    token = root.metadata
    root.kvstub.Put(rpc.PutRequest(key=b"/u", value=b"1"), metadata=token)
    assert root.kvstub.Range(rpc.RangeRequest(key=b"/u"), metadata=token).kvs[0].value == b"1"
    wrong = ""
    try:
        etcd3.client(host=host, port=int(port), user="root", password="no", timeout=10)
    except Exception as error:
        wrong = str(error)
    assert "authentication failed" in wrong, wrong
    stub = etcd3.etcdrpc.AuthStub(root.channel)
    stub.AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata)
    etcd.put("/u", "2")


def main() -> None:
    host, port = sys.argv[1].rsplit(":", 1)
    etcd = etcd3.client(host=host, port=int(port), timeout=10)
    for part in (key_value, transactions, leases, watches, maintenance, locks, users):
        part(etcd)
        print("passed", part.__name__, flush=True)


if __name__ == "__main__":
    main()
