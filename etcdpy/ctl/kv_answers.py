"""How answers about keys look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.answers import Answer, header_fields, word
from etcdpy.ctl.gojson import plain
from etcdpy.ctl.gotext import quote
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.ctl.answers import Line


def pair_lines(pair: kv_pb2.KeyValue, *, hexadecimal: bool, values_only: bool = False) -> list[Line]:
    """Key and value, a line each; with --hex as `\\x66\\x6f`."""
    texts = [pair.value] if values_only else [pair.key, pair.value]
    return ["".join(f"\\x{byte:02x}" for byte in text) if hexadecimal else text for text in texts]


def pair_fields(pair: kv_pb2.KeyValue, *, hexadecimal: bool, prefix: str = "") -> Iterator[str]:
    """All that is known of a key, in `fields`."""
    yield f'"{prefix}Key" : {quote(pair.key)}'
    yield f'"{prefix}CreateRevision" : {pair.create_revision}'
    yield f'"{prefix}ModRevision" : {pair.mod_revision}'
    yield f'"{prefix}Version" : {pair.version}'
    yield f'"{prefix}Value" : {quote(pair.value)}'
    yield f'"{prefix}Lease" : {pair.lease:016x}' if hexadecimal else f'"{prefix}Lease" : {pair.lease}'


class RangeAnswer(Answer[rpc_pb2.RangeResponse]):
    """`get`."""

    def __init__(self, message: rpc_pb2.RangeResponse, *, values_only: bool = False, count_only: bool = False) -> None:
        super().__init__(message)
        self._values_only = values_only
        self._count_only = count_only

    def _check(self, form: str) -> None:
        # Checked when the answer is there, as etcdctl does.
        if self._count_only and form != "fields":
            raise Failure(Exit.BAD_ARGUMENTS, "--count-only is only for `--write-out=fields`")
        if self._values_only and form != "simple":
            raise Failure(Exit.BAD_ARGUMENTS, "print-value-only is only for `--write-out=simple`")

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Key and value of each pair, a line each."""
        self._check("simple")
        for pair in self.message.kvs:
            yield from pair_lines(pair, hexadecimal=hexadecimal, values_only=self._values_only)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Each pair, whether there are more, and how many in all."""
        self._check("fields")
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for pair in self.message.kvs:
            yield from pair_fields(pair, hexadecimal=hexadecimal)
        yield f'"More" : {word(truth=self.message.more)}'
        yield f'"Count" : {self.message.count}'

    def json(self, *, hexadecimal: bool) -> Any:
        """The answer."""
        self._check("json")
        return super().json(hexadecimal=hexadecimal)

    def protobuf(self) -> bytes:
        """The answer."""
        self._check("protobuf")
        return super().protobuf()

    def table(self) -> Any:
        """There is none."""
        self._check("table")
        return super().table()


class PutAnswer(Answer[rpc_pb2.PutResponse]):
    """`put`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """`OK`, then the previous pair where it was asked for."""
        yield "OK"
        if self.message.HasField("prev_kv"):
            yield from pair_lines(self.message.prev_kv, hexadecimal=hexadecimal)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """The previous pair where it was asked for."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        if self.message.HasField("prev_kv"):
            yield from pair_fields(self.message.prev_kv, hexadecimal=hexadecimal, prefix="Prev")


class DeleteAnswer(Answer[rpc_pb2.DeleteRangeResponse]):
    """`del`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """How many were deleted, then the previous pairs where they were asked for."""
        yield str(self.message.deleted)
        for pair in self.message.prev_kvs:
            yield from pair_lines(pair, hexadecimal=hexadecimal)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """How many were deleted, then the previous pairs where they were asked for."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield f'"Deleted" : {self.message.deleted}'
        for pair in self.message.prev_kvs:
            yield from pair_fields(pair, hexadecimal=hexadecimal, prefix="Prev")


class WatchAnswer(Answer[rpc_pb2.WatchResponse]):
    """One answer of `watch`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A few lines an event."""
        for event in self.message.events:
            yield kv_pb2.Event.EventType.Name(event.type)
            if event.HasField("prev_kv"):
                yield from pair_lines(event.prev_kv, hexadecimal=hexadecimal)
            yield from pair_lines(event.kv, hexadecimal=hexadecimal)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """The header, and all of each event."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        for event in self.message.events:
            yield f'"Type" : {kv_pb2.Event.EventType.Name(event.type)}'
            if event.HasField("prev_kv"):
                yield from pair_fields(event.prev_kv, hexadecimal=hexadecimal, prefix="Prev")
            yield from pair_fields(event.kv, hexadecimal=hexadecimal)

    def json(self, *, hexadecimal: bool) -> Any:
        """The struct of Go's client, whose fields have Go's names and are always there."""
        message = self.message
        return {
            "Header": plain(message.header),
            "Events": [plain(event) for event in message.events] or None,
            "CompactRevision": message.compact_revision,
            "Canceled": message.canceled,
            "Created": message.created,
            "CancelReason": message.cancel_reason,
        }

    def protobuf(self) -> bytes:
        """The answer, without what tells watches of one stream apart."""
        message = self.message
        return rpc_pb2.WatchResponse(
            header=message.header,
            events=message.events,
            compact_revision=message.compact_revision,
            canceled=message.canceled,
            created=message.created,
        ).SerializeToString()


class TxnAnswer(Answer[rpc_pb2.TxnResponse]):
    """`txn`."""

    def _parts(self) -> Iterator[Answer[Any]]:
        for part in self.message.responses:
            if part.HasField("response_range"):
                yield RangeAnswer(part.response_range)
            elif part.HasField("response_put"):
                yield PutAnswer(part.response_put)
            else:  # its grammar has no transactions in transactions
                yield DeleteAnswer(part.response_delete_range)

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Which branch was taken, and behind an empty line each what its requests answered."""
        yield "SUCCESS" if self.message.succeeded else "FAILURE"
        for part in self._parts():
            yield ""
            yield from part.simple(hexadecimal=hexadecimal)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Which branch was taken, and what its requests answered."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield f'"Succeeded" : {word(truth=self.message.succeeded)}'
        for part in self._parts():
            yield from part.fields(hexadecimal=hexadecimal)

    def json(self, *, hexadecimal: bool) -> Any:
        """The answer; each request's stands in an object of its own, as Go has it for a oneof."""
        value = plain(self.message)
        if "responses" in value:
            value["responses"] = [{"Response": each} for each in value["responses"]]
        return value
