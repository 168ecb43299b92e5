"""Two members that send each other whole states: real engines, with raft and the network played."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.apply.alarms import AlarmStore
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import SimpleTokens
from etcdpy.lease.lessor import Lessor
from etcdpy.membership.members import Member, Membership
from etcdpy.mvcc.store import Store
from etcdpy.proto import raft_pb2, rpc_pb2
from etcdpy.raft.message import Message
from etcdpy.raft.types import ConfState
from etcdpy.server.snapshot_files import Workers
from etcdpy.server.snapshot_receiver import SnapshotReceiver
from etcdpy.server.snapshot_sender import SnapshotSender
from etcdpy.storage.errors import StorageError
from tests.support.storage import flush, new_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    from etcdpy.backend import Backend
    from etcdpy.peer.posting import SnapshotBody


OWN = {"leader": 0x11, "follower": 0x22}


class World:
    """The rooms of a member over a real engine, with raft and the network played."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path / name
        self.engine = new_engine(self.path)
        backend = self.engine.state
        self.lessor = self.make_lessor(backend)
        self.store = Store(backend, self.lessor)
        self.store.changes = []
        self.membership = Membership(backend)
        self.membership.found(7, OWN[name])
        self.alarms = AlarmStore(backend)
        self.auth = AuthStore(backend, SimpleTokens(300))
        self.applier = cast("Any", SimpleNamespace(applied_index=0, applied_term=0, restore=lambda: None))
        self.resynced: list[int] = []
        self.hub = cast("Any", SimpleNamespace(resync=self.resynced.append))
        self.stepped: list[Message] = []
        self.wanted = True
        self.waiting = 0
        self.events: list[str] = []
        self.reports: list[tuple[int, bool]] = []
        self.carry: Callable[[Message, SnapshotBody], None] = lambda _message, body: body.close()
        self.workers = Workers()
        self.tasks: list[asyncio.Task[None]] = []
        self.sender = SnapshotSender(self.engine, self, self.workers, self.spawn)
        self.receiver = SnapshotReceiver(self, self, self.workers, self.spawn)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return self.tasks[-1]

    async def settle(self) -> None:
        while not all(task.done() for task in self.tasks):
            await asyncio.wait(self.tasks)
        for task in self.tasks:
            task.result()

    async def end(self) -> None:
        self.sender.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.workers.close()
        self.engine.close()

    def leftovers(self) -> set[str]:
        return {each.name for each in (self.path / "member").iterdir()} - {"FORMAT", "LOCK", "log", "state"}

    def apply(self, index: int, term: int = 1) -> None:
        self.applier.applied_index, self.applier.applied_term = index, term
        self.engine.set_applied(index, term)

    # --- Carrier ---

    def send_snapshot(self, message: Message, body: SnapshotBody) -> None:
        self.carry(message, body)

    def snapshot_sent(self, member: int, ok: bool) -> None:
        self.reports.append((member, ok))

    def leads(self, term: int) -> bool:
        return term == 1

    # --- Surroundings ---

    def make_lessor(self, backend: Backend) -> Lessor:
        return Lessor(backend, minimum_ttl=1)

    def step(self, message: Message) -> None:
        self.stepped.append(message)
        if self.wanted and message.snapshot is not None:
            self.waiting = message.snapshot.metadata.index

    def waiting_snapshot(self) -> int:
        return self.waiting

    def before_install(self) -> None:
        self.events.append("before")
        self.sender.let_go_of_state()

    def state_is_replaced(self) -> None:
        self.events.append("replaced")


def play(path: Path, scene: Callable[[World, World], Awaitable[None]]) -> None:
    """Run a scene of two members, whose files are written in small pieces. The leader leaves none behind."""

    async def run() -> None:
        leader, follower = World(path, "leader"), World(path, "follower")
        fill(leader)
        try:
            await scene(leader, follower)
        finally:
            await leader.end()
            await follower.end()
            assert leader.leftovers() == set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SNAPSHOT_PAUSE_SECONDS", 0)
        patch.setattr(limits, "SNAPSHOT_WRITE_BYTES", 20_000)
        asyncio.run(run())


def fill(world: World) -> None:
    for lease in range(1, 20):
        world.lessor.grant(lease, 100, 0.0)
    for number in range(2000):
        world.store.put(b"k%04d" % (number % 700), b"%d" % number * 10, lease=1 + number % 19 if number % 3 == 0 else 0)
    world.store.delete_range(b"k0000", b"k0005")
    world.alarms.activate(OWN["leader"], rpc_pb2.NOSPACE)
    for name, identity in OWN.items():
        world.membership.add(Member(identity, (f"http://{name}:2380",), name))
    world.engine.set_conf_state(ConfState(tuple(sorted(OWN.values()))))
    world.apply(50)
    flush(world.engine)
    world.store.put(b"last", b"not flushed")
    world.store.changes = []


def snapshot_message(to: str = "follower", index: int = 50, term: int = 1) -> Message:
    metadata = raft_pb2.SnapshotMetadata(index=index, term=1, conf_state=ConfState(tuple(OWN.values())).to_proto())
    snapshot = raft_pb2.Snapshot(metadata=metadata)
    return Message(raft_pb2.MsgSnap, to=OWN[to], from_=OWN["leader"], term=term, snapshot=snapshot)


async def exhausted(pieces: AsyncIterator[bytes]) -> None:
    async for _ in pieces:
        pass


def make_large(world: World) -> None:
    """Several slices of a file."""
    for number in range(3000):
        world.store.put(b"large%d" % number, b"x" * 1000)
    world.store.changes = []


def unreadable(*_: object) -> None:
    raise StorageError("it cannot be read")


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
