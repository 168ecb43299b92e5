"""Our state as etcd's backend file: what a member sends to one that lags too far behind for the log, of either kind.

A 3.7 follower reads nothing else: its members, the cluster's version and the group of its next start come from here,
and `consistent_index` must be the index of the snapshot. `member_tree` makes what goes beside the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy.backend import (
    ALARM_BUCKET,
    AUTH_BUCKET,
    LEASE_BUCKET,
    MEMBER_BUCKET,
    REMOVED_MEMBER_BUCKET,
    REVISION_BUCKET,
)
from etcdpy.interchange import schema
from etcdpy.interchange.bolt_writer import layout_steps, write_steps
from etcdpy.membership import members
from etcdpy.membership.members import Member
from etcdpy.mvcc import compaction
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from etcdpy.interchange.bolt_writer import Items, Layout, Sink
    from etcdpy.raft.types import ConfState

    Convert = Callable[[tuple[bytes, bytes]], tuple[bytes, bytes]]


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


def export_steps(view: View, file: Sink) -> Generator[int, None, int]:
    """Write the view to a new file. Yields the bytes written so far, about every millisecond.

    Returns the size of the file, which is not synced. 300 MB per CPU second and more, from LevelDB: bench/interchange.
    """
    buckets = buckets_of(view)
    steps = layout_steps(buckets)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            layout: Layout = stop.value
            break
        yield 0
    yield from write_steps(file, buckets, layout)
    return layout.size_bytes


def members_of(view: View) -> list[Member]:
    """The members, by id."""
    return [Member.from_proto(rpc_pb2.Member.FromString(record)) for _, record in view.scan(*_bounds(MEMBER_BUCKET))]


def removed_members_of(view: View) -> list[int]:
    """The ids that were members once."""
    return [int.from_bytes(key[1:], "big") for key, _ in view.scan(*_bounds(REMOVED_MEMBER_BUCKET))]


def _bounds(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, prefix[:-1] + bytes((prefix[-1] + 1,))


def buckets_of(view: View) -> list[tuple[bytes, Items]]:
    """etcd's buckets by name. It has all of them from the start, and some of its tools count on that."""
    removed = sorted(schema.hex_id(each) for each in removed_members_of(view))
    return [
        (schema.ALARM, _without_prefix(view, ALARM_BUCKET)),
        (schema.AUTH, _auth(view)),
        (schema.AUTH_ROLES, _auth_items(view, schema.AUTH_ROLES)),
        (schema.AUTH_USERS, _auth_items(view, schema.AUTH_USERS)),
        (schema.CLUSTER, _cluster(view)),
        (schema.KEY, _Scan(view, REVISION_BUCKET, _revision)),
        (schema.LEASE, _without_prefix(view, LEASE_BUCKET)),
        (schema.MEMBERS, _members(view)),
        (schema.MEMBERS_REMOVED, [(each, schema.REMOVED_MARK) for each in removed]),
        (schema.META, sorted(_meta(view).items())),
    ]


class _Scan:
    """What stands under a prefix, in etcd's form, read whenever it is gone through."""

    def __init__(self, view: View, prefix: bytes, convert: Convert) -> None:
        self._view = view
        self._prefix = prefix
        self._convert = convert

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return map(self._convert, self._view.scan(*_bounds(self._prefix)))


def _without_prefix(view: View, prefix: bytes) -> Items:
    length = len(prefix)
    return _Scan(view, prefix, lambda pair: (pair[0][length:], pair[1]))


def _revision(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    key, record = pair
    return b"".join((key[1:9], schema.SUB_SEPARATOR, key[9:])), record


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
    return sorted((schema.hex_id(each.id), schema.to_json(each.to_fields()).encode()) for each in members_of(view))


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
