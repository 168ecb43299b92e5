"""The first start of a member: who founds the cluster, and the log entries that say so.

A founding member's log opens with one configuration change for each member, already committed in term 1, exactly as
etcd writes it; every founding member computes the same ids from the same flags.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.membership.member import Member, cluster_id, member_id
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.server import validate
from etcdpy.server.notes import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etcdpy.server.config import Config


@dataclass(frozen=True, slots=True)
class Founding:
    """A cluster about to be founded, as one of its members sees it."""

    cluster_id: int
    own_id: int
    members: tuple[Member, ...]

    def entries(self) -> list[Entry]:
        """The log's first entries: one configuration change a member, in the order of their ids."""
        return [
            Entry(_addition(member), None, 1, index, EntryType.CONF_CHANGE)
            for index, member in enumerate(self.members, start=1)
        ]


def found(name: str, initial_cluster: Mapping[str, Sequence[str]], token: str) -> Founding:
    """What --initial-cluster and --initial-cluster-token make of the member called `name`.

    `initial_cluster` maps member names to their peer URLs; configuration has checked that `name` is among them.
    """
    members = sorted(
        (Member(member_id(urls, token), tuple(sorted(urls)), each) for each, urls in initial_cluster.items()),
        key=lambda member: member.id,
    )
    own = next(member.id for member in members if member.name == name)
    return Founding(cluster_id([member.id for member in members]), own, tuple(members))


def check_founding(config: Config) -> None:
    """Whether the flags found a cluster that this version can run. Raises ConfigError."""
    validate.check_founding(config, _resolve)
    if not config.is_new_cluster:
        raise ConfigError(
            "--initial-cluster-state=existing: this version cannot join a cluster; "
            "say --initial-cluster-state=new, or give the data directory of a member"
        )


def _resolve(host: str, port: int) -> str | None:
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    except OSError:
        return None
    return f"{address[0]!s}:{address[1]}"  # type: ignore[str-bytes-safe]


def _addition(member: Member) -> bytes:
    change = raft_pb2.ConfChange(id=0, type=raft_pb2.ConfChangeAddNode, node_id=member.id, context=member.to_context())
    return change.SerializeToString()
