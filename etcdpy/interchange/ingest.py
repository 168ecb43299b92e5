"""etcd's backend file as our state: a snapshot that a leader sent, of either kind, or that etcdctl saved.

Records are taken over byte for byte, so HashKV stays what it was. They are looked at first: pages have no checksums,
and what is wrong must be said here, not found by a store that trusts its records.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError, Message

from etcdpy.backend import (
    ALARM_BUCKET,
    AUTH_BUCKET,
    LEASE_BUCKET,
    MEMBER_BUCKET,
    REMOVED_MEMBER_BUCKET,
    REVISION_BUCKET,
)
from etcdpy.interchange import schema
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.limits import INTERCHANGE_SLICE_RECORDS
from etcdpy.membership import members
from etcdpy.membership.members import Member
from etcdpy.mvcc import compaction
from etcdpy.mvcc.revision import TOMBSTONE_MARK
from etcdpy.proto import auth_pb2, kv_pb2, lease_pb2, rpc_pb2
from etcdpy.raft.types import ConfState
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from etcdpy.interchange.bolt_reader import Content, Item

    PutMany = Callable[[Sequence[bytes], Sequence[bytes]], None]
    Convert = Callable[[bytes, bytes], tuple[bytes, bytes]]

_SEPARATOR: Final = schema.SUB_SEPARATOR
_SUB: Final = 8 + len(_SEPARATOR)
"""Where the sub number that we keep begins."""
_REVISION_BYTES: Final = _SUB + 4
_SLICE_BYTES: Final = 64 * 1024
"""Of items that are checked and handed over together. From 128 KiB on the system maps and clears memory for each copy
of them, which takes twice as long."""
_KVS: Final = b"\x12"
"""The tag of RangeResponse.kvs."""


@dataclass(frozen=True, slots=True)
class SnapshotContent:
    """What the state is the state of."""

    index: int
    term: int
    conf_state: ConfState
    """The group as of that index."""


class _Wrong(Exception):
    """What an item has wrong; the caller knows where it stands."""


def ingest_steps(
    path: Path, put_many: PutMany, content: Content | None = None
) -> Generator[int, None, SnapshotContent]:
    """Hand all that a file holds, in our form, to `put_many`, runs of keys with their values. Yields the bytes handed
    over so far, several times a millisecond.

    Not handed over: `applied` and `conf_state`, which are returned, and what belongs to one member alone. Raises
    DamagedFileError, also after much was put, and OSError. `content` is read in place of the file where that is
    encrypted. 160 MB per CPU second for records of 1 KB, writing them included: bench/interchange.
    """
    with BoltFile(path, content) as file:
        return (yield from ingest_open_file_steps(file, put_many))


def ingest_open_file_steps(
    file: BoltFile, put_many: PutMany, *, without: Container[bytes] = ()
) -> Generator[int, None, SnapshotContent]:
    """The same for a file that is open, and not for the buckets `without`."""
    missing = {schema.KEY, schema.META} - set(file.buckets())
    if missing:
        raise DamagedFileError(file.path, "root", f"not a backend file of etcd: no bucket {sorted(missing)[0]!r}")
    done = 0
    for bucket, convert in _CONVERTERS.items():
        if bucket not in without:
            done = yield from _bucket_steps(file, bucket, convert, put_many, done)
    _cluster(file, put_many)
    return _meta(file, put_many)


def check_item(path: Path, bucket: bytes, key: bytes, value: bytes) -> None:
    """Raise DamagedFileError where `ingest_steps` would not take that item of a bucket."""
    convert = _CONVERTERS.get(bucket)
    if convert is None:
        return  # cluster and meta: what reads them at a start checks them
    try:
        convert(key, value)
    except _Wrong as wrong:
        place = f"bucket {bucket.decode()}, key {key[:64]!r}"
        raise DamagedFileError(path, place, str(wrong).replace("\n", " ")) from None


def revision_items(file: BoltFile) -> Iterator[tuple[bytes, bytes]]:
    """All revisions in our form, in order. Raises DamagedFileError."""
    for key, record in file.scan(schema.KEY):
        try:
            yield _revision(key, record)
        except _Wrong as wrong:
            raise _damaged(file, schema.KEY, key, wrong) from None


def _bucket_steps(
    file: BoltFile, bucket: bytes, convert: Convert, put_many: PutMany, done: int
) -> Generator[int, None, int]:
    for items, size in _slices(file.leaves(bucket)):
        if bucket == schema.KEY and _are_sound(items):
            keys = [b"".join((REVISION_BUCKET, key[:8], key[_SUB:])) for key, _ in items]
            values = [record for _, record in items]
        else:
            keys, values = _converted(file, bucket, convert, items)
        put_many(keys, values)
        done += size
        yield done
    return done


def _slices(leaves: Iterable[list[Item]]) -> Iterator[tuple[list[Item], int]]:
    """As many leaves at a time as are worth it, and their bytes."""
    gathered: list[Item] = []
    size = 0
    for items in leaves:
        gathered += items
        size += sum([len(key) + len(value) for key, value in items])
        if len(gathered) >= INTERCHANGE_SLICE_RECORDS or size >= _SLICE_BYTES:
            yield gathered, size
            gathered, size = [], 0
    if gathered:
        yield gathered, size


def _converted(file: BoltFile, bucket: bytes, convert: Convert, items: list[Item]) -> tuple[list[bytes], list[bytes]]:
    keys, values = [], []
    for key, value in items:
        try:
            own_key, own_value = convert(key, value)
        except _Wrong as wrong:
            raise _damaged(file, bucket, key, wrong) from None
        keys.append(own_key)
        values.append(own_value)
    return keys, values


def _damaged(file: BoltFile, bucket: bytes, key: bytes, wrong: object) -> DamagedFileError:
    return DamagedFileError(file.path, f"bucket {bucket.decode()}, key {key[:64]!r}", str(wrong).replace("\n", " "))


# --- an item of each bucket ---


def _are_sound(items: list[Item]) -> bool:
    """Whether `_revision` would take each of these, for sure: one message with all records in it is parsed and written
    in a third of the time. Hot road: 0.5 us an item."""
    joined = b"".join([part for _, record in items for part in (_KVS, varint(len(record)), record)])
    try:
        parsed = rpc_pb2.RangeResponse.FromString(joined)
    except DecodeError:
        return False
    return parsed.SerializeToString() == joined and all(
        _is_revision(key)
        and kv.key
        and (kv.mod_revision == int.from_bytes(key[:8], "big") or len(key) > _REVISION_BYTES)
        for (key, _), kv in zip(items, parsed.kvs, strict=True)
    )


def _is_revision(key: bytes) -> bool:
    return key[8:_SUB] == _SEPARATOR and (len(key) == _REVISION_BYTES or key[_REVISION_BYTES:] == TOMBSTONE_MARK)


def _revision(key: bytes, record: bytes) -> tuple[bytes, bytes]:
    if not _is_revision(key):
        raise _Wrong("not a revision")
    # `etcdutl snapshot restore --bump-revision` marks the new revision with an empty record.
    if record:
        try:
            kv = kv_pb2.KeyValue.FromString(record)
        except DecodeError:
            raise _Wrong("the record is not a KeyValue") from None
        # Its own form is the only one that etcd writes, and the only one that the store's readers know.
        if kv.SerializeToString() != record or not kv.key:
            raise _Wrong("the record is not a KeyValue in etcd's form")
        if kv.mod_revision != int.from_bytes(key[:8], "big") and len(key) == _REVISION_BYTES:
            raise _Wrong(f"the record is that of revision {kv.mod_revision}")
    return b"".join((REVISION_BUCKET, key[:8], key[_SUB:])), record


def _lease(key: bytes, record: bytes) -> tuple[bytes, bytes]:
    lease = lease_pb2.Lease()
    _parse(lease, record)
    if key != (lease.ID & (1 << 64) - 1).to_bytes(8, "big"):
        raise _Wrong(f"the record is that of lease {lease.ID:x}")
    return LEASE_BUCKET + key, record


def _alarm(key: bytes, _: bytes) -> tuple[bytes, bytes]:
    _parse(rpc_pb2.AlarmMember(), key)
    return ALARM_BUCKET + key, b""


def _member(key: bytes, text: bytes) -> tuple[bytes, bytes]:
    try:
        identity = schema.parse_hex_id(key)
        member = Member.from_context(text)
        record = member.to_proto().SerializeToString()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Wrong(f"not a member ({error})") from None
    if member.id != identity:
        raise _Wrong(f"the record is that of member {member.id:x}")
    return MEMBER_BUCKET + identity.to_bytes(8, "big"), record


def _removed_member(key: bytes, _: bytes) -> tuple[bytes, bytes]:
    try:
        return REMOVED_MEMBER_BUCKET + schema.parse_hex_id(key).to_bytes(8, "big"), b""
    except ValueError as error:
        raise _Wrong(error) from None


def _auth_item(bucket: bytes, kind: type[Message] | None, key: bytes, value: bytes) -> tuple[bytes, bytes]:
    if kind is not None:
        _parse(kind(), value)
    elif key == schema.AUTH_REVISION and len(value) != 8:
        raise _Wrong("not a number of 8 bytes")
    return b"".join((AUTH_BUCKET, bucket, b"\0", key)), value


def _parse(message: Message, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise _Wrong(f"not a {type(message).__name__}") from None


_CONVERTERS: Final[dict[bytes, Convert]] = {
    schema.ALARM: _alarm,
    schema.LEASE: _lease,
    schema.MEMBERS: _member,
    schema.KEY: _revision,
    schema.AUTH: partial(_auth_item, schema.AUTH, None),
    schema.AUTH_ROLES: partial(_auth_item, schema.AUTH_ROLES, auth_pb2.Role),
    schema.AUTH_USERS: partial(_auth_item, schema.AUTH_USERS, auth_pb2.User),
    schema.MEMBERS_REMOVED: _removed_member,
}
"""In the order of our keys: LevelDB lays tables beside each other that do not overlap. One key beyond all revisions
that comes before them makes it write most of them twice, partly at the next start: 14.2 s of CPU for 1 GB, not 10.1."""


# --- cluster and meta, of which we keep what we know ---


def _cluster(file: BoltFile, put_many: PutMany) -> None:
    """The cluster's version and its downgrade."""
    found = dict(file.scan(schema.CLUSTER))
    for name, key in _CLUSTER_KEYS.items():
        value = found.get(name)
        if value is not None:
            try:
                value.decode("ascii")
                if name == schema.DOWNGRADE:
                    json.loads(value)["enabled"]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise _damaged(file, schema.CLUSTER, name, f"not what it should be ({error})") from None
            put_many((key,), (value,))


def _meta(file: BoltFile, put_many: PutMany) -> SnapshotContent:
    """What the state is the state of, and the marks of the last compaction."""
    found = dict(file.scan(schema.META))
    for name, key in _COMPACTIONS.items():
        mark = found.get(name)
        if mark is not None:
            if len(mark) != _REVISION_BYTES or mark[8:_SUB] != _SEPARATOR:
                raise _damaged(file, schema.META, name, "not a revision")
            put_many((key,), (mark[:8],))
    index, term = (_number(file, found, name) for name in (schema.CONSISTENT_INDEX, schema.TERM))
    text = found.get(schema.CONF_STATE)
    try:
        conf_state = _group_of_members(file) if text is None else schema.parse_conf_state(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, schema.META, schema.CONF_STATE, f"not a group ({error})") from None
    return SnapshotContent(index, term, conf_state)


_CLUSTER_KEYS: Final = {
    schema.CLUSTER_VERSION: members.CLUSTER_VERSION,
    schema.DOWNGRADE: members.DOWNGRADE,
}
_COMPACTIONS: Final = {
    schema.SCHEDULED_COMPACTION: compaction.SCHEDULED_COMPACTION,
    schema.FINISHED_COMPACTION: compaction.FINISHED_COMPACTION,
}


def _number(file: BoltFile, found: dict[bytes, bytes], name: bytes) -> int:
    value = found.get(name, bytes(8))
    if len(value) != 8:
        raise _damaged(file, schema.META, name, "not a number of 8 bytes")
    return int.from_bytes(value, "big")


def _group_of_members(file: BoltFile) -> ConfState:
    """The group where the file does not say it (after `etcdutl snapshot restore`, or before 3.5): its members."""
    members = [Member.from_context(text) for _, text in file.scan(schema.MEMBERS)]
    voters = sorted(member.id for member in members if not member.is_learner)
    return ConfState(tuple(voters), tuple(sorted(member.id for member in members if member.is_learner)))
