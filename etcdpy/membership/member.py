"""One member as every member knows it, and how the ids of members and clusters come about."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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

    @property
    def is_started(self) -> bool:
        """Whether it has told its name, which is the first thing that a member does."""
        return bool(self.name)

    def to_fields(self) -> dict[str, object]:
        """The member under etcd's JSON names, in etcd's order; what is empty is left out, as there."""
        fields: dict[str, object] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            fields["isLearner"] = True
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = list(self.client_urls)
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Member:
        """The member that JSON with etcd's names describes. Raises KeyError, TypeError, ValueError when it is none."""
        return cls(
            id=int(fields["id"]),
            peer_urls=tuple(map(str, fields.get("peerURLs") or ())),
            name=str(fields.get("name") or ""),
            client_urls=tuple(map(str, fields.get("clientURLs") or ())),
            is_learner=bool(fields.get("isLearner")),
        )

    def to_context(self) -> bytes:
        """What travels in a configuration change: JSON with etcd's field names, so that etcd members can read it."""
        return json.dumps(self.to_fields(), separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_context(cls, context: bytes) -> Member:
        """The member that a configuration change's context describes. Raises ValueError when it is no such JSON."""
        return cls.from_fields(json.loads(context))


def member_id(peer_urls: Iterable[str], token: str, unix_seconds: int | None = None) -> int:
    """A member's id: the first 8 bytes of SHA-1 over its sorted peer URLs and the cluster's token (etcd).

    A member that is added later has no token; the second in which it is added stands for it.
    """
    text = "".join(sorted(peer_urls)) + token + ("" if unix_seconds is None else str(unix_seconds))
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The cluster's id: the first 8 bytes of SHA-1 over its founding members' sorted ids, 8 bytes each (etcd)."""
    joined = b"".join(each.to_bytes(8, "big") for each in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(joined, usedforsecurity=False).digest()[:8], "big")
