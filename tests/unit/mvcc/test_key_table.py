"""The index's table of keys: a dict, in parts of which none is large."""

from __future__ import annotations

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
