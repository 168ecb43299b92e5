"""Who is in the cluster: members, their identities, the cluster's version.

Pure: changes come in through the log (configuration changes and attribute requests) and go out to the backend's open
batch, so that membership, like every other applied state, is stored together with the index that changed it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from etcdpy.backend import MEMBER_BUCKET, META_BUCKET, REMOVED_MEMBER_BUCKET
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.backend import Backend

_CLUSTER_VERSION: Final = META_BUCKET + b"cluster_version"
_CLUSTER_ID: Final = META_BUCKET + b"cluster_id"
_OWN_ID: Final = META_BUCKET + b"member_id"


@dataclass(frozen=True, slots=True)
class Member:
    """One member as every member knows it. `name` and `client_urls` stay empty until it has started."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    def to_proto(self) -> rpc_pb2.Member:
        """The member in the form that clients see."""
        return rpc_pb2.Member(
            ID=self.id,
            name=self.name,
            peerURLs=self.peer_urls,
            clientURLs=self.client_urls,
            isLearner=self.is_learner,
        )

    @classmethod
    def from_proto(cls, wire: rpc_pb2.Member) -> Member:
        """The member that `wire` describes."""
        return cls(wire.ID, tuple(wire.peerURLs), wire.name, tuple(wire.clientURLs), wire.isLearner)

    def to_context(self) -> bytes:
        """What travels in a configuration change: JSON with etcd's field names, so that etcd members can read it."""
        fields: dict[str, object] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            fields["isLearner"] = True
        if self.name:
            fields["name"] = self.name
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_context(cls, context: bytes) -> Member:
        """The member that a configuration change's context describes. Raises ValueError when it is no such JSON."""
        fields = json.loads(context)
        return cls(
            id=int(fields["id"]),
            peer_urls=tuple(fields.get("peerURLs", ())),
            name=fields.get("name", ""),
            client_urls=tuple(fields.get("clientURLs", ())),
            is_learner=bool(fields.get("isLearner", False)),
        )


def member_id(peer_urls: Iterable[str], token: str) -> int:
    """A founding member's id: the first 8 bytes of SHA-1 over its sorted peer URLs and the cluster's token (etcd)."""
    text = "".join(sorted(peer_urls)) + token
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The cluster's id: the first 8 bytes of SHA-1 over its founding members' sorted ids, 8 bytes each (etcd)."""
    joined = b"".join(each.to_bytes(8, "big") for each in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(joined, usedforsecurity=False).digest()[:8], "big")


class Membership:
    """The cluster as the applied log describes it. Owned by the core loop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.cluster_id = 0
        self.own_id = 0
        """The member whose data this is; 0 until it was founded."""
        self.version = ""
        """The cluster's version, `3.7.0`; empty until the first leader has decided it."""
        self._members: dict[int, Member] = {}
        self._removed: set[int] = set()

    def restore(self) -> None:
        """Read what earlier runs stored."""
        stored_id = self._backend.get(_CLUSTER_ID)
        self.cluster_id = int.from_bytes(stored_id, "big") if stored_id else 0
        self.own_id = int.from_bytes(self._backend.get(_OWN_ID) or b"", "big")
        self.version = (self._backend.get(_CLUSTER_VERSION) or b"").decode()
        for _, value in self._backend.scan(MEMBER_BUCKET, _after(MEMBER_BUCKET)):
            member = Member.from_proto(rpc_pb2.Member.FromString(value))
            self._members[member.id] = member
        for key, _ in self._backend.scan(REMOVED_MEMBER_BUCKET, _after(REMOVED_MEMBER_BUCKET)):
            self._removed.add(int.from_bytes(key[1:], "big"))
        self.check_invariants()

    def found(self, cluster: int, own_id: int) -> None:
        """Set the cluster's id and this member's own, once, when the cluster is founded or joined."""
        assert self.cluster_id in (0, cluster), "a cluster never changes its id"
        assert self.own_id in (0, own_id), "a member never changes its id"
        self.cluster_id, self.own_id = cluster, own_id
        self._backend.put(_CLUSTER_ID, cluster.to_bytes(8, "big"))
        self._backend.put(_OWN_ID, own_id.to_bytes(8, "big"))

    @property
    def members(self) -> list[Member]:
        """All members, by id."""
        return [self._members[each] for each in sorted(self._members)]

    def get(self, identity: int) -> Member | None:
        """The member of that id, or None."""
        return self._members.get(identity)

    def is_removed(self, identity: int) -> bool:
        """Whether that id once was a member; such an id never comes back."""
        return identity in self._removed

    def add(self, member: Member) -> None:
        """Take a member in."""
        assert member.id not in self._removed, "a removed member's id never comes back"
        self._store(member)
        self.check_invariants()

    def set_attributes(self, identity: int, name: str, client_urls: Iterable[str]) -> None:
        """Record what a started member says of itself. Unknown and removed ids are ignored, as on etcd."""
        known = self._members.get(identity)
        if known is not None:
            self._store(replace(known, name=name, client_urls=tuple(client_urls)))

    def set_version(self, version: str) -> None:
        """Record the version that the cluster runs at."""
        self.version = version
        self._backend.put(_CLUSTER_VERSION, version.encode())

    def check_invariants(self) -> None:
        """No member is also a removed one; each is stored under its own id."""
        assert not self._removed & self._members.keys(), "a member is recorded as removed"
        assert all(identity == member.id for identity, member in self._members.items())

    def _store(self, member: Member) -> None:
        self._members[member.id] = member
        self._backend.put(MEMBER_BUCKET + member.id.to_bytes(8, "big"), member.to_proto().SerializeToString())


def _after(bucket: bytes) -> bytes:
    """The first key behind a one-byte bucket."""
    return bytes([bucket[0] + 1])
