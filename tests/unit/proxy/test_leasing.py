"""Who owns a key while answers and news of the cluster come in any order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.client.call import DELETE_RANGE, LEASE_GRANT, LEASE_REVOKE, PUT, RANGE, WATCH
from etcdpy.errors import Code, EtcdError, LeaseNotFound, PermissionDenied, StatusError
from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.proxy.leasing import Leasing
from etcdpy.proxy.owned import Owned, OwnedKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LEASE = 7
KEY = b"k"


class Stream:
    """The watch of the leasing keys, or a renewal that is never answered."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, _body: bytes) -> None:
        pass

    async def read(self) -> bytes | None:
        return await self.bodies.get()

    def cancel(self) -> None:
        pass


class Cluster:
    """Each transaction and range waits for the test to answer it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self.watch = Stream()
        self.sessions = 0

    async def call(self, method: Any, request: Any, _caller: Any = ()) -> Any:
        if method is LEASE_GRANT:
            self.sessions += 1
            return rpc_pb2.LeaseGrantResponse(ID=LEASE, TTL=60, header=header(1))
        if method is LEASE_REVOKE:
            return rpc_pb2.LeaseRevokeResponse()
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((request, answered))
        return await answered

    async def encoded(self, method: Any, request: Any, caller: Any) -> bytes:
        body: bytes = (await self.call(method, request, caller)).SerializeToString()
        return body

    async def open(self, path: str, _caller: Any) -> Stream:
        return self.watch if path == WATCH.path else Stream()

    async def seen(self, revision: int, value: bytes | None, *, created: int = 10) -> None:
        """Somebody wrote, or removed, the record of the key's owner."""
        record = kv_pb2.KeyValue(key=b"l/" + KEY, mod_revision=revision)
        if value is not None:
            record.value, record.lease, record.create_revision = value, LEASE, created
        kind = kv_pb2.Event.DELETE if value is None else kv_pb2.Event.PUT
        event = kv_pb2.Event(type=kind, kv=record)
        self.watch.bodies.put_nowait(rpc_pb2.WatchResponse(header=header(revision), events=[event]).SerializeToString())
        await settle()

    async def next(self) -> tuple[Any, asyncio.Future[Any]]:
        async with asyncio.timeout(5):
            return await self.asked.get()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def header(revision: int) -> rpc_pb2.ResponseHeader:
    return rpc_pb2.ResponseHeader(revision=revision)


def found(revision: int, value: bytes = b"v", **fields: Any) -> rpc_pb2.RangeResponse:
    record = kv_pb2.KeyValue(key=KEY, value=value, mod_revision=revision, **fields)
    return rpc_pb2.RangeResponse(header=header(revision), kvs=[record], count=1)


def answer(revision: int, *parts: Any, succeeded: bool = True) -> rpc_pb2.TxnResponse:
    response = rpc_pb2.TxnResponse(header=header(revision), succeeded=succeeded)
    for part in parts:
        name = "response_range" if isinstance(part, rpc_pb2.RangeResponse) else "response_put"
        getattr(response.responses.add(), name).CopyFrom(part)
    return response


def run(test: Callable[[Cluster, Leasing], Coroutine[None, None, None]]) -> Cluster:
    cluster = Cluster()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            leasing = Leasing(cast("Any", cluster), cast("Any", cluster), None, b"l/", tasks)
            leasing.start()
            await settle()
            await test(cluster, leasing)
            await leasing.close()

    asyncio.run(main())
    return cluster


def read(leasing: Leasing, caller: Any = ()) -> asyncio.Task[bytes]:
    return asyncio.create_task(leasing.encoded(RANGE, rpc_pb2.RangeRequest(key=KEY), caller))


def write(leasing: Leasing) -> asyncio.Task[rpc_pb2.PutResponse]:
    return asyncio.create_task(leasing.call(PUT, rpc_pb2.PutRequest(key=KEY, value=b"new"), ()))


async def own(cluster: Cluster, leasing: Leasing) -> None:
    reading = read(leasing)
    _, answered = await cluster.next()
    answered.set_result(answer(10, found(5), rpc_pb2.PutResponse()))
    await reading


async def reads_at_the_cluster(cluster: Cluster, leasing: Leasing) -> None:
    """Without an attempt to own the key."""
    reading = read(leasing)
    request, answered = await cluster.next()
    assert isinstance(request, rpc_pb2.RangeRequest)
    answered.set_result(found(99))
    assert await reading == found(99).SerializeToString()


async def removal(cluster: Cluster, since: int) -> asyncio.Future[Any]:
    """The proxy lets go of the key that it owns since that revision."""
    request, answered = await cluster.next()
    assert request.success[0].request_delete_range.key == b"l/" + KEY
    assert request.compare[0].create_revision == since + 1
    return answered


def test_an_owner_does_not_ask() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        await own(cluster, leasing)
        assert await read(leasing) == found(5).SerializeToString().replace(
            header(5).SerializeToString(), header(10).SerializeToString(), 1
        )
        reading = read(leasing, (("token", "t"),))
        _, answered = await cluster.next()
        answered.set_result(found(99))
        await reading

    run(test)


def test_a_revocation_that_is_seen_before_the_answer() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        reading = read(leasing)
        _, answered = await cluster.next()
        await cluster.seen(11, b"REVOKE")
        (await removal(cluster, 10)).set_result(answer(12))
        answered.set_result(answer(10, found(5), rpc_pb2.PutResponse()))
        await reading
        await reads_at_the_cluster(cluster, leasing)

    run(test)


def test_a_key_of_another_is_read_without_an_attempt_for_a_while() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        reading = read(leasing)
        _, answered = await cluster.next()
        answered.set_result(answer(10, found(5), found(5), succeeded=False))
        await reading
        await reads_at_the_cluster(cluster, leasing)

    run(test)


def test_an_older_revocation_is_no_matter() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        reading = read(leasing)
        _, answered = await cluster.next()
        await cluster.seen(9, None)
        answered.set_result(answer(10, found(5), rpc_pb2.PutResponse()))
        await reading
        await read(leasing)
        assert cluster.asked.empty()

    run(test)


def test_a_write_of_unknown_outcome_ends_the_ownership() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        await own(cluster, leasing)
        writing = write(leasing)
        await cluster.next()
        writing.cancel()
        removed = await removal(cluster, 10)
        await reads_at_the_cluster(cluster, leasing)
        removed.set_result(answer(12))

    run(test)


def test_a_read_waits_for_the_writes_before_it() -> None:
    """And shows the newest, whichever is answered first."""

    async def test(cluster: Cluster, leasing: Leasing) -> None:
        await own(cluster, leasing)
        writes = [write(leasing), write(leasing)]
        answers = [(await cluster.next())[1] for _ in writes]
        reading = read(leasing)
        answers[1].set_result(answer(12, rpc_pb2.PutResponse(), found(12, b"second")))
        await settle()
        assert not reading.done()
        answers[0].set_result(answer(11, rpc_pb2.PutResponse(), found(11, b"first")))
        await asyncio.gather(*writes)
        assert rpc_pb2.RangeResponse.FromString(await reading).kvs[0].value == b"second"

    run(test)


def test_a_key_that_gets_a_lease_is_owned_no_more() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        await own(cluster, leasing)
        writing = write(leasing)
        _, answered = await cluster.next()
        answered.set_result(answer(12, rpc_pb2.PutResponse(), found(12, lease=8)))
        await writing
        (await removal(cluster, 10)).set_result(answer(13))
        await reads_at_the_cluster(cluster, leasing)

    run(test)


@pytest.mark.parametrize("error", [PermissionDenied(), StatusError(Code.UNAVAILABLE, "no")], ids=["refused", "broken"])
def test_a_key_that_cannot_be_let_go_of(error: EtcdError, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is not there is asked again. Where the cluster refuses, the session ends, and the key with it."""
    monkeypatch.setattr(limits, "PROXY_REGISTER_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(limits, "PROXY_RESUME_SECONDS", 0.0)

    async def test(cluster: Cluster, leasing: Leasing) -> None:
        await own(cluster, leasing)
        await cluster.seen(11, b"REVOKE")
        (await removal(cluster, 10)).set_exception(error)
        if error.code is Code.UNAVAILABLE:
            (await removal(cluster, 10)).set_result(answer(12))
        await settle()

    assert run(test).sessions == (2 if error.code is not Code.UNAVAILABLE else 1)


def test_a_lease_that_somebody_has_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROXY_REGISTER_RETRY_SECONDS", 0.0)

    async def test(cluster: Cluster, leasing: Leasing) -> None:
        reading = read(leasing)
        _, answered = await cluster.next()
        answered.set_exception(LeaseNotFound())
        request, answered = await cluster.next()
        assert isinstance(request, rpc_pb2.RangeRequest)
        answered.set_result(found(99))
        await reading
        await settle()

    assert run(test).sessions == 2


def test_a_range_is_not_deleted_before_its_owners_know() -> None:
    async def test(cluster: Cluster, leasing: Leasing) -> None:
        request = rpc_pb2.DeleteRangeRequest(key=KEY, range_end=b"\0")
        deleting = asyncio.create_task(leasing.call(DELETE_RANGE, request, ()))
        asked, answered = await cluster.next()
        assert (asked.key, asked.range_end) == (b"l/k", b"l0")
        owner = kv_pb2.KeyValue(key=b"l/" + KEY, create_revision=20, lease=LEASE + 1)
        answered.set_result(rpc_pb2.RangeResponse(kvs=[owner]))
        asked, answered = await cluster.next()
        assert asked.failure[0].request_put.value == b"REVOKE"
        assert asked.failure[0].request_put.ignore_lease
        answered.set_result(answer(30, succeeded=False))
        await settle()
        assert cluster.asked.empty()
        await cluster.seen(31, None)
        asked, answered = await cluster.next()
        assert asked.success[0].request_delete_range == request
        assert (asked.compare[0].range_end, asked.compare[0].create_revision) == (b"l0", 21)
        done = answer(32)
        done.responses.add().response_delete_range.deleted = 1
        answered.set_result(done)
        assert (await deleting).deleted == 1

    run(test)


def test_owned_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by bytes; those that were longest not read go."""
    monkeypatch.setattr(limits, "PROXY_LEASED_KEYS_MAX", 3)
    monkeypatch.setattr(limits, "PROXY_LEASED_BYTES_MAX", 100)
    dropped: list[bytes] = []
    keys = OwnedKeys(lambda key, _owned: dropped.append(key))
    for number in range(4):
        keys.own(b"%d" % number, Owned(10, rpc_pb2.RangeResponse(header=header(10))))
        keys.get(b"0")
    assert dropped == [b"1"]
    assert not keys.may_own(b"1")
    assert keys.may_own(b"9")
    owned = keys.get(b"3")
    assert owned is not None
    keys.changed(b"3", owned, header(11), kv_pb2.KeyValue(key=b"3", value=bytes(99)))
    assert dropped == [b"1"]
    keys.changed(b"3", owned, header(12), kv_pb2.KeyValue(key=b"3", value=bytes(100)))
    assert dropped == [b"1", b"2", b"0", b"3"]
    assert len(keys) == 0
