"""The index's table of keys: a dict, in parts of which none is large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.mvcc.key_table import KeyTable

KEYS = st.binary(max_size=2)


@given(st.lists(st.tuples(st.sampled_from(["set", "default", "delete"]), KEYS)))
def test_it_is_a_dict(steps: list[tuple[str, bytes]]) -> None:
    table: KeyTable[int] = KeyTable()
    model: dict[bytes, int] = {}
    for number, (verb, key) in enumerate(steps):
        if verb == "set":
            table[key] = model[key] = number
        elif verb == "default":
            assert table.setdefault(key, number) == model.setdefault(key, number)
        elif key in model:
            del table[key]
            del model[key]
        assert table.get(key) == model.get(key)
        assert (key in table) == (key in model)
    assert len(table) == len(model)
    assert dict(table.items()) == model
    assert set(table) == set(model)


def test_no_part_is_large() -> None:
    table: KeyTable[int] = KeyTable()
    for number in range(100_000):
        table[b"/registry/events/%09d" % number] = number
    assert max(map(len, table.parts)) < 600, "of 391 in the mean"


def test_keys_of_a_part_begin_at_different_places_of_its_dict() -> None:
    """A dict looks for a key from the lowest bits of its hash on: where all keys share them, each meets all others."""
    table: KeyTable[int] = KeyTable()
    for number in range(20_000):
        table[b"%d" % number] = number
    for part in table.parts:
        assert len({hash(key) & 0xFF for key in part}) > len(part) // 2


@pytest.mark.parametrize("count", [10, 5_000])
def test_adding_many_keeps_what_is_there(count: int) -> None:
    table: KeyTable[int] = KeyTable()
    keys = [b"%d" % number for number in range(count)]
    assert table.add_all(keys, range(count))
    assert dict(table.items()) == {key: number for number, key in enumerate(keys)}
    assert not table.add_all([*keys[3:], b"new"], range(1000, 998 + count))
    assert dict(table.items()) == {**{key: number for number, key in enumerate(keys)}, b"new": 997 + count}
