"""Entries that share a record, as bytes and in the log: replaced and truncated in the middle of one, damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.raft.entry import Entry, encode_entries
from etcdpy.raft.message import decode_message
from etcdpy.raft.types import HardState
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import DamagedError
from etcdpy.storage.log_records import MalformedRecord, join_entries, shares, split_record
from tests.support.storage import edit_log, flush, new_engine, run, write_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


WIRES = encode_entries([Entry(b"x" * size, None, 3, 200 + size) for size in (0, 1, 1, 200, 5000)])


# --- bytes ---


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_was_joined_comes_apart(count: int) -> None:
    record = join_entries(WIRES[:count])
    assert split_record(record) == WIRES[:count]
    if count > 1:
        assert [entry.wire for entry in decode_message(record).entries] == WIRES[:count]


def test_one_entry_stays_as_it_is_unless_it_looks_like_several() -> None:
    assert join_entries(WIRES[:1]) == WIRES[0]
    strange = b"\x3a\x00" + WIRES[0]
    assert split_record(join_entries([strange])) == [strange]


@pytest.mark.parametrize("end", range(1, len(join_entries(WIRES[:3]))))
def test_a_cut_record_is_noticed_or_holds_the_first_entries(end: int) -> None:
    try:
        assert split_record(join_entries(WIRES[:3])[:end]) in (WIRES[:1], WIRES[:2])
    except MalformedRecord as error:
        assert "cut off" in str(error)  # noqa: PT017 - either way is right


def test_a_record_has_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_RECORD_BYTES", 30)
    wires = [b"x" * size for size in (10, 20, 1, 40, 40, 5)]
    assert [[len(wire) for wire in share] for share in shares(wires)] == [[10, 20], [1], [40], [40], [5]]
    assert shares(wires[:2]) == [wires[:2]]


# --- in the log ---


def keys(engine: Engine) -> list[int]:
    stored = engine._log_database.iterator(stop=b"meta/", include_value=False)
    return [int.from_bytes(key, "big") for key in stored]


def append(engine: Engine, term: int, first: int, count: int) -> None:
    entries = [Entry(b"%d/%d" % (term, index), None, term, index) for index in range(first, first + count)]
    run(engine, engine.take_job(HardState(term, 1, 0), entries, must_sync=True))


def content(engine: Engine) -> list[bytes]:
    log = engine.log
    lows = [log.first_index(), log.last_index()]
    found = [log.entries(low, log.last_index() + 1, 1 << 30) for low in lows]
    assert found[1] == found[0][-1:]
    return [entry.data for entry in found[0]]


def truncate(engine: Engine, index: int) -> None:
    engine.state.put(b"rx", b"")
    engine.set_applied(index, engine.log.term(index))
    flush(engine)
    engine._truncate_to = index
    flush(engine)


@pytest.mark.parametrize("recent_bytes", [0, limits.RAFT_LOG_RECENT_BYTES], ids=["from disk", "from memory"])
def test_replaced_and_truncated_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recent_bytes: int
) -> None:
    monkeypatch.setattr(limits, "RAFT_LOG_RECENT_BYTES", recent_bytes)
    engine = new_engine(tmp_path)
    append(engine, 1, 1, 10)
    append(engine, 2, 11, 10)
    steps: list[tuple[Callable[[], None], list[int], int, int]] = [
        (lambda: append(engine, 3, 15, 2), [1, 11, 15], 1, 16),
        (lambda: append(engine, 4, 11, 1), [1, 11], 1, 11),
        (lambda: append(engine, 5, 8, 5), [1, 8], 1, 12),
        (lambda: truncate(engine, 3), [1, 8], 4, 12),
        (lambda: append(engine, 6, 6, 1), [4, 6], 4, 6),
        (lambda: truncate(engine, 5), [6], 6, 6),
        (lambda: append(engine, 7, 6, 6), [6], 6, 11),
        (lambda: truncate(engine, 8), [6], 9, 11),
        (lambda: append(engine, 8, 9, 3), [9], 9, 11),
        (lambda: truncate(engine, 11), [], 12, 11),
        (lambda: append(engine, 9, 12, 2), [12], 12, 13),
    ]
    for step, records, first, last in steps:
        step()
        for _ in range(2):
            assert keys(engine) == records
            assert (engine.log.first_index(), engine.log.last_index()) == (first, last)
            terms = [engine.log.term(index) for index in range(first, last + 1)]
            expected = [b"%d/%d" % (term, index) for index, term in enumerate(terms, first)]
            assert not expected or content(engine) == expected
            engine.close()
            engine = new_engine(tmp_path)
    engine.close()


@pytest.mark.parametrize(
    ("index", "wires", "words"),
    [
        (1, b"\x3a\x05ab", "the record of entry 1 cannot be read"),
        (11, None, "entry 11 is missing although entry 21 is there"),
        (15, encode_entries([Entry(b"", None, 1, 15)])[0], "entry 15 is there twice"),
        (
            11,
            join_entries(encode_entries([Entry(b"", None, 1, index) for index in (11, 13)])),
            "says of itself index 13",
        ),
        (11, join_entries(encode_entries([Entry(b"", None, 1, index) for index in (11, 12)])), "entry 13 is missing"),
    ],
)
def test_damage(tmp_path: Path, index: int, wires: bytes | None, words: str) -> None:
    engine = new_engine(tmp_path)
    for _ in range(3):
        write_batch(engine, 10)
    engine.close()
    edit_log(tmp_path, {index.to_bytes(8, "big"): wires})
    with pytest.raises(DamagedError, match=words):
        Engine.open(tmp_path)
