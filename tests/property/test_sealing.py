"""Records under encryption: whatever is stored comes back, and nothing that was touched or moved is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.storage.sealing import COUNTER_BYTES, HEAD_BYTES, OVERHEAD_BYTES, Opener, Refused, Sealer

DATA_KEYS = {1: b"\1" * 32, 2: b"\2" * 32}
PURPOSE = b"database state "


def opener(purpose: bytes = PURPOSE) -> Opener:
    return Opener(DATA_KEYS, purpose)


@given(key=st.binary(max_size=40), value=st.binary(max_size=400), number=st.sampled_from([1, 2]))
def test_what_was_sealed_opens(key: bytes, value: bytes, number: int) -> None:
    record = Sealer(number, DATA_KEYS[number], PURPOSE).seal(key, value)
    assert opener().open(key, record) == value
    assert len(record) == len(value) + OVERHEAD_BYTES
    assert len(value) < 8 or value not in record


@given(st.data(), st.binary(max_size=40), st.binary(max_size=400))
def test_no_changed_bit_is_taken(data: st.DataObject, key: bytes, value: bytes) -> None:
    record = bytearray(Sealer(1, DATA_KEYS[1], PURPOSE).seal(key, value))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        opener().open(key, bytes(record))


@given(st.data(), st.binary(max_size=40), st.binary(max_size=400))
def test_no_cut_or_longer_record_is_taken(data: st.DataObject, key: bytes, value: bytes) -> None:
    record = Sealer(1, DATA_KEYS[1], PURPOSE).seal(key, value)
    with pytest.raises(Refused):
        opener().open(key, record[: data.draw(st.integers(0, len(record) - 1))])
    with pytest.raises(Refused):
        opener().open(key, record + data.draw(st.binary(min_size=1, max_size=20)))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=100))
def test_a_record_is_good_in_its_own_place_alone(key: bytes, other: bytes, value: bytes) -> None:
    record = Sealer(1, DATA_KEYS[1], PURPOSE).seal(key, value)
    if other != key:
        with pytest.raises(Refused):
            opener().open(other, record)
    with pytest.raises(Refused):
        opener(b"database log ").open(key, record)


@given(st.binary(max_size=100))
def test_bytes_that_nobody_sealed_are_refused(record: bytes) -> None:
    with pytest.raises(Refused):
        opener().open(b"key", record)


def test_no_nonce_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdpy.storage.sealing.SEALED_RECORDS_PER_SESSION", 7)
    sealers = [Sealer(1, DATA_KEYS[1], PURPOSE) for _ in range(10)]  # ten starts of a member
    records = [sealer.seal(b"key", b"value") for sealer in sealers for _ in range(50)]
    nonces = {record[: HEAD_BYTES + COUNTER_BYTES] for record in records}
    assert len(nonces) == len(records)
    assert max(int.from_bytes(each[HEAD_BYTES:], "big") for each in nonces) == 6
    assert all(opener().open(b"key", record) == b"value" for record in records)


def test_sessions_that_were_forgotten_are_derived_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdpy.storage.sealing.SEALING_SESSIONS_KEPT", 3)
    records = [Sealer(1, DATA_KEYS[1], PURPOSE).seal(b"key", b"%d" % number) for number in range(10)]
    reader = opener()
    for _ in range(2):
        assert [reader.open(b"key", record) for record in records] == [b"%d" % number for number in range(10)]
    assert len(reader._sessions) == 3
