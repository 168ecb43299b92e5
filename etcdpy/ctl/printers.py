"""What commands print, by --write-out: lines for people (`simple`) or one line of JSON."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.gojson import dumps, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etcdpy.proto import kv_pb2, rpc_pb2


@dataclass(frozen=True, slots=True)
class Health:
    """What `endpoint health` found at one endpoint; `took` is a span as Go prints it."""

    endpoint: str
    healthy: bool
    took: str
    error: str = ""


class Printer(Protocol):
    """One method for each kind of answer."""

    def get(self, answer: rpc_pb2.RangeResponse, *, values_only: bool = False) -> None:
        """`get`."""

    def put(self, answer: rpc_pb2.PutResponse) -> None:
        """`put`."""

    def delete(self, answer: rpc_pb2.DeleteRangeResponse) -> None:
        """`del`."""

    def member_list(self, answer: rpc_pb2.MemberListResponse) -> None:
        """`member list`."""

    def endpoint_health(self, found: Sequence[Health]) -> None:
        """`endpoint health`."""

    def endpoint_status(self, found: Sequence[tuple[str, rpc_pb2.StatusResponse]]) -> None:
        """`endpoint status`: endpoints with their answers."""


def make_printer(name: str, *, hexadecimal: bool) -> Printer:
    """The printer of a --write-out. Raises Failure for a format that is not offered."""
    if name == "simple":
        return SimplePrinter(hexadecimal=hexadecimal)
    if name == "json":
        return JsonPrinter(hexadecimal=hexadecimal)
    known = name in ("fields", "protobuf", "table")
    raise Failure(Exit.BAD_FEATURE, f"{name} not supported as output format" if known else "unsupported output format")


def _write(lines: Iterable[bytes]) -> None:
    """Keys and values are bytes of any kind, so they go out as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
    sys.stdout.buffer.flush()


class SimplePrinter:
    """Lines for people."""

    def __init__(self, *, hexadecimal: bool) -> None:
        self._hex = hexadecimal

    def _pair(self, pair: kv_pb2.KeyValue, *, values_only: bool = False) -> list[bytes]:
        texts = [pair.value] if values_only else [pair.key, pair.value]
        return ["".join(f"\\x{byte:02x}" for byte in text).encode() for text in texts] if self._hex else texts

    def get(self, answer: rpc_pb2.RangeResponse, *, values_only: bool = False) -> None:
        """Key and value of each pair, a line each."""
        _write(line for pair in answer.kvs for line in self._pair(pair, values_only=values_only))

    def put(self, answer: rpc_pb2.PutResponse) -> None:
        """`OK`, then the previous pair where it was asked for."""
        _write([b"OK", *(self._pair(answer.prev_kv) if answer.HasField("prev_kv") else [])])

    def delete(self, answer: rpc_pb2.DeleteRangeResponse) -> None:
        """How many were deleted, then the previous pairs where they were asked for."""
        _write([b"%d" % answer.deleted, *(line for pair in answer.prev_kvs for line in self._pair(pair))])

    def member_list(self, answer: rpc_pb2.MemberListResponse) -> None:
        """One line a member."""
        rows = [
            (
                f"{member.ID:x}",
                "started" if member.name else "unstarted",
                member.name,
                ",".join(member.peerURLs),
                ",".join(member.clientURLs),
                _word(truth=member.isLearner),
            )
            for member in answer.members
        ]
        _write(", ".join(row).encode() for row in rows)

    def endpoint_health(self, found: Sequence[Health]) -> None:
        """One line an endpoint; the unhealthy ones go to standard error."""
        for health in found:
            if health.error:
                text = f"{health.endpoint} is unhealthy: failed to commit proposal: {health.error}"
                sys.stderr.write(text + "\n")
            else:
                text = f"{health.endpoint} is healthy: successfully committed proposal: took = {health.took}"
                _write([text.encode()])

    def endpoint_status(self, found: Sequence[tuple[str, rpc_pb2.StatusResponse]]) -> None:
        """One line an endpoint."""
        _write(", ".join(status_row(endpoint, answer)).encode() for endpoint, answer in found)


class JsonPrinter:
    """One line of Go's JSON."""

    def __init__(self, *, hexadecimal: bool) -> None:
        self._hex = hexadecimal

    def get(self, answer: rpc_pb2.RangeResponse, *, values_only: bool = False) -> None:
        """The answer; `values_only` makes no sense here and is refused."""
        if values_only:
            raise Failure(Exit.BAD_ARGUMENTS, "print-value-only is only for `--write-out=simple`")
        self._print(plain(answer))

    def put(self, answer: rpc_pb2.PutResponse) -> None:
        """The answer."""
        self._print(plain(answer))

    def delete(self, answer: rpc_pb2.DeleteRangeResponse) -> None:
        """The answer."""
        self._print(plain(answer))

    def member_list(self, answer: rpc_pb2.MemberListResponse) -> None:
        """The answer; with --hex, ids as hexadecimal strings."""
        value = plain(answer)
        if self._hex:
            header = answer.header
            value["header"] |= {"cluster_id": f"{header.cluster_id:x}", "member_id": f"{header.member_id:x}"}
            for row, member in zip(value.get("members", []), answer.members, strict=True):
                row["ID"] = f"{member.ID:x}"
        self._print(value)

    def endpoint_health(self, found: Sequence[Health]) -> None:
        """A list of what was found."""
        rows = [{"endpoint": each.endpoint, "health": each.healthy, "took": each.took} for each in found]
        for row, each in zip(rows, found, strict=True):
            if each.error:
                row["error"] = each.error
        self._print(rows)

    def endpoint_status(self, found: Sequence[tuple[str, rpc_pb2.StatusResponse]]) -> None:
        """A list of the answers; where there is none, Go prints an empty list as null."""
        self._print([{"Endpoint": endpoint, "Status": plain(answer)} for endpoint, answer in found] or None)

    def _print(self, value: Any) -> None:
        _write([dumps(value).encode()])


def _word(*, truth: bool) -> str:
    return "true" if truth else "false"


def human_bytes(count: int) -> str:
    """A size as etcdctl prints it: powers of a thousand, one digit after the point below ten."""
    if count < 10:
        return f"{count} B"
    power = min(int(math.log10(count) / 3 + 1e-12), 6)
    value = math.floor(count / 1000**power * 10 + 0.5) / 10
    unit = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


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
        _word(truth=answer.leader == answer.header.member_id),
        _word(truth=answer.isLearner),
        str(answer.raftTerm),
        str(answer.raftIndex),
        str(answer.raftAppliedIndex),
        ", ".join(answer.errors),
        answer.downgradeInfo.targetVersion,
        _word(truth=answer.downgradeInfo.enabled),
    )
