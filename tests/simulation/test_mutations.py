"""The judges can fail: each planted bug is found by some of a few seeds, which are sound without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation import mutations
from tests.simulation.__main__ import run
from tests.simulation.cluster import TICKS

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 60
"""Most bugs are found by the first or second; the rarest by about the fortieth."""


@pytest.mark.parametrize("mutation", mutations.ALL, ids=lambda each: each.__name__)
def test_a_planted_bug_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert any(run(str(seed), 3, TICKS) is not None for seed in range(SEEDS)), "no seed finds it"
