"""Whether the members hold the same: before a member serves, from time to time, and after compactions.

A difference raises the CORRUPT alarm, which stops everything that concerns keys until an operator has looked into it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etcdpy.errors import Compacted, EtcdError, FutureRevision
from etcdpy.peer.client import PeerUnreachable
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from etcdpy.api.maintenance import Upkeep
    from etcdpy.membership.member import Member
    from etcdpy.mvcc.hashing import HashKv
    from etcdpy.peer.client import HashOfStore
    from etcdpy.server.member import Replica

    Ask = Callable[[str, int], Awaitable[HashOfStore]]

log = logs.get("etcdserver")

WHOLE_CLUSTER: Final = 0
"""The alarm's member when no majority agrees, so that nobody can say who is wrong. etcd's convention."""


_UNANSWERED: Final[dict[type[Exception], str]] = {
    FutureRevision: "cannot fetch hash from slow remote peer",
    Compacted: "cannot fetch hash from remote peer; local member is behind",
}


class Inconsistent(Exception):
    """This member's data differs from that of others."""


@dataclass(frozen=True, slots=True)
class PeerHash:
    """What another member says; `found` is None when it says nothing."""

    member: int
    found: HashOfStore | None


class CorruptionChecker:
    """`ask` asks a URL of another member for its hash at a revision."""

    def __init__(self, replica: Replica, hasher: Upkeep, ask: Ask) -> None:
        self._replica = replica
        self._hasher = hasher
        self._ask = ask
        self._checked_revision = 0

    # --- before serving ---

    async def check_at_start(self) -> None:
        """Raise Inconsistent when a member with the same compaction has other data at this member's revision."""
        name = f"{self._replica.own_id:x}"
        log.info("starting initial corruption check", **{"local-member-id": name})
        own, compacted, revision, _ = await self._hasher.hash_kv(0)
        differing = 0
        for peer in await self._hashes_of_others(revision):
            found = peer.found
            if found is None or found.hash == own:
                continue
            fields = {
                "local-member-id": name,
                "local-member-revision": revision,
                "local-member-compact-revision": compacted,
                "local-member-hash": own,
                "remote-peer-id": f"{peer.member:x}",
                "remote-peer-compact-revision": found.compact_revision,
                "remote-peer-hash": found.hash,
            }
            if found.compact_revision == compacted:
                differing += 1
                log.warn("found different hash values from remote peer", **fields)
            else:
                log.warn("found different compact revision values from remote peer", **fields)
        if differing:
            raise Inconsistent(f"{name} found data inconsistency with peers")
        log.info("initial corruption checking passed; no corruption", **{"local-member-id": name})

    # --- while serving, on the leader ---

    async def check_periodically(self, interval_seconds: float) -> None:
        """For ever: compare all members' hashes at the leader's revision (--corrupt-check-time)."""
        log.info("enabled corruption checking", interval=interval_seconds)
        while True:
            await asyncio.sleep(interval_seconds)
            if self._leads:
                try:
                    await self.check_now()
                except EtcdError as error:
                    log.warn("failed to check hash KV", error=error.message)

    async def check_compactions_periodically(self, interval_seconds: float) -> None:
        """For ever: compare the hashes that all members took at the same compactions (gate CompactHashCheck)."""
        log.info("enabled compact hash checking", interval=interval_seconds)
        while True:
            await asyncio.sleep(interval_seconds)
            if self._leads:
                await self.check_compactions()

    @property
    def _leads(self) -> bool:
        return self._replica.leader == self._replica.own_id

    async def check_now(self) -> None:
        """Raise the alarm for the first member found to differ. Raises EtcdError when the check itself fails.

        The own hash is taken twice, with the quorum asked in between: a follower can have got no further than that.
        """
        own, compacted, revision, _ = await self._hasher.hash_kv(0)
        peers = await self._hashes_of_others(revision)
        await self._replica.wait_linearizable()
        again, compacted_again, revision_again, current = await self._hasher.hash_kv(0)
        if again != own and (compacted_again, revision_again) == (compacted, revision):
            log.warn("found hash mismatch", **{"hash-1": own, "hash-2": again, "revision": revision})
            await self._raise_alarm(self._replica.own_id)
            return
        for peer in peers:
            reason = peer.found and _difference(peer.found, own, compacted, compacted_again, current)
            if reason:
                log.warn(reason, **{"follower-peer-id": f"{peer.member:x}"})
                await self._raise_alarm(peer.member)
                return
        answered = sum(peer.found is not None for peer in peers)
        log.info("finished peer corruption check", **{"number-of-peers-checked": answered})

    async def check_compactions(self) -> None:
        """Compare at the newest compaction of which every member still knows the hash."""
        unchecked = [each for each in self._replica.store.hashes.all() if each.revision > self._checked_revision]
        for number, own in enumerate(sorted(unchecked, key=lambda each: -each.revision), start=1):
            peers = await self._hashes_of_others(own.revision)
            if peers and await self._compare_compaction(own, peers):
                log.info("finished compaction hash check", **{"number-of-hashes-checked": number})
                return
        log.info("finished compaction hash check", **{"number-of-hashes-checked": len(unchecked)})

    async def _compare_compaction(self, own: HashKv, peers: Sequence[PeerHash]) -> bool:
        """Whether the matter is settled: all members agree, or the alarm is raised for those that do not."""
        members: dict[int, list[int]] = {own.hash: [self._replica.own_id]}
        for peer in peers:
            if peer.found is not None and peer.found.compact_revision == own.compact_revision:
                members.setdefault(peer.found.hash, []).append(peer.member)
            else:
                log.warn("Skipped peer's hash", **{"peer-id": f"{peer.member:x}"})
        if len(members) == 1:
            complete = len(members[own.hash]) == len(peers) + 1
            if complete:
                self._checked_revision = max(self._checked_revision, own.revision)
            return complete
        quorum = (len(peers) + 1) // 2 + 1
        right = next((digest for digest, ids in members.items() if len(ids) >= quorum), None)
        log.error(
            "Detected compaction hash mismatch",
            **{"leader-revision": own.revision, "leader-hash": own.hash, "quorum-exist": right is not None},
        )
        if right is None:
            await self._raise_alarm(WHOLE_CLUSTER)
            return True
        for digest, ids in members.items():
            for member in ids if digest != right else ():
                await self._raise_alarm(member)
        return True

    # --- shared ---

    async def _hashes_of_others(self, revision: int) -> list[PeerHash]:
        others = [member for member in self._replica.membership.members if member.id != self._replica.own_id]
        return list(await asyncio.gather(*(self._hash_of(member, revision) for member in others)))

    async def _hash_of(self, member: Member, revision: int) -> PeerHash:
        for url in member.peer_urls:
            try:
                return PeerHash(member.id, await self._ask(url, revision))
            except (PeerUnreachable, EtcdError, TimeoutError) as error:
                reason = _UNANSWERED.get(type(error), "failed hash kv request")
                fields = {"requested-revision": revision, "remote-peer-endpoint": url, "error": str(error)}
                log.warn(reason, **fields)
        return PeerHash(member.id, None)

    async def _raise_alarm(self, member: int) -> None:
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member, alarm=rpc_pb2.CORRUPT)
        try:
            await self._replica.run("alarm", request)
        except EtcdError as error:
            log.warn("failed to raise the CORRUPT alarm", error=error.message)


def _difference(found: HashOfStore, own: int, compacted: int, compacted_again: int, current: int) -> str:
    """What is wrong with a follower's hash; empty when nothing is."""
    if found.revision > current:
        return "revision from follower must be less than or equal to leader's"
    if found.compact_revision > compacted_again:
        return "compact revision from follower must be less than or equal to leader's"
    if found.compact_revision == compacted and found.hash != own:
        return "same compact revision then hashes must match"
    return ""
