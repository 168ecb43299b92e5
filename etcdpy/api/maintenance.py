"""etcdserverpb.Maintenance: the member's state, its alarms, its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy import VERSION, limits
from etcdpy.api.checks import parse
from etcdpy.api.proposals import Waiting
from etcdpy.errors import NoLeader
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from contextlib import AbstractAsyncContextManager

    from etcdpy.api.callers import Callers
    from etcdpy.api.header import HeaderSource
    from etcdpy.api.proposals import Proposer
    from etcdpy.api.reconfigure import Reconfiguration
    from etcdpy.membership.versions import DowngradeInfo
    from etcdpy.transport.calls import Call, StreamCall


class MemberState(Protocol):
    """What Status tells of the member."""

    @property
    def leader(self) -> int:
        """The leader's id, 0 when there is none."""
        ...

    @property
    def committed_index(self) -> int:
        """The highest log index known to be committed."""
        ...

    @property
    def applied_index(self) -> int:
        """The highest log index applied."""
        ...

    @property
    def is_learner(self) -> bool:
        """Whether this member has no vote yet."""
        ...

    @property
    def db_size_bytes(self) -> int:
        """What the quota counts."""
        ...

    @property
    def db_size_in_use_bytes(self) -> int:
        """The part of it that a defragmentation would keep."""
        ...

    @property
    def revision(self) -> int:
        """The store's current revision."""
        ...

    @property
    def storage_version(self) -> str:
        """The version whose members could read what is stored; empty before the cluster has one."""
        ...

    @property
    def downgrade(self) -> DowngradeInfo:
        """Whether the cluster is being downgraded, and where to."""
        ...

    def active_alarms(self) -> list[rpc_pb2.AlarmMember]:
        """Every alarm of every member."""
        ...


class Upkeep(Protocol):
    """Work on the whole store, done in slices."""

    def defragment(self) -> Awaitable[None]:
        """Give disk space back. Raises EtcdError."""
        ...

    def hash(self) -> Awaitable[tuple[int, int]]:
        """A checksum of everything stored, and the revision it was taken at."""
        ...

    def hash_kv(self, revision: int) -> Awaitable[tuple[int, int, int, int]]:
        """etcd's hash of all revisions up to `revision` (0: the current one).

        Returns (hash, compact revision, hashed revision, current revision). Raises Compacted or FutureRevision.
        """
        ...


class Backup(Protocol):
    """The whole state in etcd's file format."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Its content, in pieces of any size, as it is made. Raises OSError."""
        ...

    async def sha256(self) -> bytes:
        """Of the content, once all pieces were taken."""
        ...


class BackupSource(Protocol):
    """Who makes backups."""

    def backup(self) -> AbstractAsyncContextManager[Backup]:
        """The state as it is now, kept until the context ends. Raises EtcdError."""
        ...


class MaintenanceService:
    """Thin: shapes requests and answers."""

    def __init__(
        self,
        state: MemberState,
        upkeep: Upkeep,
        proposer: Proposer,
        callers: Callers,
        header: HeaderSource,
        reconfiguration: Reconfiguration,
        backups: BackupSource,
        *,
        quota_bytes: int,
    ) -> None:
        self._state = state
        self._upkeep = upkeep
        self._proposer = proposer
        self._callers = callers
        self._header = header
        self._reconfiguration = reconfiguration
        self._backups = backups
        self._quota_bytes = quota_bytes

    def status(self, call: Call, body: bytes) -> None:
        """Maintenance.Status: this member's own view; nothing in it is replicated."""
        parse(rpc_pb2.StatusRequest, body)
        state = self._state
        alarms = state.active_alarms()
        errors = [] if state.leader else [NoLeader.message]
        errors += [describe_alarm(alarm) for alarm in alarms]
        response = rpc_pb2.StatusResponse(
            version=VERSION,
            dbSize=state.db_size_bytes,
            leader=state.leader,
            raftIndex=state.committed_index,
            raftTerm=self._header.term,
            raftAppliedIndex=state.applied_index,
            errors=errors,
            dbSizeInUse=state.db_size_in_use_bytes,
            isLearner=state.is_learner,
            storageVersion=state.storage_version,
            dbSizeQuota=self._quota_bytes,
            downgradeInfo=rpc_pb2.DowngradeInfo(enabled=state.downgrade.enabled, targetVersion=state.downgrade.target),
        )
        call.finish(self._header.embed(state.revision) + response.SerializeToString())

    def alarm(self, call: Call, body: bytes) -> None:
        """Maintenance.Alarm. Even reading goes through the log, as on etcd, so that every member answers alike.

        Every user may read them; only root may change them.
        """
        request = parse(rpc_pb2.AlarmRequest, body)
        if request.action == rpc_pb2.AlarmRequest.GET:
            self._callers.require_user(call)
        else:
            self._callers.check_admin(call)
        self._proposer.propose(Waiting("alarm", request, self._proposer.encode("alarm", body), call, self._header))

    async def move_leader(self, call: Call, body: bytes) -> None:
        """Maintenance.MoveLeader. The answer has no header, as on etcd."""
        request = parse(rpc_pb2.MoveLeaderRequest, body)
        await self._reconfiguration.move_leader(request.targetID)
        call.finish(b"")

    async def downgrade(self, call: Call, body: bytes) -> None:
        """Maintenance.Downgrade: validate, enable or cancel."""
        request = parse(rpc_pb2.DowngradeRequest, body)
        version = await self._reconfiguration.downgrade(request.action, request.version)
        response = rpc_pb2.DowngradeResponse(version=version)
        call.finish(self._header.embed(self._state.revision) + response.SerializeToString())

    async def defragment(self, call: Call, body: bytes) -> None:
        """Maintenance.Defragment. The answer has no header, as on etcd."""
        parse(rpc_pb2.DefragmentRequest, body)
        await self._upkeep.defragment()
        call.finish(b"")

    async def hash(self, call: Call, body: bytes) -> None:
        """Maintenance.Hash."""
        parse(rpc_pb2.HashRequest, body)
        checksum, revision = await self._upkeep.hash()
        response = rpc_pb2.HashResponse(hash=checksum)
        call.finish(self._header.embed(revision) + response.SerializeToString())

    async def hash_kv(self, call: Call, body: bytes) -> None:
        """Maintenance.HashKV."""
        request = parse(rpc_pb2.HashKVRequest, body)
        checksum, compacted, hashed, current = await self._upkeep.hash_kv(request.revision)
        response = rpc_pb2.HashKVResponse(hash=checksum, compact_revision=compacted, hash_revision=hashed)
        call.finish(self._header.embed(current) + response.SerializeToString())

    async def snapshot(self, call: StreamCall) -> None:
        """Maintenance.Snapshot: the file in messages as it is made, then its SHA-256 in one more. No header.

        For root alone: it holds all keys.
        """
        self._callers.check_admin(call)
        parse(rpc_pb2.SnapshotRequest, await call.receive() or b"")
        version = self._state.storage_version
        async with self._backups.backup() as backup:
            remaining, size = backup.size_bytes, limits.SNAPSHOT_FIRST_BLOB_BYTES
            async for piece in backup.pieces():
                start = 0
                while blob := piece[start : start + size]:
                    start += len(blob)
                    remaining -= len(blob)
                    call.send(_snapshot_part(remaining, blob, version))
                    size = limits.SNAPSHOT_BLOB_BYTES
                await call.wait_writable(limits.SNAPSHOT_SENT_AHEAD_BYTES)
            call.send(_snapshot_part(0, await backup.sha256(), version))


def _snapshot_part(remaining: int, blob: bytes, version: str) -> bytes:
    return rpc_pb2.SnapshotResponse(remaining_bytes=remaining, blob=blob, version=version).SerializeToString()


def describe_alarm(alarm: rpc_pb2.AlarmMember) -> str:
    """An alarm as Status lists it: Go's text form, `memberID:1 alarm:NOSPACE`."""
    parts = []
    if alarm.memberID:
        parts.append(f"memberID:{alarm.memberID}")
    if alarm.alarm:
        known = {number: name for name, number in rpc_pb2.AlarmType.items()}
        parts.append(f"alarm:{known.get(alarm.alarm, alarm.alarm)}")  # a client may raise what is no alarm's number
    return " ".join(parts)
