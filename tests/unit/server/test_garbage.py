"""The collector never walks what is large, and is done with what is young before there is much of it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from etcdpy.mvcc.index import KeyIndex
from etcdpy.server import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def generation_of(wanted: object) -> int | None:
    """None for what is kept for good, or never looked at."""
    return next((number for number in range(3) if any(each is wanted for each in gc.get_objects(number))), None)


def test_the_index_does_not_become_young_with_its_first_history() -> None:
    index = KeyIndex()
    for number in range(100):
        index.put(b"%d" % number, (number + 2) << 32)
    (part,) = (part for part in index.entries.parts if b"7" in part)
    assert gc.is_tracked(part), "a dict that is not would be a young object again after the next put"
    garbage.keep_for_good()
    index.put(b"7", 200 << 32)
    assert generation_of(part) is None
    assert gc.is_tracked(part)


def test_what_is_made_to_stay_is_never_looked_at() -> None:
    made: list[list[object]] = []

    def in_vain() -> None:
        with garbage.kept_for_good():
            made.extend([object()] for _ in range(10))
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        in_vain()
    assert gc.isenabled()
    assert {generation_of(each) for each in made} == {None}


def test_what_is_young_is_looked_at_once_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    garbage.set_rhythm()
    assert gc.get_threshold()[2] > 1_000_000, "the old generation is never walked by itself"
    monkeypatch.setattr(garbage, "_INTERVAL_SECONDS", 0)
    new: list[object] = [object()]

    async def run() -> None:
        duty = asyncio.create_task(garbage.collect_often())
        for _ in range(3):
            await asyncio.sleep(0)
        duty.cancel()

    assert generation_of(new) == 0
    asyncio.run(run())
    assert generation_of(new) == 2
