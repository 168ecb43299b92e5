"""--force-new-cluster: one member goes on alone with what it has, when the others are lost for good.

What is not committed is dropped, and the log goes on with changes that remove everybody else. They count as committed,
as no vote is left to ask for; applying them then removes the members like any other change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.membership import changes
from etcdpy.membership.member import Member
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.types import HardState
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.storage.engine import Engine

log = logs.get("etcdserver")

_DEFAULT_PEER_URL = "http://localhost:2380"
"""What etcd gives a member that its own group does not know."""


def force_new_cluster(engine: Engine, cluster_id: int, own_id: int) -> None:
    """Rewrite the end of the log so that `own_id` is the whole group. Synced. Raises StorageError."""
    hard_state, _ = engine.log.initial_state()
    commit = max(hard_state.commit, engine.applied_index)
    dropped = engine.log.last_index() - commit
    if dropped:
        log.info("discarding uncommitted WAL entries", **{"number-of-discarded-entries": dropped})
    entries = [
        Entry(change.SerializeToString(), None, hard_state.term, index, EntryType.CONF_CHANGE)
        for index, change in enumerate(_changes(_effective_members(engine, commit), own_id), commit + 1)
    ]
    if dropped and not entries:
        # An entry without content takes the place of what is dropped.
        entries = [Entry(b"", None, hard_state.term, commit + 1)]
    last = commit + len(entries)
    engine.write_now(HardState(hard_state.term, hard_state.vote, last), entries)
    log.info(
        "forcing restart member",
        **{
            "cluster-id": f"{cluster_id:x}",
            "local-member-id": f"{own_id:x}",
            "wal-commit-index": hard_state.commit,
            "commit-index": last,
        },
    )


def _changes(members: list[int], own_id: int) -> Iterator[raft_pb2.ConfChange]:
    """Oneself first: a group must never be empty."""
    if own_id not in members:
        yield changes.addition(Member(own_id, (_DEFAULT_PEER_URL,)))
    yield from (changes.removal(member) for member in members if member != own_id)


def _effective_members(engine: Engine, commit: int) -> list[int]:
    """Voters and learners as of entry `commit`."""
    _, group = engine.log.initial_state()
    members = {*group.voters, *group.learners}
    for change in _conf_changes(engine, commit):
        if change.type in (raft_pb2.ConfChangeAddNode, raft_pb2.ConfChangeAddLearnerNode):
            members.add(change.node_id)
        elif change.type == raft_pb2.ConfChangeRemoveNode:
            members.discard(change.node_id)
    return sorted(members)


def _conf_changes(engine: Engine, commit: int) -> Iterator[raft_pb2.ConfChange]:
    """Those that are committed and not yet applied."""
    index = engine.applied_index + 1
    while index <= commit:
        entries = engine.log.entries(index, commit + 1, limits.FORCE_NEW_READ_BYTES)
        for entry in entries:
            if entry.type == EntryType.CONF_CHANGE:
                yield raft_pb2.ConfChange.FromString(entry.data)
        index = entries[-1].index + 1
