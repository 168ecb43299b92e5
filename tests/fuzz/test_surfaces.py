"""Hostile inputs under fixed seeds at every door; a failure names the command that shows it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.harness import Watch, again, run
from tests.fuzz.surfaces import BY_NAME, SURFACES

if TYPE_CHECKING:
    from tests.fuzz.harness import Surface

INPUTS_MIN = 20_000
played: dict[str, int] = {}


@pytest.mark.parametrize(("surface", "seeds"), SURFACES, ids=lambda each: getattr(each, "name", ""))
def test_fixed_seeds(surface: Surface, seeds: int) -> None:
    for seed in range(seeds):
        result = run(surface, seed)
        assert result.finding is None, f"{again(surface, seed)}\n{result.finding}"
        played[surface.name] = played.get(surface.name, 0) + result.inputs


def test_there_were_as_many_as_promised() -> None:
    if set(played) == set(BY_NAME):  # all ran on this worker
        assert sum(played.values()) >= INPUTS_MIN


def test_seeds_that_found_something() -> None:
    lines = (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    cases = [line.split(maxsplit=2) for line in lines if line and not line.startswith("#")]
    assert cases
    for name, seed, _ in cases:
        result = run(BY_NAME[name], int(seed))
        assert result.finding is None, f"{again(BY_NAME[name], int(seed))}\n{result.finding}"


def test_a_seed_is_always_the_same_inputs() -> None:
    from random import Random

    from tests.fuzz.damage import mutate

    for seed in range(50):
        assert mutate(Random(str(seed)), b"abc" * 20) == mutate(Random(str(seed)), b"abc" * 20)
    for surface in (BY_NAME["http2"], BY_NAME["peer-streams"], BY_NAME["discovery"]):
        turns = set()
        for _ in range(2):
            watch = Watch()
            surface.play(Random("again"), watch)
            turns.add((watch.inputs, len(watch.seconds)))
        assert len(turns) == 1
