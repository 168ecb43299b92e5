"""Sends the whole state to members whose next entry is not in the log any more.

    MsgSnap -> frozen view -> a file in etcd's format, made in slices -> the network -> removed

Members that ask while a file is there, or being made, share it. The log keeps every entry after its index as long as
that, and a while longer, so that none of them needs a second one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from etcdpy import limits
from etcdpy.histogram import SNAPSHOT_SECONDS, Histogram
from etcdpy.interchange.member_tree import member_tree
from etcdpy.proto import raft_pb2
from etcdpy.server import logs
from etcdpy.server.state_file import Cancelled, StateFile
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from etcdpy.peer.posting import SnapshotBody
    from etcdpy.raft.message import Message
    from etcdpy.server.snapshot_files import Workers
    from etcdpy.storage.engine import Engine

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logs.get("etcdserver")


class Carrier(Protocol):
    """Who takes a snapshot to its member, and hears of the ones that never left."""

    def send_snapshot(self, message: Message, body: SnapshotBody) -> None:
        """Carry it; closes `body`."""
        ...

    def snapshot_sent(self, member: int, ok: bool) -> None:
        """It reached the member, or did not."""
        ...

    def leads(self, term: int) -> bool:
        """Whether this member still leads in `term`: otherwise nobody wants its snapshots."""
        ...


class SharedFile(StateFile):
    """The state as of one index in a file, for as long as somebody is being sent it."""

    _IS_SHARED = True

    def __init__(self, engine: Engine, workers: Workers, make_seconds: Histogram) -> None:
        super().__init__(engine, workers, make_seconds)
        assert self._view is not None
        self.conf_state = self._view.conf_state
        metadata = raft_pb2.SnapshotMetadata(
            conf_state=self.conf_state.to_proto(), index=self.index, term=self._view.applied_term
        )
        self.snapshot = raft_pb2.Snapshot(data=member_tree(self._view), metadata=metadata)
        """What travels in the message beside the file."""
        self._hold = engine.hold_log(self.index)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it can be sent, though it may still grow; or the reason why it cannot."""
        self.users = 0

    def serves(self, member: int) -> bool:
        """Whether a member can go on from it: it knows the member, and not too many entries follow it."""
        known = (*self.conf_state.voters, *self.conf_state.learners, *self.conf_state.voters_outgoing)
        close = self._engine.applied_index - self.index <= self._engine.catchup_entries
        return member in known and (close or not self.ready.done())

    async def make(self) -> None:
        """Lay the file out, which tells `ready`, and make it."""
        try:
            await self.lay_out()
        except (OSError, StorageError, Cancelled) as error:
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waited for the file may be gone
        else:
            self.ready.set_result(None)
            await self.fill()

    def end(self) -> None:
        """Nobody is sent it any more."""
        asyncio.get_running_loop().call_later(limits.SNAPSHOT_LOG_HELD_SECONDS, self._hold.release)
        super().end()


class SharedBody:
    """One member's use of a shared file; the peer room's SnapshotBody."""

    def __init__(self, shared: SharedFile, on_close: Callable[[], None]) -> None:
        self._shared = shared
        self._on_close: Callable[[], None] | None = on_close

    @property
    def size_bytes(self) -> int:
        """See SnapshotBody."""
        return self._shared.size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """See SnapshotBody."""
        try:
            async for piece in self._shared.pieces():
                yield piece
        except (StorageError, Cancelled) as error:
            raise OSError(str(error) or "the state is being replaced") from error

    def close(self) -> None:
        """See SnapshotBody. Again is no error."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class SnapshotSender:
    """One for each member that may lead. `spawn` runs its tasks."""

    def __init__(self, engine: Engine, carrier: Carrier, workers: Workers, spawn: Spawn) -> None:
        self._engine = engine
        self._carrier = carrier
        self._workers = workers
        self._spawn = spawn
        self._files: list[SharedFile] = []
        self._targets: set[int] = set()
        self.make_seconds = Histogram(SNAPSHOT_SECONDS)
        """etcd_disk_backend_snapshot_duration_seconds."""

    def send(self, message: Message) -> None:
        """Send the state with a MsgSnap; how that went is reported to raft, by us or by the network."""
        if message.to in self._targets:
            return  # raft hears of the one that is on its way
        self._targets.add(message.to)
        self._spawn(self._send(message))

    async def _send(self, message: Message) -> None:
        try:
            shared = self._shared_for(message.to)
        except StorageError as error:
            log.warn("failed to send database snapshot", error=str(error), **{"remote-peer-id": f"{message.to:x}"})
            self._targets.discard(message.to)
            self._carrier.snapshot_sent(message.to, False)
            return
        shared.users += 1
        try:
            await asyncio.shield(shared.ready)
            if not self._carrier.leads(message.term):
                raise Cancelled
        except (OSError, StorageError, Cancelled) as error:
            fields = {"snapshot-index": shared.index, "remote-peer-id": f"{message.to:x}"}
            log.warn("failed to send database snapshot", **fields, error=str(error) or "not leader any more")
            self._done(shared, message.to)
            self._carrier.snapshot_sent(message.to, False)
            return
        message.snapshot = shared.snapshot
        self._carrier.send_snapshot(message, SharedBody(shared, lambda: self._done(shared, message.to)))

    def _shared_for(self, member: int) -> SharedFile:
        for shared in self._files:
            if shared.serves(member):
                return shared
        shared = SharedFile(self._engine, self._workers, self.make_seconds)
        self._files.append(shared)
        self._spawn(shared.make())
        return shared

    def _done(self, shared: SharedFile, member: int) -> None:
        self._targets.discard(member)
        shared.users -= 1
        if not shared.users and shared in self._files:
            self._files.remove(shared)
            shared.end()

    def let_go_of_state(self) -> None:
        """The state is about to be replaced by another member's: give up what is being made of it."""
        for shared in self._files:
            shared.let_go_of_state()

    def close(self) -> None:
        """The member ends: files go, entries need not be kept."""
        for shared in self._files:
            shared.end()
        self._files.clear()
