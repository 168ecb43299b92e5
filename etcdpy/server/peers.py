"""The other members: how the replica reaches them, what it hears from them, and what it answers when they ask."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, TypeVar

from etcdpy import VERSION
from etcdpy.errors import Code, NoLeader, StatusError, TimeoutAppliedIndex
from etcdpy.lease.lessor import NotPrimary
from etcdpy.membership.member import Member
from etcdpy.peer.client import HashOfStore, PeerUnreachable, get_version, hash_kv, promote
from etcdpy.peer.network import PeerNetwork
from etcdpy.proto.raft_pb2 import MsgSnap

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from etcdpy.api.lease import LeaseService
    from etcdpy.api.maintenance import Upkeep
    from etcdpy.peer.client import RemoteMember
    from etcdpy.peer.tls import PeerTls
    from etcdpy.proto import rpc_pb2
    from etcdpy.raft.message import Message
    from etcdpy.server.config import Config
    from etcdpy.server.member import Replica

    Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]

T = TypeVar("T")


class Peers:
    """Implements the peer room's Receiver and the membership room's observer."""

    def __init__(self, replica: Replica, answers: PeerAnswers, tls: PeerTls | None, spawn: Spawn) -> None:
        config = replica.config
        self._replica = replica
        self._membership = replica.membership
        self._node = replica.node
        self.receive = replica.node.receive
        self.is_removed = replica.membership.is_removed
        self.network = PeerNetwork(
            own_id=replica.own_id,
            cluster_id=replica.membership.cluster_id,
            receiver=self,
            answers=answers,
            tls=tls,
            local_urls=[str(url) for url in config.initial_advertise_peer_urls],
            spawn=spawn,
            read_seconds=config.raft_read_timeout_seconds,
            # etcd's sum: a second in a queue, and an election.
            dial_seconds=1 + config.election_timeout_ms / 1000,
            local_address=_local_address(config) if config.feature_gates.enabled("SetMemberLocalAddr") else "",
        )
        for member in self._membership.members:
            self.member_added(member)

    # --- towards them ---

    def send(self, messages: Sequence[Message]) -> None:
        """Carry messages; what is for a removed member is dropped."""
        removed = self.is_removed
        wanted = [message for message in messages if not removed(message.to)]
        if any(message.type == MsgSnap for message in wanted):
            for message in wanted:
                if message.type == MsgSnap:
                    self._replica.snapshots.sender.send(message)
            wanted = [message for message in wanted if message.type != MsgSnap]
        if wanted:
            self.network.send(wanted)

    def connected_since(self, started: float) -> bool:
        """See the node's Observer: a leader needs a quorum, any other member the leader."""
        replica = self._replica
        if replica.leader != replica.own_id:
            return self._reached_since(replica.leader, started)
        voters = [member.id for member in self._membership.voters]
        reached = sum(each == replica.own_id or self._reached_since(each, started) for each in voters)
        return reached > len(voters) // 2

    def _reached_since(self, member: int, started: float) -> bool:
        since = self.network.active_since(member)
        return since is not None and since < started

    @property
    def active(self) -> int:
        """How many other members are within reach."""
        return sum(self.network.active_since(member.id) is not None for member in self._membership.members)

    def longest_connected(self) -> int | None:
        """The voter, other than this member, that has been within reach for longest; None when none is."""
        since = {member.id: self.network.active_since(member.id) for member in self._membership.voters}
        reached = {member: at for member, at in since.items() if at is not None}
        return min(reached, key=lambda member: (reached[member], member)) if reached else None

    async def promote_at_leader(self, member: int, token: str) -> list[Member]:
        """Ask the leader to promote a learner. Raises EtcdError."""
        leader = self._membership.get(self._replica.leader)
        if leader is None:
            raise NoLeader
        try:
            found = await promote(
                self.network.connections,
                leader.peer_urls,
                member,
                token=token,
                seconds=self._replica.config.request_timeout_seconds,
            )
        except PeerUnreachable as error:
            raise StatusError(Code.UNKNOWN, str(error)) from error
        return [_member(each) for each in found]

    async def ask_version(self, member: Member) -> str:
        """Another member's release. Raises OSError or ValueError."""
        reason: OSError = ConnectionError("it has no peer URL")
        for url in member.peer_urls:
            try:
                found = await get_version(
                    self.network.connections, url, seconds=self._replica.config.request_timeout_seconds
                )
                return found.server
            except PeerUnreachable as error:
                reason = ConnectionError(str(error))
        raise reason

    async def ask_hash(self, url: str, revision: int) -> HashOfStore:
        """The hash of a member's store. Raises PeerUnreachable, EtcdError."""
        return await hash_kv(
            self.network.connections,
            url,
            revision,
            cluster_id=self._membership.cluster_id,
            seconds=self._replica.config.request_timeout_seconds,
        )

    # --- from them ---

    def unreachable(self, member: int) -> None:
        """See Receiver."""
        self._node.unreachable(member)

    def snapshot_sent(self, member: int, ok: bool) -> None:
        """See Receiver."""
        self._node.snapshot_sent(member, ok=ok)

    async def receive_snapshot(self, message: Message, body: AsyncIterator[bytes]) -> None:
        """See Receiver."""
        await self._replica.snapshots.receiver.receive(message, body)

    def removed_from_cluster(self) -> None:
        """See Receiver."""
        self._replica.on_removed()

    # --- MembershipObserver ---

    def member_added(self, member: Member) -> None:
        """See MembershipObserver."""
        if member.id != self._replica.own_id:
            self.network.add_peer(member.id, member.peer_urls)

    def member_updated(self, member: Member) -> None:
        """See MembershipObserver."""
        if member.id != self._replica.own_id:
            self.network.update_peer(member.id, member.peer_urls)
        self._replica.on_standing()

    def member_removed(self, identity: int) -> None:
        """See MembershipObserver."""
        if identity == self._replica.own_id:
            self._replica.on_removed()
        else:
            self.network.remove_peer(identity)


class PeerAnswers:
    """Implements the peer room's Answers."""

    def __init__(self, replica: Replica, upkeep: Upkeep) -> None:
        self._replica = replica
        self._upkeep = upkeep
        self.leases: LeaseService

    def members_json(self) -> bytes:
        """See Answers."""
        return _json([member.to_fields() for member in self._replica.membership.members])

    def version_json(self) -> bytes:
        """See Answers."""
        replica = self._replica
        return _json(
            {
                "etcdserver": VERSION,
                "etcdcluster": replica.membership.version or "not_decided",
                "storage": replica.storage_version or "unknown",
            }
        )

    async def promote(self, member: int, token: str) -> bytes:
        """See Answers."""
        self._replica.callers.check_token_admin(token)
        members = await self._replica.reconfiguration.promote_here(member)
        return _json([each.to_fields() for each in members])

    async def renew_lease(self, lease: int) -> int:
        """See Answers."""
        return await _for_follower(self.leases.renew_here(lease))

    async def lease_time_to_live(self, lease: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        """See Answers."""
        return await _for_follower(self.leases.time_to_live_here(lease, keys=keys))

    async def hash_kv(self, revision: int) -> HashOfStore:
        """See Answers."""
        digest, compacted, hashed, current = await self._upkeep.hash_kv(revision)
        return HashOfStore(hash=digest, hash_revision=hashed, compact_revision=compacted, revision=current)

    async def downgrade_enabled(self) -> bool:
        """See Answers."""
        await self._replica.wait_linearizable()
        return self._replica.membership.downgrade.enabled


async def _for_follower(answer: Awaitable[T]) -> T:
    """What the leases say, with the errors that the peer room expects."""
    try:
        return await answer
    except TimeoutAppliedIndex as error:
        raise TimeoutError from error
    except NotPrimary as error:
        raise StatusError(Code.UNKNOWN, "not a primary lessor") from error


def _local_address(config: Config) -> str:
    """The first advertised address that is one and not the loopback, as on etcd; empty for any."""
    for url in config.initial_advertise_peer_urls:
        try:
            address = ipaddress.ip_address(url.host)
        except ValueError:
            continue  # a name
        if not address.is_loopback and not address.is_unspecified:
            return str(address)
    return ""


def _member(remote: RemoteMember) -> Member:
    return Member(remote.id, remote.peer_urls, remote.name, remote.client_urls, remote.is_learner)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
