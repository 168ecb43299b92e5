"""Whole states from engine to engine: what arrives, what is shared, and that nothing is left where it goes wrong."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.mvcc.store import Store
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server import snapshot_files, state_file
from etcdpy.server.snapshot_receiver import SnapshotRefused
from tests.support.snapshots import (
    OWN,
    World,
    exhausted,
    make_large,
    no_room,
    play,
    snapshot_message,
    unreadable,
)
from tests.support.storage import flush, new_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from etcdpy.peer.posting import SnapshotBody
    from etcdpy.raft.message import Message
    from etcdpy.storage.errors import StorageError


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 7000):
        yield content[start : start + 7000]


async def made(leader: World) -> tuple[Message, bytes]:
    """What the leader would send."""
    found: asyncio.Future[tuple[Message, SnapshotBody]] = asyncio.get_running_loop().create_future()
    leader.carry = lambda message, body: found.set_result((message, body))
    leader.sender.send(snapshot_message())
    message, body = await asyncio.wait_for(found, 20)
    content = b"".join([piece async for piece in body.chunks()])
    assert len(content) == body.size_bytes
    body.close()
    return message, content


async def install(world: World, message: Message) -> None:
    done: list[StorageError | None] = []
    assert message.snapshot is not None
    world.receiver.install(message.snapshot, HardState(1, 0, message.snapshot.metadata.index), done.append)
    assert world.receiver.installing == 1
    await world.settle()
    assert done == [None]
    assert world.receiver.installing == 0


def test_the_whole_state_arrives(tmp_path: Path) -> None:
    async def scene(leader: World, follower: World) -> None:
        for number in range(30):
            follower.store.put(b"old%d" % number, b"")
        follower.store.changes = []
        follower.lessor.grant(500, 100, 0.0)
        revision = follower.store.current_revision
        message, content = await made(leader)
        assert message.snapshot is not None
        assert b"members" in message.snapshot.data, "for etcd 3.6"
        leader.store.put(b"later", b"is not part of it")
        await follower.receiver.receive(message, pieces(content))
        assert follower.store.current_revision == revision, "until raft says so"
        await install(follower, message)
        leader.store.index.delete(b"later", 1 << 60)
        assert follower.events == ["before", "replaced"]
        assert follower.resynced == [revision]
        assert follower.store.current_revision == leader.store.current_revision - 1
        assert follower.store.range(b"\0", b"\0").records == leader.store.range(b"\0", b"\0").records
        assert sorted(follower.lessor.leases()) == list(range(1, 20))
        assert all(set(follower.lessor.keys_of(each)) == set(leader.lessor.keys_of(each)) for each in range(1, 20))
        assert (follower.membership.own_id, follower.membership.cluster_id) == (OWN["follower"], 7)
        assert follower.membership.members == leader.membership.members
        assert follower.alarms.get() == leader.alarms.get()
        assert (follower.applier.applied_index, follower.engine.applied_index) == (50, 50)
        assert len(follower.leftovers()) == 1, "the new state; the old one and the file are gone"
        follower.store.put(b"works", b"on")
        flush(follower.engine)

    play(tmp_path, scene)
    engine = new_engine(tmp_path / "follower")
    again = Store.open(engine.state)
    assert again.get(b"works") is not None
    assert again.get(b"last") is not None
    engine.close()


def test_members_that_ask_together_share_a_file(tmp_path: Path) -> None:
    async def scene(leader: World, _follower: World) -> None:
        bodies: list[SnapshotBody] = []
        leader.carry = lambda _message, body: bodies.append(body)
        for to in OWN:
            leader.sender.send(snapshot_message(to))
            leader.sender.send(snapshot_message(to))
        await leader.settle()
        assert len(bodies) == 2, "one is on its way to each"
        assert len(leader.leftovers()) == 1
        leader.sender.send(snapshot_message())
        bodies[0].close()
        bodies[0].close()
        assert [piece async for piece in bodies[1].chunks()], "still there for the other"
        bodies[1].close()
        leader.sender.send(snapshot_message())
        await leader.settle()
        assert len(bodies) == 3

    play(tmp_path, scene)


def test_a_file_serves_members_that_it_knows_and_that_are_near(tmp_path: Path) -> None:
    async def scene(leader: World, _follower: World) -> None:
        bodies: list[SnapshotBody] = []
        leader.carry = lambda _message, body: bodies.append(body)
        leader.sender.send(snapshot_message())
        await leader.settle()
        leader.engine.set_conf_state(ConfState((*OWN.values(), 0x33)))
        leader.apply(51)
        message = snapshot_message()
        message.to = 0x33
        leader.sender.send(message)
        await leader.settle()
        assert message.snapshot is not None
        assert list(message.snapshot.metadata.conf_state.voters) == [*OWN.values(), 0x33]
        leader.apply(52 + leader.engine.catchup_entries)
        late = snapshot_message("leader")
        leader.sender.send(late)
        await leader.settle()
        assert late.snapshot is not None
        assert late.snapshot.metadata.index == 52 + leader.engine.catchup_entries
        assert len(leader.leftovers()) == 3
        for body in bodies:
            body.close()

    play(tmp_path, scene)


def test_the_log_is_held_while_a_snapshot_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_LOG_HELD_SECONDS", 0.05)

    async def scene(leader: World, _follower: World) -> None:
        bodies: list[SnapshotBody] = []
        leader.carry = lambda _message, body: bodies.append(body)
        leader.sender.send(snapshot_message())
        await leader.settle()
        assert list(leader.engine._holds.values()) == [50]
        bodies[0].close()
        assert leader.engine._holds, "and a while longer"
        await asyncio.sleep(0.1)
        assert not leader.engine._holds

    play(tmp_path, scene)


@pytest.mark.parametrize("reason", ["deposed", "replaced", "disk full", "state unreadable"])
def test_a_snapshot_that_cannot_be_made_is_reported(
    tmp_path: Path, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(leader: World, _follower: World) -> None:
        if reason == "disk full":
            monkeypatch.setattr(state_file, "check_room", no_room)
        if reason == "state unreadable":
            monkeypatch.setattr(leader.engine, "frozen_view", unreadable)
        leader.sender.send(snapshot_message(term=2 if reason == "deposed" else 1))
        if reason == "replaced":
            await asyncio.sleep(0)
            leader.sender.let_go_of_state()
        await leader.settle()
        assert leader.reports == [(OWN["follower"], False)]
        leader.sender.send(snapshot_message(term=2))
        await leader.settle()
        assert len(leader.reports) == 2, "the next one is tried"

    play(tmp_path, scene)


def refused(tmp_path: Path, kind: type[Exception], prepare: Callable[[World, Message, bytes], bytes]) -> None:
    """Refused, nothing left behind, nothing stepped, and the next snapshot is taken all the same."""

    async def scene(leader: World, follower: World) -> None:
        message, content = await made(leader)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshot_files, "check_room", snapshot_files.check_room)
            broken = prepare(follower, message, content)
            with pytest.raises(kind):
                await follower.receiver.receive(message, pieces(broken))
        assert follower.stepped == []
        await asyncio.sleep(0.2)
        assert follower.leftovers() == set()
        message, content = await made(leader)
        await follower.receiver.receive(message, pieces(content))
        await install(follower, message)

    play(tmp_path, scene)


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    def cut(_world: World, _message: Message, content: bytes) -> bytes:
        return content[: len(content) // 2]

    def emptied(_world: World, _message: Message, _content: bytes) -> bytes:
        return b""

    refused(tmp_path / "1", DamagedFileError, cut)
    refused(tmp_path / "2", DamagedFileError, emptied)


def test_a_snapshot_of_another_index_is_refused(tmp_path: Path) -> None:
    def shifted(_world: World, message: Message, content: bytes) -> bytes:
        assert message.snapshot is not None
        message.snapshot.metadata.index += 1
        return content

    refused(tmp_path, SnapshotRefused, shifted)


def test_a_disk_without_room_refuses(tmp_path: Path) -> None:
    def full(_world: World, _message: Message, content: bytes) -> bytes:
        snapshot_files.check_room = cast("Any", no_room)
        return content

    refused(tmp_path, OSError, full)


def test_too_large_a_snapshot_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bounded(_world: World, _message: Message, content: bytes) -> bytes:
        monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", len(content) // 2)
        return content

    async def scene(leader: World, follower: World) -> None:
        message, content = await made(leader)
        with pytest.raises(SnapshotRefused, match="larger"):
            await follower.receiver.receive(message, pieces(bounded(follower, message, content)))

    play(tmp_path, scene)


def test_a_leader_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def half(content: bytes) -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        raise ConnectionError("reset")

    async def scene(leader: World, follower: World) -> None:
        message, content = await made(leader)
        with pytest.raises(ConnectionError):
            await follower.receiver.receive(message, half(content))
        await asyncio.sleep(0.2)
        assert follower.leftovers() == set()

    play(tmp_path, scene)


def test_what_raft_does_not_want_is_thrown_away(tmp_path: Path) -> None:
    async def scene(leader: World, follower: World) -> None:
        message, content = await made(leader)
        follower.wanted = False
        await follower.receiver.receive(message, pieces(content))
        assert follower.stepped == [message]
        await asyncio.sleep(0.2)
        assert follower.leftovers() == set()

    play(tmp_path, scene)


def test_what_is_being_installed_already_is_not_kept_twice(tmp_path: Path) -> None:
    async def scene(leader: World, follower: World) -> None:
        message, content = await made(leader)
        await follower.receiver.receive(message, pieces(content))
        assert message.snapshot is not None
        done: list[StorageError | None] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limits, "COMPACTION_PIN_WAIT_SECONDS", 0.5)
            patch.setattr(Store, "open_reads", 1)
            follower.receiver.install(message.snapshot, HardState(1, 0, message.snapshot.metadata.index), done.append)
            await follower.receiver.receive(message, pieces(content))
        await follower.settle()
        assert done == [None]
        assert follower.receiver._ready is None

    play(tmp_path, scene)


def test_what_holds_nothing_new_is_only_stepped(tmp_path: Path) -> None:
    async def scene(_leader: World, follower: World) -> None:
        follower.apply(50)
        message = snapshot_message()
        await follower.receiver.receive(message, pieces(b"whatever" * 5000))
        assert follower.stepped == [message]
        assert follower.leftovers() == set()

    play(tmp_path, scene)


def test_a_newer_snapshot_takes_the_place_of_one_that_hangs(tmp_path: Path) -> None:
    async def slow(content: bytes, go_on: asyncio.Event) -> AsyncIterator[bytes]:
        yield content[:30_000]
        await go_on.wait()
        yield content[30_000:]

    async def scene(leader: World, follower: World) -> None:
        first, content = await made(leader)
        go_on = asyncio.Event()
        hanging = asyncio.get_running_loop().create_task(follower.receiver.receive(first, slow(content, go_on)))
        await asyncio.sleep(0)
        second, content = await made(leader)
        await follower.receiver.receive(second, pieces(content))
        go_on.set()
        with pytest.raises(SnapshotRefused, match="newer"):
            await hanging
        await install(follower, second)
        assert follower.store.get(b"last") is not None

    play(tmp_path, scene)


def test_only_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOTS_RECEIVED_AT_ONCE", 0)

    async def scene(_leader: World, follower: World) -> None:
        with pytest.raises(SnapshotRefused, match="other snapshots"):
            await follower.receiver.receive(snapshot_message(), pieces(b""))

    play(tmp_path, scene)


def test_a_waiter_that_is_cancelled_lets_its_thread_end_first() -> None:
    """It closes the file next, and whoever opens another one may get its number."""
    ended: list[str] = []

    def write() -> None:
        time.sleep(0.1)
        ended.append("thread")

    async def scene() -> None:
        workers = snapshot_files.Workers()
        waiter = asyncio.ensure_future(workers.run(write))
        await asyncio.sleep(0.01)
        for _ in range(2):
            waiter.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiter
        ended.append("waiter")
        workers.close()

    asyncio.run(scene())
    assert ended == ["thread", "waiter"]


def test_a_member_hears_that_the_rest_of_a_snapshot_will_not_come(tmp_path: Path) -> None:
    """Its connection is cut then: the peer room knows OSError."""

    async def scene(leader: World, _follower: World) -> None:
        make_large(leader)
        bodies: asyncio.Queue[SnapshotBody] = asyncio.Queue()
        leader.carry = lambda _message, body: bodies.put_nowait(body)
        leader.sender.send(snapshot_message())
        body = await bodies.get()
        leader.sender.let_go_of_state()
        with pytest.raises(OSError, match="being replaced"):
            await exhausted(body.chunks())
        body.close()
        await leader.settle()

    play(tmp_path, scene)
