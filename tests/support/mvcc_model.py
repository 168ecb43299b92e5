"""A second, dumb store to hold the real one against: one full snapshot of the keyspace per revision, nothing clever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google_crc32c

from etcdpy.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from etcdpy.proto.kv_pb2 import KeyValue
from etcdpy.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Snapshot = dict[bytes, KeyValue]


@dataclass
class Written:
    """One revision as it was stored."""

    main: int
    sub: int
    key: bytes
    deleted: bool
    record: bytes

    @property
    def etcd_key(self) -> bytes:
        tail = b"t" if self.deleted else b""
        return self.main.to_bytes(8, "big") + b"_" + self.sub.to_bytes(8, "big") + tail


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)


@dataclass
class Model:
    """The keyspace at every revision. `leases` are the ids that exist."""

    leases: frozenset[int] = frozenset()
    snapshots: list[Snapshot] = field(default_factory=lambda: [{}, {}])
    written: list[Written] = field(default_factory=list)
    compacted: int = -1

    @property
    def revision(self) -> int:
        return len(self.snapshots) - 1

    # --- requests ---

    def put(self, request: PutRequest) -> PutResponse:
        self._check_put(request)
        writer = _Writer(self)
        response = self._put(writer, request)
        writer.commit()
        return response

    def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        writer = _Writer(self)
        response = self._delete_range(writer, request)
        writer.commit()
        return response

    def txn(self, request: TxnRequest) -> TxnResponse:
        choices: list[bool] = []
        self._choose(request, choices)
        self._check(request, list(choices))
        writer = _Writer(self)
        response = self._execute(writer, request, choices)
        writer.commit()
        return response

    def range(self, request: RangeRequest) -> RangeResponse:
        revision = self.read_revision(request.revision)
        return self._range(self.snapshots[revision], request, self.revision)

    def read_revision(self, revision: int) -> int:
        if revision > self.revision:
            raise FutureRevision
        if 0 < revision < self.compacted:
            raise Compacted
        return revision if revision > 0 else self.revision

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision

    # --- the pieces ---

    def _check_put(self, request: PutRequest) -> None:
        if request.lease and request.lease not in self.leases:
            raise LeaseNotFound
        if (request.ignore_value or request.ignore_lease) and request.key not in self.snapshots[-1]:
            raise KeyNotFound

    def _put(self, writer: _Writer, request: PutRequest) -> PutResponse:
        before = writer.now.get(request.key)
        kv = KeyValue(key=request.key, value=request.value, lease=request.lease)
        if request.ignore_value:
            assert before is not None
            kv.value = before.value
        if request.ignore_lease:
            assert before is not None
            kv.lease = before.lease
        kv.create_revision = before.create_revision if before else writer.main
        kv.version = before.version + 1 if before else 1
        kv.mod_revision = writer.main
        writer.write(request.key, kv)
        return PutResponse(prev_kv=before if request.prev_kv else None)

    def _delete_range(self, writer: _Writer, request: DeleteRangeRequest) -> DeleteRangeResponse:
        keys = [key for key in sorted(writer.now) if in_range(key, request.key, request.range_end)]
        before = [writer.now[key] for key in keys]
        for key in keys:
            writer.write(key, None)
        return DeleteRangeResponse(deleted=len(keys), prev_kvs=before if request.prev_kv else [])

    def _choose(self, request: TxnRequest, choices: list[bool]) -> None:
        succeeded = all(self.holds(compare) for compare in request.compare)
        choices.append(succeeded)
        for op in request.success if succeeded else request.failure:
            if op.HasField("request_txn"):
                self._choose(op.request_txn, choices)

    def holds(self, compare: Compare) -> bool:
        now = self.snapshots[-1]
        found = [now[key] for key in sorted(now) if in_range(key, compare.key, compare.range_end)]
        if not found and compare.target == Compare.VALUE:
            return False
        name = {0: "version", 1: "create_revision", 2: "mod_revision", 3: "value", 4: "lease"}[compare.target]
        operand = getattr(compare, name)
        for kv in found or [KeyValue()]:
            actual = getattr(kv, name)
            if not {0: actual == operand, 1: actual > operand, 2: actual < operand, 3: actual != operand}[
                compare.result
            ]:
                return False
        return True

    def _check(self, request: TxnRequest, choices: list[bool]) -> None:
        for op in request.success if choices.pop(0) else request.failure:
            if op.HasField("request_put"):
                self._check_put(op.request_put)
            elif op.HasField("request_range") and op.request_range.revision:
                if op.request_range.revision > self.revision:
                    raise FutureRevision
                if op.request_range.revision < self.compacted:
                    raise Compacted
            elif op.HasField("request_txn"):
                self._check(op.request_txn, choices)

    def _execute(self, writer: _Writer, request: TxnRequest, choices: list[bool]) -> TxnResponse:
        succeeded = choices.pop(0)
        responses = []
        for op in request.success if succeeded else request.failure:
            response = ResponseOp()
            inner: Any = None
            if op.HasField("request_put"):
                inner = response.response_put
                inner.MergeFrom(self._put(writer, op.request_put))
            elif op.HasField("request_delete_range"):
                inner = response.response_delete_range
                inner.MergeFrom(self._delete_range(writer, op.request_delete_range))
            elif op.HasField("request_range"):
                inner = response.response_range
                past = 0 < op.request_range.revision <= self.revision
                state = self.snapshots[op.request_range.revision] if past else writer.now
                inner.MergeFrom(self._range(state, op.request_range, 0))
            elif op.HasField("request_txn"):
                response.response_txn.MergeFrom(self._execute(writer, op.request_txn, choices))
                response.response_txn.header.SetInParent()
            if inner is not None:
                inner.header.CopyFrom(ResponseHeader(revision=self.revision + (1 if writer.written else 0)))
            responses.append(response)
        return TxnResponse(succeeded=succeeded, responses=responses)

    def _range(self, state: Snapshot, request: RangeRequest, header: int) -> RangeResponse:
        found = [state[key] for key in sorted(state) if in_range(key, request.key, request.range_end)]
        response = RangeResponse(count=len(found))
        if header:
            response.header.revision = header
        if request.count_only:
            return response
        passing = [kv for kv in found if _passes(kv, request)]
        filtered = any((request.min_mod_revision, request.max_mod_revision)) or any(
            (request.min_create_revision, request.max_create_revision)
        )
        found = passing
        if request.limit > 0 and request.sort_order == RangeRequest.NONE and not filtered:
            found = passing[: request.limit + 1]  # etcd's quirk: cut, then sort
        field_of: Any = {
            0: lambda kv: kv.key,
            1: lambda kv: kv.version,
            2: lambda kv: kv.create_revision,
            3: lambda kv: kv.mod_revision,
            4: lambda kv: kv.value,
        }[request.sort_target]
        found.sort(key=field_of, reverse=request.sort_order == RangeRequest.DESCEND)
        if 0 < request.limit < len(found):
            response.more = True
            found = found[: request.limit]
        for kv in found:
            added = response.kvs.add()
            added.CopyFrom(kv)
            if request.keys_only:
                added.value = b""
                if request.sort_target != RangeRequest.VALUE:
                    added.lease = 0
        return response

    # --- what must be on disk, and its hash ---

    def latest(self, revision: int) -> dict[bytes, Written]:
        """For every key ever written, its last write up to a revision."""
        return {written.key: written for written in self.written if written.main <= revision}

    def kept(self, revision: int) -> list[Written]:
        """What a finished compaction at `revision` leaves: etcd keeps a deletion at exactly that revision."""
        latest = self.latest(revision)
        return [
            written
            for written in self.written
            if written.main > revision
            or (written is latest[written.key] and (not written.deleted or written.main == revision))
        ]

    def hash(self, revision: int, compacted: int) -> int:
        """etcd's HashKV over the whole history, compaction played by its rules."""
        keep = [written for written in self.latest(revision).values() if not written.deleted]
        crc = google_crc32c.value(b"key")
        for written in self._stored(compacted):
            if written.main > revision:
                continue
            if written.main <= compacted and keep and not any(written is kept for kept in keep):
                continue
            if written.main == compacted and written.deleted:
                continue
            crc = google_crc32c.extend(crc, written.etcd_key + written.record)
        return int(crc)

    def _stored(self, compacted: int) -> Sequence[Written]:
        return self.kept(compacted) if compacted > 0 else self.written


class _Writer:
    """Writes of one transaction on a copy of the newest snapshot."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.main = model.revision + 1
        self.now = dict(model.snapshots[-1])
        self.written: list[Written] = []

    def write(self, key: bytes, kv: KeyValue | None) -> None:
        record = (kv or KeyValue(key=key)).SerializeToString()
        self.written.append(Written(self.main, len(self.written), key, kv is None, record))
        if kv is None:
            del self.now[key]
        else:
            self.now[key] = kv

    def commit(self) -> None:
        if self.written:
            self.model.snapshots.append(self.now)
            self.model.written += self.written


def _passes(kv: KeyValue, request: RangeRequest) -> bool:
    return (
        (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
        and (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
        and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
        and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
    )
