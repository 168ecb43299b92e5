"""Who is in the cluster: members, those that were removed, the cluster's version.

Pure: changes come in through the log (configuration changes and attribute requests) and go out to the backend's open
batch, so that membership, like every other applied state, is stored together with the index that changed it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy import VERSION
from etcdpy.backend import MEMBER_BUCKET, META_BUCKET, REMOVED_MEMBER_BUCKET
from etcdpy.membership import changes
from etcdpy.membership.member import Member, cluster_id, member_id
from etcdpy.membership.versions import DowngradeInfo, Version, check_not_lower, parse_version
from etcdpy.proto import raft_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.backend import Backend

CLUSTER_VERSION: Final = META_BUCKET + b"cluster_version"
"""`3.7.0`."""
DOWNGRADE: Final = META_BUCKET + b"downgrade"
"""JSON, as in etcd's backend file."""
_CLUSTER_ID: Final = META_BUCKET + b"cluster_id"
_OWN_ID: Final = META_BUCKET + b"member_id"

_OWN_RELEASE: Final = parse_version(VERSION)


class MembershipObserver(Protocol):
    """Who keeps up with the members: the network to them, and the member itself when it is the one that goes."""

    def member_added(self, member: Member) -> None:
        """A member came in."""
        ...

    def member_updated(self, member: Member) -> None:
        """A member has other peer URLs, or its vote."""
        ...

    def member_removed(self, identity: int) -> None:
        """A member is gone for good. It may be this one, which then has to stop."""
        ...


class Membership:
    """The cluster as the applied log describes it. Owned by the core loop."""

    def __init__(self, backend: Backend, *, max_learners: int = 1) -> None:
        self._backend = backend
        self._max_learners = max_learners
        self.cluster_id = 0
        self.own_id = 0
        """The member whose data this is; 0 until it was founded."""
        self.version = ""
        """The cluster's version, `3.7.0`; empty until the first leader has decided it."""
        self.downgrade = DowngradeInfo()
        self.observer: MembershipObserver | None = None
        """Told of each change once it is applied."""
        self._members: dict[int, Member] = {}
        self._removed: set[int] = set()
        self._expected: dict[int, Member] = {}
        """Members that a joining member was told of by others, until its own log brings them."""

    def restore(self) -> None:
        """Read what is stored, in place of what was known. Raises LowerThanCluster."""
        stored_id = self._backend.get(_CLUSTER_ID)
        self.cluster_id = int.from_bytes(stored_id, "big") if stored_id else 0
        self.own_id = int.from_bytes(self._backend.get(_OWN_ID) or b"", "big")
        self.version = (self._backend.get(CLUSTER_VERSION) or b"").decode()
        self.downgrade = _parse_downgrade(self._backend.get(DOWNGRADE))
        self._members.clear()
        self._removed.clear()
        for _, value in self._backend.scan(MEMBER_BUCKET, _after(MEMBER_BUCKET)):
            member = Member.from_proto(rpc_pb2.Member.FromString(value))
            self._members[member.id] = member
        for key, _ in self._backend.scan(REMOVED_MEMBER_BUCKET, _after(REMOVED_MEMBER_BUCKET)):
            self._removed.add(int.from_bytes(key[1:], "big"))
        self.check_invariants()
        check_not_lower(_OWN_RELEASE, self.cluster_version)

    def reload(self) -> None:
        """Another member's state took this one's place: read it, and tell the observer of what is different."""
        before = self._members.copy()
        self._expected.clear()
        self.restore()
        if self.observer is None:
            return
        for identity in sorted(before.keys() - self._members.keys()):
            self.observer.member_removed(identity)
        for identity, member in sorted(self._members.items()):
            if identity not in before:
                self.observer.member_added(member)
            elif before[identity] != member:
                self.observer.member_updated(member)

    def found(self, cluster: int, own_id: int) -> None:
        """Set the cluster's id and this member's own, once, when the cluster is founded or joined."""
        assert self.cluster_id in (0, cluster), "a cluster never changes its id"
        assert self.own_id in (0, own_id), "a member never changes its id"
        self.cluster_id, self.own_id = cluster, own_id
        self._backend.put(_CLUSTER_ID, cluster.to_bytes(8, "big"))
        self._backend.put(_OWN_ID, own_id.to_bytes(8, "big"))

    def expect(self, members: Iterable[Member]) -> None:
        """Show these members until the log brings them; they have no part in judging changes, and are not stored."""
        self._expected = {member.id: member for member in members}

    # --- looking in ---

    @property
    def members(self) -> list[Member]:
        """All members, by id."""
        known = {**self._expected, **self._members} if self._expected else self._members
        return [known[each] for each in sorted(known)]

    @property
    def voters(self) -> list[Member]:
        """The members with a vote, by id."""
        return [each for each in self.members if not each.is_learner]

    @property
    def removed(self) -> list[int]:
        """Ids that once were members, in order."""
        return sorted(self._removed)

    @property
    def cluster_version(self) -> Version | None:
        """`version` in a form that can be compared; None until it is decided."""
        return parse_version(self.version) if self.version else None

    def get(self, identity: int) -> Member | None:
        """The member of that id, or None."""
        return self._members.get(identity) or self._expected.get(identity)

    def is_removed(self, identity: int) -> bool:
        """Whether that id once was a member; such an id never comes back."""
        return identity in self._removed

    def to_json(self) -> bytes:
        """The members as the peer port's /members shows them."""
        fields = [member.to_fields() for member in self.members]
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    # --- changes of members ---

    def check(self, change: raft_pb2.ConfChange) -> None:
        """Whether a committed change still makes sense. Raises EtcdError, for whoever proposed it."""
        changes.check(change, self._members, self._removed, max_learners=self._max_learners)

    def apply(self, change: raft_pb2.ConfChange) -> None:
        """Carry out a change that `check` let pass."""
        identity = change.node_id
        if change.type == raft_pb2.ConfChangeRemoveNode:
            self._remove(identity)
        elif change.type == raft_pb2.ConfChangeUpdateNode:
            self._update(replace(self._members[identity], peer_urls=Member.from_context(change.context).peer_urls))
        elif changes.is_promotion(change):
            self._update(replace(self._members[identity], is_learner=False))
        else:
            member = Member.from_context(change.context)
            assert member.id == identity, f"a change for member {identity:x} describes {member.id:x}"
            self.add(member)
        self.check_invariants()

    def add(self, member: Member) -> None:
        """Take a member in."""
        assert member.id not in self._removed, "a removed member's id never comes back"
        self._store(member)
        if self.observer is not None:
            self.observer.member_added(member)

    def _update(self, member: Member) -> None:
        self._store(member)
        if self.observer is not None:
            self.observer.member_updated(member)

    def _remove(self, identity: int) -> None:
        del self._members[identity]
        self._expected.pop(identity, None)
        self._removed.add(identity)
        key = identity.to_bytes(8, "big")
        self._backend.delete(MEMBER_BUCKET + key)
        self._backend.put(REMOVED_MEMBER_BUCKET + key, b"")
        if self.observer is not None:
            self.observer.member_removed(identity)

    def _store(self, member: Member) -> None:
        self._expected.pop(member.id, None)
        self._members[member.id] = member
        self._backend.put(MEMBER_BUCKET + member.id.to_bytes(8, "big"), member.to_proto().SerializeToString())

    # --- what members and leaders say through the log ---

    def set_attributes(self, identity: int, name: str, client_urls: Iterable[str]) -> None:
        """Record what a started member says of itself. Unknown and removed ids are ignored, as on etcd."""
        known = self._members.get(identity)
        if known is not None:
            self._store(replace(known, name=name, client_urls=tuple(client_urls)))

    def set_version(self, version: str) -> None:
        """Record the version that the cluster runs at. Raises LowerThanCluster: this member must not go on."""
        check_not_lower(_OWN_RELEASE, parse_version(version))
        self.version = version
        self._backend.put(CLUSTER_VERSION, version.encode())

    def set_downgrade(self, info: DowngradeInfo) -> None:
        """Record that the cluster is being downgraded, or no longer."""
        self.downgrade = info
        fields = {"target-version": info.target, "enabled": info.enabled}
        self._backend.put(DOWNGRADE, json.dumps(fields, separators=(",", ":")).encode())

    def check_invariants(self) -> None:
        """No member is also a removed one; each is stored under its own id."""
        assert not self._removed & self._members.keys(), "a member is recorded as removed"
        assert all(identity == member.id for identity, member in self._members.items())


def has_identity(backend: Backend) -> bool:
    """Whether what is stored says which member of which cluster it belongs to."""
    return backend.get(_OWN_ID) is not None


def _parse_downgrade(record: bytes | None) -> DowngradeInfo:
    if record is None:
        return DowngradeInfo()
    fields = json.loads(record)
    return DowngradeInfo(bool(fields["enabled"]), str(fields["target-version"]))


def _after(bucket: bytes) -> bytes:
    """The first key behind a one-byte bucket."""
    return bytes([bucket[0] + 1])


__all__ = ["Member", "Membership", "MembershipObserver", "cluster_id", "has_identity", "member_id"]
