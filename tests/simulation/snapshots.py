"""Whole states from member to member. Making, carrying and reading the file is played; what the real receiver decides,
and how all rooms go over to the new state, is real."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from etcdpy.membership.members import Membership
from etcdpy.mvcc.store import Store
from etcdpy.proto import raft_pb2
from etcdpy.raft.types import ConfState
from etcdpy.server.snapshot_receiver import Received, SnapshotReceiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.backend import Backend
    from etcdpy.lease.lessor import Lessor
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import HardState
    from tests.simulation.member import Process
    from tests.support.memory_engine import FrozenView

KEPT_SECONDS = 3.0
"""How long the log is kept for a member that was sent a state."""


def attach(process: Process, message: Message) -> FrozenView:
    """Put the state as of now beside a MsgSnap, and say so in it."""
    view = process.engine.frozen_view()
    metadata = raft_pb2.SnapshotMetadata(
        conf_state=view.conf_state.to_proto(), index=view.applied_index, term=view.applied_term
    )
    message.snapshot = raft_pb2.Snapshot(metadata=metadata)
    hold = process.engine.hold_log(view.applied_index)
    process.loop.call_later(KEPT_SECONDS, hold.release)
    return view


class _NoWorkers:
    def start(self, _work: Callable[[], None]) -> None:
        """Nothing is on a real disk."""


class _Done:
    def done(self) -> bool:
        return True


class Receiver(SnapshotReceiver):
    def __init__(self, process: Process) -> None:
        stands_for: Any = process
        workers: Any = _NoWorkers()
        super().__init__(stands_for, self, workers, lambda _coroutine: None)  # type: ignore[arg-type, return-value]
        self._process = process

    def take(self, message: Message, view: FrozenView) -> None:
        """A MsgSnap has arrived, with the state beside it."""
        process = self._process
        assert message.snapshot is not None
        metadata = message.snapshot.metadata
        if metadata.index <= process.applier.applied_index:
            process.node.receive(message)
            return
        new_state: Any = process.engine.new_state()
        for key, value in view.items().items():
            new_state.put(key, value)
        new_state.digest = view.digest
        Membership(new_state).found(process.membership.cluster_id, process.membership.own_id)
        new_state.finish(metadata.index, metadata.term, ConfState.from_proto(metadata.conf_state))
        lessor = self.make_lessor(new_state.backend)
        for _ in lessor.restore_steps():
            pass
        store = Store(new_state.backend, lessor)
        for _ in store.restore_aside_steps():
            pass
        for key, lease in store.leased_keys():
            if lessor.exists(lease):
                lessor.attach(lease, key)
        self._offer(message, Received(new_state, store, lessor))

    def install(self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Callable[[Any], None]) -> None:
        received, self._ready = self._ready, None
        assert received is not None, "raft wants a snapshot that nobody has received"
        assert received.new_state.index == snapshot.metadata.index
        self.installing += 1
        finished: Any = _Done()
        installed: Any = partial(self._installed, received, done, finished)
        new_state: Any = received.new_state
        self._process.cluster.trace(f"{self._process.id} installs {new_state.index}")
        self._process.engine.install(new_state, hard_state, installed, self._process.loop)

    # --- Surroundings ---

    def make_lessor(self, backend: Backend) -> Lessor:
        return self._process.make_lessor(backend)

    def step(self, message: Message) -> None:
        self._process.node.receive(message)

    def waiting_snapshot(self) -> int:
        return self._process.raw.waiting_snapshot

    def before_install(self) -> None:
        pass

    def state_is_replaced(self) -> None:
        self._process.state_is_replaced()
