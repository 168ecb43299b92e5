"""Our state as etcd's backend file: what a member sends to one that lags too far behind for the log, of either kind.

A 3.7 follower reads nothing else: its members, the cluster's version and the group of its next start come from here,
and `consistent_index` must be the index of the snapshot. `member_tree` makes what goes beside the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

from etcdpy.backend import (
    ALARM_BUCKET,
    AUTH_BUCKET,
    LEASE_BUCKET,
    MEMBER_BUCKET,
    REMOVED_MEMBER_BUCKET,
    REVISION_BUCKET,
)
from etcdpy.interchange import schema
from etcdpy.interchange.bolt_writer import write_steps
from etcdpy.membership import members
from etcdpy.membership.members import Member
from etcdpy.mvcc import compaction
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from etcdpy.raft.types import ConfState

    Items = Iterable[tuple[bytes, bytes]]


class View(Protocol):
    """All applied state as of one entry, whatever is written meanwhile; storage.FrozenView is one."""

    @property
    def applied_index(self) -> int:
        """The last entry that is in it."""
        ...

    @property
    def applied_term(self) -> int:
        """The term of that entry."""
        ...

    @property
    def conf_state(self) -> ConfState:
        """The group as of that entry."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """See Backend.get."""
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See Backend.scan."""
        ...


def export_steps(view: View, file: BinaryIO) -> Generator[int, None, int]:
    """Write the view to a new, buffered file. Yields the bytes written so far, about every millisecond.

    Returns the size of the file, which is not synced. 200 MB per CPU second and more, from LevelDB: bench/interchange.
    """
    return write_steps(file, buckets_of(view))


def members_of(view: View) -> list[Member]:
    """The members, by id."""
    return [Member.from_proto(rpc_pb2.Member.FromString(record)) for _, record in view.scan(*_bounds(MEMBER_BUCKET))]


def removed_members_of(view: View) -> list[int]:
    """The ids that were members once."""
    return [int.from_bytes(key[1:], "big") for key, _ in view.scan(*_bounds(REMOVED_MEMBER_BUCKET))]


def _bounds(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, prefix[:-1] + bytes((prefix[-1] + 1,))


def buckets_of(view: View) -> Iterator[tuple[bytes, Items]]:
    """etcd's buckets by name. It has all of them from the start, and some of its tools count on that."""
    yield schema.ALARM, _without_prefix(view, ALARM_BUCKET)
    yield schema.AUTH, _auth(view)
    yield schema.AUTH_ROLES, _auth_items(view, schema.AUTH_ROLES)
    yield schema.AUTH_USERS, _auth_items(view, schema.AUTH_USERS)
    yield schema.CLUSTER, _cluster(view)
    yield schema.KEY, _revisions(view)
    yield schema.LEASE, _without_prefix(view, LEASE_BUCKET)
    yield schema.MEMBERS, sorted(_members(view))
    removed = sorted(schema.hex_id(each) for each in removed_members_of(view))
    yield schema.MEMBERS_REMOVED, [(each, schema.REMOVED_MARK) for each in removed]
    yield schema.META, sorted(_meta(view).items())


def _without_prefix(view: View, prefix: bytes) -> Items:
    length = len(prefix)
    return ((key[length:], value) for key, value in view.scan(*_bounds(prefix)))


def _revisions(view: View) -> Items:
    separator = schema.SUB_SEPARATOR
    return ((key[1:9] + separator + key[9:], record) for key, record in view.scan(*_bounds(REVISION_BUCKET)))


def _auth_items(view: View, bucket: bytes) -> Items:
    return _without_prefix(view, AUTH_BUCKET + bucket + b"\0")


def _auth(view: View) -> Items:
    # etcd counts from 1 on, and takes requests of another auth revision for outdated.
    return sorted({schema.AUTH_REVISION: (1).to_bytes(8, "big"), **dict(_auth_items(view, schema.AUTH))}.items())


def _cluster(view: View) -> Items:
    stored = {schema.CLUSTER_VERSION: members.CLUSTER_VERSION, schema.DOWNGRADE: members.DOWNGRADE}
    found = ((name, view.get(key)) for name, key in stored.items())
    return [(name, value) for name, value in found if value]


def _members(view: View) -> Items:
    return ((schema.hex_id(each.id), schema.to_json(each.to_fields()).encode()) for each in members_of(view))


def _meta(view: View) -> dict[bytes, bytes]:
    found = {schema.CONF_STATE: schema.conf_state_json(view.conf_state)}
    # etcd takes 0 for "never saved".
    if view.applied_index:
        found[schema.CONSISTENT_INDEX] = view.applied_index.to_bytes(8, "big")
    if view.applied_term:
        found[schema.TERM] = view.applied_term.to_bytes(8, "big")
    version = view.get(members.CLUSTER_VERSION)
    if version:
        found[schema.STORAGE_VERSION] = version
    marks = {
        schema.SCHEDULED_COMPACTION: compaction.SCHEDULED_COMPACTION,
        schema.FINISHED_COMPACTION: compaction.FINISHED_COMPACTION,
    }
    for name, key in marks.items():
        main = view.get(key)
        if main is not None:
            found[name] = main + schema.SUB_SEPARATOR + bytes(4)
    return found
