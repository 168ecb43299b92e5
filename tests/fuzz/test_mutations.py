"""The harness can fail: each planted bug is found by some of a few seeds, which are sound without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import mutations
from tests.fuzz.harness import run
from tests.fuzz.surfaces import BY_NAME, SURFACES

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 2
"""As many seeds as `make test` plays, twice over: most are found by the first few."""


@pytest.mark.parametrize(("mutation", "surface"), mutations.ALL.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_a_planted_bug_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], surface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = {each.name: count for each, count in SURFACES}[surface]
    mutation(monkeypatch)
    assert any(run(BY_NAME[surface], seed).finding for seed in range(TIMES * seeds)), "no seed finds it"
