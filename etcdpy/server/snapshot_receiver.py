"""Takes the whole state from the leader, and goes over to it.

    receive    body -> file -> a new state beside ours -> its index, leases, members -> MsgSnap is stepped
    install    raft wants it: the log is started anew for it, and in one turn of the loop every room goes over

All that takes long happens before raft hears of it. Reads are served all the way: first from the old state, from that
turn on from the new one; watchers go on where they were.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, cast

from etcdpy import limits
from etcdpy.histogram import COMMIT_SECONDS, TRANSFER_SECONDS, Histogram
from etcdpy.interchange.ingest import ingest_steps
from etcdpy.membership.members import Membership
from etcdpy.mvcc.store import Store
from etcdpy.raft.types import ConfState
from etcdpy.server import logs
from etcdpy.server.snapshot_files import TemporaryFile, Workers, check_room, run_paced
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator
    from typing import Any

    from etcdpy.apply.alarms import AlarmStore
    from etcdpy.apply.applier import Applier
    from etcdpy.auth.store import AuthStore
    from etcdpy.backend import Backend
    from etcdpy.lease.lessor import Lessor
    from etcdpy.mvcc.index import KeyIndex
    from etcdpy.mvcc.watch import WatchHub
    from etcdpy.proto import raft_pb2
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import HardState
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.new_state import Installation, NewState

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    Done = Callable[[StorageError | None], None]

log = logs.get("etcdserver")


class SnapshotRefused(Exception):
    """A snapshot that cannot be taken; the leader is told why."""


class Rooms(Protocol):
    """All that is drawn from the applied state."""

    engine: Engine
    store: Store
    lessor: Lessor
    membership: Membership
    alarms: AlarmStore
    auth: AuthStore
    applier: Applier
    hub: WatchHub


class Surroundings(Protocol):
    """What the receiver asks of the member around it."""

    def make_lessor(self, backend: Backend) -> Lessor:
        """A lessor with this member's settings over another state."""
        ...

    def step(self, message: Message) -> None:
        """Give raft a message."""
        ...

    def waiting_snapshot(self) -> int:
        """The index of the snapshot that raft wants to have installed; 0 for none."""
        ...

    def before_install(self) -> None:
        """The old state is about to go: nothing more is to be made of it."""
        ...

    def state_is_replaced(self) -> None:
        """In the turn in which everything goes over: end long reads, wake who has work to do."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """A state that is complete on disk, and what is kept of it in memory."""

    new_state: NewState
    store: Store
    lessor: Lessor


class SnapshotReceiver:
    """One for each member. `spawn` runs its tasks."""

    def __init__(self, rooms: Rooms, surroundings: Surroundings, workers: Workers, spawn: Spawn) -> None:
        self._rooms = rooms
        self._surroundings = surroundings
        self._workers = workers
        self._spawn = spawn
        self._ready: Received | None = None
        """What raft may ask to install next."""
        self._receiving = 0
        self._newest: Message | None = None
        self._installing_index = 0
        """What raft waits for until it is installed, and does not ask for again; 0 when nothing is."""
        self.installing = 0
        """etcd_server_snapshot_apply_in_progress_total."""
        self.save_seconds = Histogram(TRANSFER_SECONDS)
        """etcd_snap_db_save_total_duration_seconds: from the first byte until all of it counts as stored."""
        self.sync_seconds = Histogram(COMMIT_SECONDS)
        """etcd_snap_db_fsync_duration_seconds."""

    # --- receiving ---

    async def receive(self, message: Message, body: AsyncIterator[bytes]) -> None:
        """Store what comes with a MsgSnap, then step it. Raises what the leader is to be told."""
        assert message.snapshot is not None
        if message.snapshot.metadata.index <= self._rooms.applier.applied_index:
            async for _ in body:
                pass
            self._surroundings.step(message)  # raft answers how far it is
            return
        if self._receiving >= limits.SNAPSHOTS_RECEIVED_AT_ONCE:
            raise SnapshotRefused("other snapshots are being received")
        self._receiving += 1
        self._newest = message
        began = perf_counter()
        try:
            received = await self._store(message, body)
        finally:
            self._receiving -= 1
        self.save_seconds.observe(perf_counter() - began)
        self._offer(message, received)

    def _offer(self, message: Message, received: Received) -> None:
        """Let raft decide whether it wants that."""
        before, self._ready = self._ready, received
        self._surroundings.step(message)
        index = received.new_state.index
        if self._surroundings.waiting_snapshot() != index or index == self._installing_index:
            self._ready, before = before, received
        if before is not None:
            self._workers.start(before.new_state.discard)

    def _check_wanted(self, message: Message) -> None:
        if self._newest is not message:
            raise SnapshotRefused("a newer snapshot has come")
        metadata = message.snapshot.metadata if message.snapshot is not None else None
        if metadata is None or metadata.index <= self._rooms.applier.applied_index:
            raise SnapshotRefused("the snapshot holds nothing new")

    async def _store(self, message: Message, body: AsyncIterator[bytes]) -> Received:
        engine = self._rooms.engine
        self._check_wanted(message)
        file = TemporaryFile(engine.temporary_path("received"), encrypted=engine.encrypts_files)
        try:
            await self._save(file, message, body)
            check_room(file.path.parent, file.size_bytes)
            new_state = engine.new_state()
            try:
                return await self._take_in(file, new_state, message)
            except BaseException:
                self._workers.start(new_state.discard)
                raise
        finally:
            self._workers.start(file.remove)

    async def _save(self, file: TemporaryFile, message: Message, body: AsyncIterator[bytes]) -> None:
        """Raises OSError, also when the disk has no room, ConnectionError when the leader goes away."""
        async for piece in body:
            file.write(piece)
            if file.waiting_bytes >= limits.SNAPSHOT_WRITE_BYTES:
                self._check_wanted(message)
                if file.size_bytes > limits.SNAPSHOT_BYTES_MAX:
                    raise SnapshotRefused(f"it is larger than {limits.SNAPSHOT_BYTES_MAX} bytes")
                await self._workers.run(file.take())
                if file.dirty_bytes >= limits.SNAPSHOT_WRITE_BACK_BYTES:
                    await self._workers.run(file.write_back)
        await self._workers.run(file.take())

    async def _take_in(self, file: TemporaryFile, new_state: NewState, message: Message) -> Received:
        """The file's content as a state of ours. Raises DamagedFileError, StorageError, SnapshotRefused."""
        assert message.snapshot is not None
        metadata = message.snapshot.metadata

        async def write() -> None:
            self._check_wanted(message)
            if new_state.should_flush:
                await self._workers.run(new_state.flush())

        content = await run_paced(ingest_steps(file.path, new_state.put_many, file.sealed), write)
        if content.index != metadata.index:
            raise SnapshotRefused(f"its state is as of entry {content.index}, its message says {metadata.index}")
        membership = self._rooms.membership
        Membership(cast("Backend", new_state)).found(membership.cluster_id, membership.own_id)
        began = perf_counter()
        conf_state = ConfState.from_proto(metadata.conf_state)
        await self._workers.run(new_state.finish(metadata.index, metadata.term, conf_state))
        self.sync_seconds.observe(perf_counter() - began)
        # A state that this version cannot serve is refused while the old one still counts.
        Membership(new_state.backend).restore()
        return await run_paced(self._restore_steps(new_state), write)

    def _restore_steps(self, new_state: NewState) -> Generator[Any, None, Received]:
        """What is kept in memory of a state, built beside what serves."""
        backend = new_state.backend
        lessor = self._surroundings.make_lessor(backend)
        yield from lessor.restore_steps()
        store = Store(backend, lessor)
        yield from store.restore_aside_steps()
        for count, (key, lease) in enumerate(store.leased_keys()):
            if lessor.exists(lease):
                lessor.attach(lease, key)
            if count % limits.RESTORE_ASIDE_SLICE_RECORDS == 0:
                yield
        return Received(new_state, store, lessor)

    # --- installing ---

    def install(self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Done) -> None:
        """Go over to the state that a Ready names. `done` comes later, in the turn in which all have gone over."""
        received, self._ready = self._ready, None
        assert received is not None, "raft wants a snapshot that nobody has received"
        assert received.new_state.index == snapshot.metadata.index
        self.installing += 1
        self._installing_index = received.new_state.index
        self._spawn(self._install(received, hard_state, done))

    async def _install(self, received: Received, hard_state: HardState, done: Done) -> None:
        rooms = self._rooms
        log.info("applying snapshot", **self._fields(received))
        self._surroundings.before_install()
        deadline = perf_counter() + limits.SNAPSHOT_READERS_SECONDS
        while rooms.store.open_reads and perf_counter() < deadline:  # noqa: ASYNC110 (nobody tells when the last one ends)
            await asyncio.sleep(limits.COMPACTION_PIN_WAIT_SECONDS)
        finished: asyncio.Future[KeyIndex | None] = asyncio.get_running_loop().create_future()
        try:
            rooms.engine.install(
                received.new_state,
                hard_state,
                partial(self._installed, received, done, finished),
                asyncio.get_running_loop(),
            )
        except StorageError as error:
            self.installing -= 1
            done(error)
            return
        index = await finished
        if index is not None:
            log.info("applied snapshot", **self._fields(received))
            await self._let_go(index)

    def _installed(
        self, received: Received, done: Done, finished: asyncio.Future[KeyIndex | None], installation: Installation
    ) -> None:
        """The log belongs to the new state; reads see it from this call on."""
        self.installing -= 1
        self._installing_index = 0
        index = self._go_over(received) if installation.error is None else None
        if not finished.done():
            finished.set_result(index)
        done(installation.error)

    def _go_over(self, received: Received) -> KeyIndex:
        rooms, new_state = self._rooms, received.new_state
        revision = rooms.store.current_revision
        index = rooms.store.take_over(received.store)
        rooms.lessor.take_over(received.lessor)
        rooms.membership.reload()
        rooms.alarms.restore()
        rooms.auth.restore()
        rooms.applier.applied_index, rooms.applier.applied_term = new_state.index, new_state.term
        rooms.applier.restore()
        rooms.hub.resync(revision)
        self._surroundings.state_is_replaced()
        return index

    async def _let_go(self, index: KeyIndex) -> None:
        """Of what was there before: files by a thread, memory in slices."""
        for retired in self._rooms.engine.take_retired():
            try:
                await self._workers.run(retired.remove)
            except StorageError as error:
                log.warn("cannot remove the state before the snapshot", error=str(error))

        async def nothing_else() -> None:
            pass

        await run_paced(index.dispose_steps(), nothing_else)

    def _fields(self, received: Received) -> dict[str, object]:
        rooms, new_state = self._rooms, received.new_state
        return {
            "current-snapshot-index": rooms.engine.log.start_index,
            "current-applied-index": rooms.applier.applied_index,
            "incoming-leader-snapshot-index": new_state.index,
            "incoming-leader-snapshot-term": new_state.term,
        }
