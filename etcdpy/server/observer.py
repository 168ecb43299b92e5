"""What a node needs of whoever it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.proto import raft_pb2
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import HardState
    from etcdpy.storage.errors import StorageError


class Observer(Protocol):
    """Who is told what the node goes through: the composition root."""

    def leadership_changed(self, leader: int, term: int, *, is_self: bool) -> None:
        """`leader` is 0 when there is none."""
        ...

    def entries_applied(self) -> None:
        """Entries were applied; the store's changes wait for the watchers."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Carry messages to other members."""
        ...

    def connected_since(self, started: float) -> bool:
        """Whether this member has been in touch, since that time, with those whom a proposal needs."""
        ...

    def install_snapshot(
        self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Callable[[StorageError | None], None]
    ) -> None:
        """Go over to the leader's state, which was received before; `done` comes in the turn in which that happens."""
        ...

    def broken(self, error: Exception) -> None:
        """A bug has shown itself in the replicated state: the process must end before it does harm."""
        ...

    def storage_failed(self, error: StorageError) -> None:
        """The disk refused a write. Nothing of it was acknowledged, and nothing will be."""
        ...
