"""What to do with the data directory that is found at start: facts in, one case of a written table out.

The same tables, for reading, are in docs/design/recovery.md; a test holds the two together. The first case that applies
is taken. Refusing changes nothing on disk. Never is anything served that the tables do not call whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from google.protobuf.message import DecodeError

from etcdpy.proto import raft_pb2
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage import data_dir, raft_log
from etcdpy.storage.errors import DamagedError
from etcdpy.storage.leveldb import REPLACE
from etcdpy.storage.log_records import MalformedRecord, split_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from etcdpy.storage.leveldb import Database

T = TypeVar("T")


class Action(Enum):
    """What is done in a case."""

    CREATE = "make a new member"
    OPEN = "open; entries after the applied index are applied again"
    REBUILD_STATE = "make an empty state and apply the whole log to it"
    IGNORE = "go on with `member/state`"
    FINISH_INSTALL = "go on with it; it becomes `member/state` once all is found whole"
    DROP = "go on with `member/state`; it is removed once all is found whole"
    REFUSE = "refuse to start"


@dataclass(frozen=True, slots=True)
class Case(Generic[T]):
    """One row. `reason` and `mend` are formatted with the facts' fields."""

    name: str
    applies: Callable[[T], bool]
    action: Action
    reason: str
    mend: str = ""

    def message(self, place: object, **values: object) -> str:
        """The one line for the log or the refusal."""
        text = f"{place}: {self.reason.format(**values)}"
        return f"{text}; {self.mend}" if self.mend else text


LAYOUT_CASES: Final[tuple[Case[data_dir.Layout], ...]] = (
    Case(
        "foreign",
        lambda found: found.foreign is not None,
        Action.REFUSE,
        "holds data of etcd itself ({foreign})",
        "choose another --data-dir, and move the data by a snapshot or by adding this member to the running cluster",
    ),
    Case(
        "creation complete, mark left",
        lambda found: found.creating and found.format_line == data_dir.FORMAT_LINE and found.log and found.state,
        Action.OPEN,
        "its creation was interrupted after the last step",
    ),
    Case(
        "half made",
        lambda found: found.creating and found.format_line is None,
        Action.CREATE,
        "its creation was interrupted; nothing was ever served from it, so it is made anew",
    ),
    Case(
        "new",
        lambda found: found.format_line is None and not found.log and not found.state,
        Action.CREATE,
        "is empty",
    ),
    Case(
        "format missing",
        lambda found: found.format_line is None,
        Action.REFUSE,
        "member/FORMAT is missing although there are databases",
        f"put it back (one line: `{data_dir.FORMAT_LINE}`) if you know that this version wrote them; else {REPLACE}",
    ),
    Case(
        "format unknown",
        lambda found: found.format_line != data_dir.FORMAT_LINE,
        Action.REFUSE,
        "member/FORMAT says `{format_line}`, and this version reads `" + data_dir.FORMAT_LINE + "` only",
        "start the version of etcdpy that wrote it",
    ),
    Case(
        "log missing",
        lambda found: not found.log,
        Action.REFUSE,
        "the raft log is not where it should be",
        f"give the --wal-dir that this member was made with, or the one it has; if it is lost, {REPLACE}",
    ),
    Case("present", lambda _found: True, Action.OPEN, "is there"),
)
"""Decided by names alone. The lock comes before: a directory in use is refused without a look inside."""


@dataclass(frozen=True, slots=True)
class Received:
    """What is known of states that came from other members, by their names."""

    present: bool
    """There is a `member/state.<identity>`."""
    belongs: bool
    """One of them has the identity that the log names."""


RECEIVED_CASES: Final[tuple[Case[Received], ...]] = (
    Case("nothing received", lambda found: not found.present, Action.IGNORE, "is not there"),
    Case(
        "received and installed",
        lambda found: found.belongs,
        Action.FINISH_INSTALL,
        "holds a received state, which the raft log was started anew for",
    ),
    Case(
        "received and not installed",
        lambda _found: True,
        Action.DROP,
        "holds a received state that the raft log does not know: it never counted",
    ),
)
"""Comes before the last table, which then speaks of the state that this one chose."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the databases say, once each of them has proved whole by itself."""

    state_missing: bool
    identity_matches: bool
    start_index: int
    """Point of truncation; 0 when the log is complete."""
    last_index: int
    hard_state_missing: bool
    commit_index: int
    applied_index: int
    applied_term: int
    log_term_at_applied: int | None
    """None when the log cannot know it."""


CONTENT_CASES: Final[tuple[Case[Content], ...]] = (
    Case(
        "hard state missing",
        lambda found: found.hard_state_missing,
        Action.REFUSE,
        "the raft log has entries up to {last_index} but no hard state: it could vote twice",
        REPLACE,
    ),
    Case(
        "commit beyond log",
        lambda found: found.commit_index > found.last_index,
        Action.REFUSE,
        "entry {commit_index} was known as committed but the raft log ends at {last_index}",
        REPLACE,
    ),
    Case(
        "state missing, log complete",
        lambda found: found.state_missing and found.start_index == 0,
        Action.REBUILD_STATE,
        "the applied state is missing; the raft log is complete, so all of it is applied again",
    ),
    Case(
        "state missing, log truncated",
        lambda found: found.state_missing,
        Action.REFUSE,
        "the applied state is missing and the raft log starts after entry {start_index}",
        REPLACE,
    ),
    Case(
        "not a pair",
        lambda found: not found.identity_matches,
        Action.REFUSE,
        "the raft log and the applied state were not made together",
        "give the --wal-dir that belongs to this --data-dir",
    ),
    Case(
        "state ahead of log",
        lambda found: found.applied_index > found.last_index,
        Action.REFUSE,
        "entry {applied_index} is applied but the raft log ends at {last_index}: its end was lost",
        REPLACE,
    ),
    Case(
        "gap between state and log",
        lambda found: found.applied_index < found.start_index,
        Action.REFUSE,
        "the applied state ends at entry {applied_index} but the raft log starts after {start_index}",
        REPLACE,
    ),
    Case(
        "state of another history",
        lambda found: found.log_term_at_applied not in (None, found.applied_term),
        Action.REFUSE,
        "entry {applied_index} was applied with term {applied_term} but has term {log_term_at_applied} in the raft log",
        REPLACE,
    ),
    Case(
        "state behind log",
        lambda found: found.applied_index < found.last_index,
        Action.OPEN,
        "entries {applied_index} to {last_index} are not in the applied state yet",
    ),
    Case("whole", lambda _found: True, Action.OPEN, "log and state agree"),
)


def decide(cases: tuple[Case[T], ...], found: T) -> Case[T]:
    """The first case that applies; the last one always does."""
    return next(case for case in cases if case.applies(found))


def facts(found: object) -> dict[str, object]:
    """The fields of a facts value by name, to format a case's words with."""
    return {name: getattr(found, name) for name in found.__slots__}  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class LogContent:
    """What the log database holds, checked."""

    start: tuple[int, int]
    runs: list[tuple[int, int]]
    """(index, term) of the first entry of each term, and of the last entry."""
    last_index: int
    records: list[int]
    """The first entry of each record, truncated ones included."""
    hard_state: HardState | None
    bootstrap: ConfState
    identity: bytes


def read_log(database: Database, path: Path) -> LogContent:
    """Read every record: indexes without a gap, terms that never fall, each value what its key says.

    Raises DamagedError naming the record.
    """
    start = _record(database, path, raft_log.START_KEY, raft_log.unpack_pair) or (0, 0)
    hard_state = _record(database, path, raft_log.HARD_STATE_KEY, raft_log.unpack_hard_state)
    bootstrap = _record(database, path, raft_log.BOOTSTRAP_KEY, parse_conf_state)
    runs, last_index, records = _read_entries(database, path, start)
    identity = database.get(raft_log.IDENTITY_KEY) or b""
    return LogContent(start, runs, last_index, records, hard_state, bootstrap or ConfState(), identity)


def _read_entries(
    database: Database, path: Path, start: tuple[int, int]
) -> tuple[list[tuple[int, int]], int, list[int]]:
    start_index, term = start
    expected = start_index + 1
    records: list[int] = []
    runs: list[tuple[int, int]] = []
    for key, value in database.iterator(stop=raft_log.FIRST_META_KEY):
        index = int.from_bytes(key, "big")
        records.append(index)
        wires = _entries_of(path, index, value)
        if index + len(wires) - 1 <= start_index:
            continue
        live = max(index, start_index + 1)
        if live != expected:
            raise DamagedError(f"{path}: {_misplaced(expected, live)}; {REPLACE}")
        for wire in wires[live - index :]:
            new_term = _check_entry(path, expected, term, wire)
            if new_term != term:
                term = new_term
                runs.append((expected, term))
            expected += 1
    last_index = expected - 1
    if last_index > start_index:
        runs.append((last_index, term))
    return runs, last_index, records


def _misplaced(expected: int, found: int) -> str:
    if found > expected:
        return f"entry {expected} is missing although entry {found} is there"
    return f"entry {found} is there twice"


def _entries_of(path: Path, index: int, record: bytes) -> list[bytes]:
    try:
        return split_record(record)
    except MalformedRecord as error:
        raise DamagedError(f"{path}: the record of entry {index} cannot be read ({error}); {REPLACE}") from error


def _check_entry(path: Path, index: int, term: int, wire: bytes) -> int:
    """The term of entry `index`, which follows one of `term`. Raises DamagedError."""
    try:
        entry = raft_pb2.Entry.FromString(wire)
    except DecodeError as error:
        raise DamagedError(f"{path}: entry {index} is not an entry ({error}); {REPLACE}") from error
    if entry.Index != index or entry.Term < term:
        raise DamagedError(
            f"{path}: entry {index} says of itself index {entry.Index}, term {entry.Term}, after term {term}; {REPLACE}"
        )
    return entry.Term


def _record(database: Database, path: Path, key: bytes, parse: Callable[[bytes], T]) -> T | None:
    record = database.get(key)
    return None if record is None else parse_record(path, key, record, parse)


def parse_record(path: Path, key: bytes, record: bytes, parse: Callable[[bytes], T]) -> T:
    """A meta record's value; raises DamagedError naming it."""
    try:
        return parse(record)
    except (ValueError, DecodeError) as error:
        name = key.decode("ascii", "replace")
        raise DamagedError(f"{path}: the record {name} cannot be read ({error}); {REPLACE}") from error


def parse_conf_state(record: bytes) -> ConfState:
    """A stored ConfState; raises DecodeError."""
    return ConfState.from_proto(raft_pb2.ConfState.FromString(record))
