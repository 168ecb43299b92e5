"""What commands print, by --write-out. An answer is one class: how each format shows it stands side by side.

A command makes one of the message that it got, `session.show(PutAnswer(message))`, and the format picks the method.
What a format does not offer for an answer is refused after the call, as etcdctl refuses it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.gojson import dumps, plain
from etcdpy.texttable import boxed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.protobuf.message import Message

    from etcdpy.proto import rpc_pb2

    Line = str | bytes
    """Keys and values are bytes of any kind and go out as they are; a command line's text may hold such too."""
    Lines = Iterable[Line]
    Table = tuple[Sequence[str], Sequence[Sequence[str]]]
    """A header and its rows."""

FORMATS: Final = ("fields", "json", "protobuf", "simple", "table")

MessageT = TypeVar("MessageT")


class NotOffered(Exception):
    """A format that has no form for an answer."""


class Answer(Generic[MessageT]):
    """One answer. A subclass says how it looks; what it leaves out is as etcdctl has it for most answers."""

    go_type: ClassVar[str] = ""
    """Set where etcdctl's client has a type of its own for the message, which protobuf cannot show."""

    def __init__(self, message: MessageT) -> None:
        self.message = message

    def simple(self, *, hexadecimal: bool) -> Lines:
        """Lines for people."""
        raise NotImplementedError

    def fields(self, *, hexadecimal: bool) -> Lines:
        """Lines of `"Name" : value`. Raises NotOffered."""
        raise NotOffered

    def json(self, *, hexadecimal: bool) -> Any:
        """What `gojson.dumps` takes. Raises NotOffered."""
        return plain(self._wire_message)

    def protobuf(self) -> bytes:
        """The message as it came. Raises NotOffered, Failure."""
        if self.go_type:
            raise Failure(Exit.BAD_FEATURE, f"marshal unsupported for type {self.go_type}")
        return self._wire_message.SerializeToString()

    def table(self) -> Table:
        """Titles and rows. Raises NotOffered."""
        raise NotOffered

    @property
    def _wire_message(self) -> Message:
        from google.protobuf.message import Message

        if not isinstance(self.message, Message):
            raise NotOffered
        return self.message


def check_format(name: str) -> str:
    """A --write-out that there is. Raises Failure."""
    if name not in FORMATS:
        raise Failure(Exit.BAD_FEATURE, "unsupported output format")
    return name


def show(answer: Answer[Any], form: str, *, hexadecimal: bool) -> None:
    """Print it. Raises Failure where the format has no form for it."""
    try:
        if form == "protobuf":
            write(answer.protobuf())
        elif form == "json":
            write_lines([dumps(answer.json(hexadecimal=hexadecimal))])
        elif form == "table":
            write_lines([boxed(*answer.table())])
        elif form == "fields":
            write_lines(answer.fields(hexadecimal=hexadecimal))
        else:
            write_lines(answer.simple(hexadecimal=hexadecimal))
    except NotOffered:
        raise Failure(Exit.BAD_FEATURE, f"{form} not supported as output format") from None


def write_lines(lines: Lines) -> None:
    """To standard output, at once: what follows may wait for hours."""
    raw = (line if isinstance(line, bytes) else line.encode(errors="surrogateescape") for line in lines)
    write(b"".join(line + b"\n" for line in raw))


def write(data: bytes) -> None:
    """To standard output, at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def header_fields(header: rpc_pb2.ResponseHeader, *, hexadecimal: bool) -> Iterator[str]:
    """The header in `fields`; the revision is left out where the call has none."""
    yield f'"ClusterID" : {shown_id(header.cluster_id, hexadecimal=hexadecimal)}'
    yield f'"MemberID" : {shown_id(header.member_id, hexadecimal=hexadecimal)}'
    if header.revision > 0:
        yield f'"Revision" : {header.revision}'
    yield f'"RaftTerm" : {header.raft_term}'


def shown_id(number: int, *, hexadecimal: bool) -> str:
    """A member's or cluster's id in `fields`."""
    return f"{number:x}" if hexadecimal else str(number)


def word(*, truth: bool) -> str:
    """A bool as Go prints it."""
    return "true" if truth else "false"
