"""How answers about members and endpoints look."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.ctl.answers import Answer, header_fields, shown_id, word
from etcdpy.ctl.gojson import plain
from etcdpy.ctl.gotext import quote
from etcdpy.proto import rpc_pb2
from etcdpy.texttable import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etcdpy.ctl.answers import Line, Table


def member_rows(members: Sequence[rpc_pb2.Member]) -> list[Sequence[str]]:
    """The columns of `member list`."""
    return [
        (
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            word(truth=member.isLearner),
        )
        for member in members
    ]


class MemberListAnswer(Answer[rpc_pb2.MemberListResponse]):
    """`member list`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line a member."""
        return (", ".join(row) for row in member_rows(self.message.members))

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A few lines a member, and an empty one."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for member in self.message.members:
            yield f'"ID" : {shown_id(member.ID, hexadecimal=hexadecimal)}'
            yield f'"Name" : {quote(member.name)}'
            yield from (f'"PeerURL" : {quote(url)}' for url in member.peerURLs)
            yield from (f'"ClientURL" : {quote(url)}' for url in member.clientURLs)
            yield f'"IsLearner" : {word(truth=member.isLearner)}'
            yield ""

    def json(self, *, hexadecimal: bool) -> Any:
        """The answer; with --hex, ids as hexadecimal strings."""
        value = plain(self.message)
        if hexadecimal:
            header = self.message.header
            value["header"] |= {"cluster_id": f"{header.cluster_id:x}", "member_id": f"{header.member_id:x}"}
            for row, member in zip(value.get("members", []), self.message.members, strict=True):
                row["ID"] = f"{member.ID:x}"
        return value

    def table(self) -> Table:
        """One row a member."""
        titles = ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
        return titles, member_rows(self.message.members)


@dataclass(frozen=True, slots=True)
class Health:
    """What `endpoint health` found at one endpoint; `took` is a span as Go prints it."""

    endpoint: str
    healthy: bool
    took: str
    error: str = ""


class HealthAnswer(Answer["Sequence[Health]"]):
    """`endpoint health`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line an endpoint; the unhealthy ones go to standard error."""
        for health in self.message:
            if health.error:
                text = f"{health.endpoint} is unhealthy: failed to commit proposal: {health.error}"
                sys.stderr.write(text + "\n")
            else:
                yield f"{health.endpoint} is healthy: successfully committed proposal: took = {health.took}"

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A few lines an endpoint, and an empty one."""
        for health in self.message:
            yield f'"Endpoint" : {quote(health.endpoint)}'
            yield f'"Health" : {word(truth=health.healthy)}'
            yield f'"Took" : {health.took}'
            yield f'"Error" : {health.error}'
            yield ""

    def json(self, *, hexadecimal: bool) -> Any:
        """A list of what was found."""
        rows = [{"endpoint": each.endpoint, "health": each.healthy, "took": each.took} for each in self.message]
        for row, each in zip(rows, self.message, strict=True):
            if each.error:
                row["error"] = each.error
        return rows

    def table(self) -> Table:
        """One row an endpoint."""
        rows = [(each.endpoint, word(truth=each.healthy), each.took, each.error) for each in self.message]
        return ("endpoint", "health", "took", "error"), rows


STATUS_TITLES = (
    "endpoint", "ID", "version", "storage version", "db size", "in use", "percentage not in use", "quota", "is leader",
    "is learner", "raft term", "raft index", "raft applied index", "errors", "downgrade target version",
    "downgrade enabled",
)  # fmt: skip


class StatusAnswer(Answer["Sequence[tuple[str, rpc_pb2.StatusResponse]]"]):
    """`endpoint status`: endpoints with their answers."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line an endpoint."""
        return (", ".join(status_row(*each)) for each in self.message)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A few lines an endpoint, and an empty one."""
        for endpoint, answer in self.message:
            yield from header_fields(answer.header, hexadecimal=False)
            yield f'"Version" : {quote(answer.version)}'
            yield f'"StorageVersion" : {quote(answer.storageVersion)}'
            yield f'"DBSize" : {answer.dbSize}'
            yield f'"DBSizeInUse" : {answer.dbSizeInUse}'
            yield f'"DBSizeQuota" : {answer.dbSizeQuota}'
            yield f'"Leader" : {answer.leader}'
            yield f'"IsLearner" : {word(truth=answer.isLearner)}'
            yield f'"RaftIndex" : {answer.raftIndex}'
            yield f'"RaftAppliedIndex" : {answer.raftAppliedIndex}'
            yield f'"Errors" : [{" ".join(answer.errors)}]'
            yield f'"Endpoint" : {quote(endpoint)}'
            yield f'"DowngradeTargetVersion" : {quote(answer.downgradeInfo.targetVersion)}'
            yield f'"DowngradeEnabled" : {word(truth=answer.downgradeInfo.enabled)}'
            yield ""

    def json(self, *, hexadecimal: bool) -> Any:
        """A list of the answers; where there is none, Go prints an empty list as null."""
        return [{"Endpoint": endpoint, "Status": plain(answer)} for endpoint, answer in self.message] or None

    def table(self) -> Table:
        """One row an endpoint."""
        return STATUS_TITLES, [status_row(*each) for each in self.message]


def status_row(endpoint: str, answer: rpc_pb2.StatusResponse) -> tuple[str, ...]:
    """The sixteen columns of `endpoint status`."""
    unused_percent = 100 - answer.dbSizeInUse * 100 // answer.dbSize if answer.dbSize else 0
    return (
        endpoint,
        f"{answer.header.member_id:x}",
        answer.version,
        answer.storageVersion,
        human_bytes(answer.dbSize),
        human_bytes(answer.dbSizeInUse),
        f"{unused_percent}%",
        human_bytes(answer.dbSizeQuota),
        word(truth=answer.leader == answer.header.member_id),
        word(truth=answer.isLearner),
        str(answer.raftTerm),
        str(answer.raftIndex),
        str(answer.raftAppliedIndex),
        ", ".join(answer.errors),
        answer.downgradeInfo.targetVersion,
        word(truth=answer.downgradeInfo.enabled),
    )
