"""How answers about members, endpoints and alarms look."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.ctl.answers import Answer, NotOffered, header_fields, shown_id, word
from etcdpy.ctl.gojson import plain
from etcdpy.ctl.gotext import quote
from etcdpy.proto import rpc_pb2
from etcdpy.texttable import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.message import Message

    from etcdpy.ctl.answers import Lines, Table

MemberChange = (
    rpc_pb2.MemberAddResponse
    | rpc_pb2.MemberRemoveResponse
    | rpc_pb2.MemberUpdateResponse
    | rpc_pb2.MemberPromoteResponse
    | rpc_pb2.MemberListResponse
)


class Told(Answer[Any]):
    """An answer of which people want to know no more than that the work is done."""

    def __init__(self, message: Message, *lines: str, has_fields: bool = True) -> None:
        super().__init__(message)
        self._lines = lines
        self._has_fields = has_fields

    def simple(self, *, hexadecimal: bool) -> Lines:
        """The sentence."""
        return self._lines

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """The header, where etcdctl shows that much."""
        if not self._has_fields:
            raise NotOffered
        return header_fields(self.message.header, hexadecimal=hexadecimal)


# --- members ---


class MemberAnswer(Told):
    """The members after a change, or as they are; with --hex, ids in JSON are hexadecimal texts."""

    message: MemberChange

    def json(self, *, hexadecimal: bool) -> Any:
        """The answer."""
        value = plain(self.message)
        if not hexadecimal:
            return value
        header = self.message.header
        value["header"] = {
            "cluster_id": f"{header.cluster_id:x}",
            "member_id": f"{header.member_id:x}",
            **{name: number for name, number in value["header"].items() if name in ("revision", "raft_term")},
        }
        if isinstance(self.message, rpc_pb2.MemberAddResponse):
            value["member"] = _hexadecimal(self.message.member)
        value["members"] = [_hexadecimal(member) for member in self.message.members]
        return value


def _hexadecimal(member: rpc_pb2.Member) -> dict[str, Any]:
    return {"ID": f"{member.ID:x}", **{name: value for name, value in plain(member).items() if name != "ID"}}


class MembersAnswer(MemberAnswer):
    """`member list`."""

    message: rpc_pb2.MemberListResponse

    def simple(self, *, hexadecimal: bool) -> Lines:
        """A line a member."""
        return [", ".join(row) for row in self.table()[1]]

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """All that is known of each."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for member in self.message.members:
            yield f'"ID" : {shown_id(member.ID, hexadecimal=hexadecimal)}'
            yield f'"Name" : {quote(member.name)}'
            yield from (f'"PeerURL" : {quote(url)}' for url in member.peerURLs)
            yield from (f'"ClientURL" : {quote(url)}' for url in member.clientURLs)
            yield f'"IsLearner" : {word(truth=member.isLearner)}'
            yield ""

    def table(self) -> Table:
        """A row a member."""
        titles = ("ID", "status", "name", "peer addrs", "client addrs", "is learner")
        rows = [
            (
                f"{member.ID:x}",
                "started" if member.name else "unstarted",
                member.name,
                ",".join(member.peerURLs),
                ",".join(member.clientURLs),
                word(truth=member.isLearner),
            )
            for member in self.message.members
        ]
        return titles, rows


# --- endpoints ---


@dataclass(frozen=True, slots=True)
class Health:
    """What `endpoint health` found at one endpoint; `took` is a span as Go prints it."""

    endpoint: str
    healthy: bool
    took: str
    error: str = ""


class HealthAnswer(Answer[list[Health]]):
    """`endpoint health`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[str]:
        """A line an endpoint; the unhealthy ones go to standard error."""
        for each in self.message:
            if each.error:
                sys.stderr.write(f"{each.endpoint} is unhealthy: failed to commit proposal: {each.error}\n")
            else:
                yield f"{each.endpoint} is healthy: successfully committed proposal: took = {each.took}"

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """All of each."""
        for each in self.message:
            yield f'"Endpoint" : {quote(each.endpoint)}'
            yield f'"Health" : {word(truth=each.healthy)}'
            yield f'"Took" : {each.took}'
            yield f'"Error" : {each.error}'
            yield ""

    def json(self, *, hexadecimal: bool) -> Any:
        """A list."""
        rows: list[dict[str, Any]] = []
        for each in self.message:
            rows.append({"endpoint": each.endpoint, "health": each.healthy, "took": each.took})
            if each.error:
                rows[-1]["error"] = each.error
        return rows

    def table(self) -> Table:
        """A row an endpoint."""
        rows = [(each.endpoint, word(truth=each.healthy), each.took, each.error) for each in self.message]
        return ("endpoint", "health", "took", "error"), rows


class StatusAnswer(Answer[list[tuple[str, rpc_pb2.StatusResponse]]]):
    """`endpoint status`: endpoints with what they answered."""

    def simple(self, *, hexadecimal: bool) -> Lines:
        """A line an endpoint."""
        return [", ".join(row) for row in self.table()[1]]

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """All of each."""
        for endpoint, answer in self.message:
            yield from header_fields(answer.header, hexadecimal=hexadecimal)
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
        """A list; where there is none, Go prints null."""
        return [{"Endpoint": endpoint, "Status": plain(answer)} for endpoint, answer in self.message] or None

    def table(self) -> Table:
        """A row an endpoint."""
        titles = (
            "endpoint", "ID", "version", "storage version", "db size", "in use", "percentage not in use", "quota",
            "is leader", "is learner", "raft term", "raft index", "raft applied index", "errors",
            "downgrade target version", "downgrade enabled",
        )  # fmt: skip
        return titles, [status_row(endpoint, answer) for endpoint, answer in self.message]


def status_row(endpoint: str, answer: rpc_pb2.StatusResponse) -> tuple[str, ...]:
    """The sixteen columns of `endpoint status`."""
    # An empty database, which no member has, makes etcdctl divide by zero.
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


class HashAnswer(Answer[list[tuple[str, rpc_pb2.HashKVResponse]]]):
    """`endpoint hashkv`: endpoints with what they answered."""

    def simple(self, *, hexadecimal: bool) -> Lines:
        """A line an endpoint."""
        return [", ".join(row) for row in self.table()[1]]

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """All of each."""
        for endpoint, answer in self.message:
            yield from header_fields(answer.header, hexadecimal=hexadecimal)
            yield f'"Endpoint" : {quote(endpoint)}'
            yield f'"Hash" : {answer.hash}'
            yield f'"HashRevision" : {answer.hash_revision}'
            yield ""

    def json(self, *, hexadecimal: bool) -> Any:
        """A list; where there is none, Go prints null."""
        return [{"Endpoint": endpoint, "HashKV": plain(answer)} for endpoint, answer in self.message] or None

    def table(self) -> Table:
        """A row an endpoint."""
        rows = [(endpoint, str(answer.hash), str(answer.hash_revision)) for endpoint, answer in self.message]
        return ("endpoint", "hash", "hash revision"), rows


# --- alarms ---


class AlarmAnswer(Answer[rpc_pb2.AlarmResponse]):
    """`alarm list`, `alarm disarm`."""

    def simple(self, *, hexadecimal: bool) -> Iterable[str]:
        """A line an alarm, in protobuf's text form, which leaves out what is zero."""
        for each in self.message.alarms:
            parts = [f"memberID:{each.memberID}"] if each.memberID else []
            yield " ".join([*parts, *([f"alarm:{_alarm_name(each)}"] if each.alarm else [])])

    def fields(self, *, hexadecimal: bool) -> Iterator[str]:
        """Who, and which."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for each in self.message.alarms:
            yield f'"MemberID" : {shown_id(each.memberID, hexadecimal=hexadecimal)}'
            yield f'"AlarmType" : {_alarm_name(each)}'
            yield ""


def _alarm_name(alarm: rpc_pb2.AlarmMember) -> str:
    known = rpc_pb2.AlarmType.DESCRIPTOR.values_by_number.get(alarm.alarm)
    return known.name if known else str(alarm.alarm)
