"""Whole states on their way: from the leader, to members, to clients; each between raft, network and rooms."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from etcdpy.raft.tracker import ProgressState
from etcdpy.server.backups import Backups
from etcdpy.server.snapshot_files import Workers
from etcdpy.server.snapshot_receiver import SnapshotReceiver
from etcdpy.server.snapshot_sender import SnapshotSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.backend import Backend
    from etcdpy.lease.lessor import Lessor
    from etcdpy.peer.network import PeerNetwork
    from etcdpy.peer.posting import SnapshotBody
    from etcdpy.raft.message import Message
    from etcdpy.server.member import Replica
    from etcdpy.server.slices import SliceRunner
    from etcdpy.server.snapshot_sender import Spawn


class Snapshots:
    """Implements what both ask of the member around them."""

    def __init__(
        self,
        replica: Replica,
        network: PeerNetwork,
        slices: SliceRunner,
        spawn: Spawn,
        make_lessor: Callable[[Backend], Lessor],
    ) -> None:
        self._replica = replica
        self._network = network
        self._slices = slices
        self.make_lessor: Callable[[Backend], Lessor] = make_lessor
        self._workers = Workers()
        self.sender = SnapshotSender(replica.engine, self, self._workers, spawn)
        self.receiver = SnapshotReceiver(replica, self, self._workers, spawn)
        self.backups = Backups(replica.engine, self._workers, self.sender.make_seconds, spawn)
        replica.engine.lowest_match = self._lowest_match

    def close(self) -> None:
        """Wait for the threads; what they did not come to is left to the next start."""
        self.sender.close()
        self._workers.close()

    def _lowest_match(self) -> int:
        """See Engine.lowest_match."""
        progress = self._replica.raw.status().progress or {}
        taking = [
            each.match for each in progress.values() if each.state is ProgressState.REPLICATE and each.recent_active
        ]
        return min(taking, default=sys.maxsize)

    # --- for the sender ---

    def send_snapshot(self, message: Message, body: SnapshotBody) -> None:
        """See Carrier."""
        self._network.send_snapshot(message, body)

    def snapshot_sent(self, member: int, ok: bool) -> None:
        """See Carrier."""
        self._replica.node.snapshot_sent(member, ok=ok)

    def leads(self, term: int) -> bool:
        """See Carrier."""
        raw = self._replica.raw
        return raw.is_leader and raw.term == term

    # --- for the receiver ---

    def step(self, message: Message) -> None:
        """See Surroundings."""
        self._replica.node.receive(message)

    def waiting_snapshot(self) -> int:
        """See Surroundings."""
        return self._replica.raw.waiting_snapshot

    def before_install(self) -> None:
        """See Surroundings."""
        self.sender.let_go_of_state()
        self.backups.let_go_of_state()

    def state_is_replaced(self) -> None:
        """See Surroundings."""
        self._slices.interrupt()
        self._replica.users_changed()
        self._replica.on_compaction()
        self._replica.on_changes()
