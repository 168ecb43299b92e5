"""`etcdpy.client.AsyncClient` on real etcd and on etcdpy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.client import AsyncClient, ClientClosed, NotHeld, WatchCompacted, WatchEnded, aio, op
from etcdpy.errors import Code, LeaseNotFound, StatusError
from tests.support.cluster import listener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.support.members import Member

    Scene = Callable[[AsyncClient], Coroutine[Any, Any, None]]
    Play = Callable[[Scene], None]

SECONDS_MAX = 20


@pytest.fixture
def play(member: Member, prefix: bytes) -> Play:
    """Runs a scene with a client whose keys are its own."""

    def run(scene: Scene) -> None:
        async def with_client() -> None:
            async with asyncio.timeout(SECONDS_MAX), AsyncClient(member.endpoint) as client:
                await scene(client.namespace(prefix))

        asyncio.run(with_client())

    return run


def test_many_calls_at_once(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        await asyncio.gather(*(client.put(f"k/{number}", str(number)) for number in range(100)))
        found = await asyncio.gather(*(client.get(f"k/{number}") for number in range(100)))
        assert [answer.kvs[0].value for answer in found] == [b"%d" % number for number in range(100)]
        parts = [part async for part in client.range_stream("k/", prefix=True)]
        assert sum(len(part.kvs) for part in parts) == parts[-1].count == 100
        assert [len(page.kvs) async for page in client.pages("k/", prefix=True, size=60)] == [60, 40]
        with pytest.raises(LeaseNotFound):
            await client.put("a", lease=12345)
        answer = await client.txn([op.version("k/0") == 1], [op.delete("k/", prefix=True)])
        assert answer.responses[0].response_delete_range.deleted == 100

    play(scene)


def test_watching(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        async with client.watch("w/", prefix=True) as watch:
            assert await watch.next(timeout=0.01) is None
            await client.put("w/1", "a")
            await client.delete("w/1")
            seen = []
            async for event in watch:
                seen.append((event.type, event.kv.key))
                if len(seen) == 2:
                    watch.cancel()
            assert seen == [(0, b"w/1"), (1, b"w/1")]
            with pytest.raises(WatchEnded):
                await watch.next()
        revision = (await client.put("w/2")).header.revision
        await client.put("w/2")
        await client.compact(revision + 1)
        watch = await client.watch("w/2", start_revision=revision)
        with pytest.raises(WatchCompacted):
            await watch.next()

    play(scene)


def test_a_slow_reader_misses_nothing(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        async with client.watch("w", progress=True) as watch:
            for number in range(200):
                await client.put("w", str(number))
            await watch.request_progress()
            await asyncio.sleep(0.1)
            seen = [event.kv.value async for event in first(watch, 200)]
        assert seen == [b"%d" % number for number in range(200)]

    async def first(events: Any, count: int) -> Any:
        async for event in events:
            yield event
            count -= 1
            if not count:
                return

    play(scene)


def test_a_lease_and_its_end(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        async with client.lease(2) as lease:
            await client.put("l", lease=lease.id)
            await asyncio.sleep(lease.ttl + 0.5)
            assert lease.alive
        assert not (await client.get("l")).kvs
        lease = await client.lease(2)
        await client.revoke(lease.id)
        assert await lease.wait_lost(10)
        assert not lease.alive

    play(scene)


def test_a_lock_and_an_election(play: Play) -> None:
    async def scene(client: AsyncClient) -> None:
        first, second = client.lock("l", ttl=5), client.lock("l", ttl=5)
        async with first:
            assert not await second.try_acquire()
            with pytest.raises(StatusError) as raised:
                await second.acquire(timeout=0.2)
            assert raised.value.code is Code.DEADLINE_EXCEEDED
            waiting = asyncio.ensure_future(second.acquire())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.get("l/", prefix=True, count_only=True)).count == 1
            waiting = asyncio.ensure_future(second.acquire())
            await asyncio.sleep(0.1)
            assert not second.held
        await waiting
        assert second.held
        await client.delete(second.key)
        with pytest.raises(NotHeld):
            await second.release()
        async with client.election("e", ttl=5) as election:
            await election.campaign("one")
            leaders = election.observe()
            assert (await anext(leaders)).value == b"one"
            await election.proclaim("two")
            assert (await anext(leaders)).value == b"two"
            await leaders.aclose()
            assert election.held
        assert await election.leader() is None

    play(scene)


def test_a_snapshot(play: Play, tmp_path: Path) -> None:
    async def scene(client: AsyncClient) -> None:
        await client.put("s", "saved")
        assert (await client.snapshot(tmp_path / "saved.db")).startswith("3.")
        assert b"saved" in (tmp_path / "saved.db").read_bytes()

    play(scene)


def test_leaving_wakes_who_waits(member: Member) -> None:
    async def scene() -> None:
        async with AsyncClient(member.endpoint) as client:
            watch = await client.watch("never")
            reading = asyncio.ensure_future(collect(watch))
            lease = await client.lease(60)
            waiting = asyncio.ensure_future(lease.wait_lost())
            await asyncio.sleep(0)
        assert await asyncio.wait_for(reading, 5) == []
        assert await asyncio.wait_for(waiting, 5)
        with pytest.raises(ClientClosed):
            await client.get("a")

    async def collect(watch: Any) -> list[Any]:
        return [event async for event in watch]

    asyncio.run(scene())


@pytest.mark.parametrize("goes_below", [True, False])
def test_calls_on_the_way_end_with_the_client(goes_below: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both ways into grpcio; nobody answers here."""
    assert aio._GOES_BELOW, "grpcio has changed inside: calls are slower than they could be"
    monkeypatch.setattr(aio, "_GOES_BELOW", goes_below)

    async def scene(endpoint: str) -> None:
        async with AsyncClient(endpoint, timeout=30) as client:
            cancelled = asyncio.ensure_future(client.get("a"))
            call = asyncio.ensure_future(client.get("a"))
            await asyncio.sleep(0.05)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(StatusError) as raised:
                await client.get("a", timeout=0.05)
            assert raised.value.code is Code.DEADLINE_EXCEEDED
        with pytest.raises(ClientClosed):
            await asyncio.wait_for(call, 5)

    with listener() as silent:
        asyncio.run(scene(f"127.0.0.1:{silent.getsockname()[1]}"))


def test_an_error_of_the_caller_is_raised_as_it_is(member: Member) -> None:
    async def scene() -> None:
        async with AsyncClient(member.endpoint) as client:
            await client.watch("never")
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(scene())


def test_outside_its_context_it_starts_nothing(member: Member) -> None:
    async def scene() -> None:
        await AsyncClient(member.endpoint).watch("a")

    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(scene())
