"""--force-new-cluster: what the log ends with afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.membership import changes
from etcdpy.membership.member import Member
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server.force_new import force_new_cluster
from etcdpy.storage.engine import Engine

if TYPE_CHECKING:
    from pathlib import Path


def entry(index: int, change: raft_pb2.ConfChange | None = None, term: int = 2) -> Entry:
    if change is None:
        return Entry(b"data %d" % index, None, term, index)
    return Entry(change.SerializeToString(), None, term, index, EntryType.CONF_CHANGE)


def engine_with(path: Path, group: ConfState, entries: list[Entry], *, commit: int, applied: int = 0) -> Engine:
    engine = Engine.open(path)
    engine.bootstrap(group, HardState(2, 1, commit), entries)
    if applied:
        engine.set_applied(applied, 2)
    return engine


def reopened(path: Path, engine: Engine) -> Engine:
    engine.close()
    return Engine.open(path)


def tail(engine: Engine, first: int) -> list[tuple[int, int]]:
    """(kind, member) of the changes from entry `first` on."""
    found: list[tuple[int, int]] = []
    for each in engine.log.entries(first, engine.log.last_index() + 1, 1 << 20):
        change = raft_pb2.ConfChange.FromString(each.data)
        found.append((change.type, change.node_id))
    return found


def test_the_others_go_and_what_is_not_committed_too(tmp_path: Path) -> None:
    group = ConfState((1, 2, 3), (9,))
    engine = engine_with(tmp_path, group, [entry(1), entry(2), entry(3), entry(4)], commit=2)
    force_new_cluster(engine, 7, 1)
    engine = reopened(tmp_path, engine)
    remove = raft_pb2.ConfChangeRemoveNode
    assert tail(engine, 3) == [(remove, 2), (remove, 3), (remove, 9)]
    assert engine.log.hard_state == HardState(2, 1, 5)
    assert [each.data for each in engine.log.entries(1, 3, 1 << 20)] == [b"data 1", b"data 2"]
    engine.close()


def test_changes_that_wait_to_be_applied_count(tmp_path: Path) -> None:
    waiting = [
        entry(1, changes.addition(Member(4, ("http://d:1",)))),
        entry(2, changes.removal(2)),
        entry(3, changes.addition(Member(5, ("http://e:1",), is_learner=True))),
        entry(4, changes.update(3, ["http://c:9"])),
    ]
    engine = engine_with(tmp_path, ConfState((1, 2, 3)), waiting, commit=4)
    force_new_cluster(engine, 7, 1)
    remove = raft_pb2.ConfChangeRemoveNode
    assert tail(engine, 5) == [(remove, 3), (remove, 4), (remove, 5)]
    engine.close()


def test_a_stored_commit_index_may_be_old(tmp_path: Path) -> None:
    """What is applied was committed, whatever the hard state says."""
    engine = engine_with(tmp_path, ConfState((1,)), [entry(1), entry(2), entry(3)], commit=1, applied=3)
    force_new_cluster(engine, 7, 1)
    assert engine.log.hard_state == HardState(2, 1, 3)
    assert engine.log.last_index() == 3
    engine.close()


def test_a_lone_member_only_loses_what_is_not_committed(tmp_path: Path) -> None:
    engine = engine_with(tmp_path, ConfState((1,)), [entry(1), entry(2), entry(3)], commit=1)
    force_new_cluster(engine, 7, 1)
    engine = reopened(tmp_path, engine)
    assert engine.log.last_index() == 2
    assert [each.data for each in engine.log.entries(2, 3, 1 << 20)] == [b""]
    assert engine.log.hard_state.commit == 2
    engine.close()


def test_a_member_that_its_group_does_not_know_is_added_first(tmp_path: Path) -> None:
    engine = engine_with(tmp_path, ConfState((2, 3)), [entry(1)], commit=1)
    force_new_cluster(engine, 7, 1)
    remove = raft_pb2.ConfChangeRemoveNode
    assert tail(engine, 2) == [(raft_pb2.ConfChangeAddNode, 1), (remove, 2), (remove, 3)]
    (added,) = engine.log.entries(2, 3, 1 << 20)
    context = raft_pb2.ConfChange.FromString(added.data).context
    assert Member.from_context(context) == Member(1, ("http://localhost:2380",))
    engine.close()
