"""Handing the leadership over (thesis 3.10).

    leader: stop taking proposals, bring the target's log up to date, then MsgTimeoutNow
    target: start an election at once; the others vote although they hear a leader

If the target does not lead within an election timeout the leader goes on as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import raft_pb2
from etcdpy.raft.message import Message
from etcdpy.raft.replication import maybe_send_append
from etcdpy.raft.types import NO_MEMBER, Role

if TYPE_CHECKING:
    from etcdpy.raft.core import Raft


def transfer(raft: Raft, target: int) -> bool:
    """Hand over to `target`, or have the leader do so. False when that cannot even be tried."""
    if raft.role is Role.LEADER:
        return _begin(raft, target)
    if raft.role is not Role.FOLLOWER or raft.leader == NO_MEMBER:
        return False
    # The target is in the place of the sender, as etcd has it.
    raft.send(Message(raft_pb2.MsgTransferLeader, to=raft.leader, from_=target))
    return True


def _begin(raft: Raft, target: int) -> bool:
    progress = raft.tracker.progress.get(target)
    if progress is None or progress.is_learner:
        return False
    if raft.lead_transferee == target:
        return True
    raft.lead_transferee = NO_MEMBER
    if target == raft.id:
        return False
    raft.election_elapsed = 0  # from which the election timeout until the attempt is given up is counted
    raft.lead_transferee = target
    if progress.match == raft.log.last_index:
        raft.send(Message(raft_pb2.MsgTimeoutNow, to=target))
    else:
        maybe_send_append(raft, target, even_if_empty=True)
    return True


def handle_transfer(raft: Raft, message: Message) -> None:
    """Another member asks for it; `from_` is who should lead."""
    transfer(raft, message.from_)
