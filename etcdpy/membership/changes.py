"""Changes of members as they travel through the log: how each is written, and whether it still holds when applied.

A change is judged against the members as of its own place in the log, on every member alike, so two that were proposed
at once cannot both win.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from etcdpy.errors import MemberExists, MemberNotFound, MemberNotLearner, PeerUrlExists, TooManyLearners
from etcdpy.membership.member import Member
from etcdpy.proto import raft_pb2

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

_ADDITIONS: Final = (raft_pb2.ConfChangeAddNode, raft_pb2.ConfChangeAddLearnerNode)


def addition(member: Member) -> raft_pb2.ConfChange:
    """Take `member` in, as a voter or as the learner that it says it is."""
    kind = raft_pb2.ConfChangeAddLearnerNode if member.is_learner else raft_pb2.ConfChangeAddNode
    return raft_pb2.ConfChange(type=kind, node_id=member.id, context=member.to_context())


def promotion(member: int) -> raft_pb2.ConfChange:
    """Give a learner its vote. For raft that is an addition; the context says what it means."""
    context = json.dumps({"id": member, "peerURLs": None, "isPromote": True}, separators=(",", ":"))
    return raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddNode, node_id=member, context=context.encode())


def removal(member: int) -> raft_pb2.ConfChange:
    """Let `member` go, for good: its id never comes back."""
    return raft_pb2.ConfChange(type=raft_pb2.ConfChangeRemoveNode, node_id=member)


def update(member: int, peer_urls: Iterable[str]) -> raft_pb2.ConfChange:
    """Give `member` other peer URLs."""
    context = Member(member, tuple(peer_urls)).to_context()
    return raft_pb2.ConfChange(type=raft_pb2.ConfChangeUpdateNode, node_id=member, context=context)


def is_promotion(change: raft_pb2.ConfChange) -> bool:
    """Whether an addition means a learner that is already there."""
    return change.type == raft_pb2.ConfChangeAddNode and bool(json.loads(change.context).get("isPromote"))


def check(
    change: raft_pb2.ConfChange, members: Mapping[int, Member], removed: Container[int], *, max_learners: int
) -> None:
    """Raise the error that a client is to see when the change no longer makes sense."""
    if change.node_id in removed:
        raise MemberNotFound
    known = members.get(change.node_id)
    if change.type in _ADDITIONS and not is_promotion(change):
        _check_addition(change, members, max_learners)
    elif known is None:
        raise MemberNotFound
    elif change.type == raft_pb2.ConfChangeUpdateNode:
        others = [each for each in members.values() if each.id != change.node_id]
        _check_urls(Member.from_context(change.context), others)
    elif change.type in _ADDITIONS and not known.is_learner:
        raise MemberNotLearner


def check_learners(members: Iterable[Member], max_learners: int) -> None:
    """Raise TooManyLearners when there are more than --max-learners."""
    if sum(each.is_learner for each in members) > max_learners:
        raise TooManyLearners


def _check_addition(change: raft_pb2.ConfChange, members: Mapping[int, Member], max_learners: int) -> None:
    if change.node_id in members:
        raise MemberExists
    added = Member.from_context(change.context)
    _check_urls(added, members.values())
    if added.is_learner and change.type == raft_pb2.ConfChangeAddLearnerNode:
        check_learners([*members.values(), added], max_learners)


def _check_urls(member: Member, others: Iterable[Member]) -> None:
    taken = {url for each in others for url in each.peer_urls}
    if not taken.isdisjoint(member.peer_urls):
        raise PeerUrlExists
