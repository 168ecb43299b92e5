"""The judges can fail: each planted bug is found by some of a few seeds, which are sound without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation import mutations, rights_mutations
from tests.simulation.__main__ import Case, run

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 60
"""Most bugs are found by the first or second; the rarest by about the fortieth."""


@pytest.mark.parametrize("mutation", mutations.ALL, ids=lambda each: each.__name__)
def test_a_planted_bug_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert any(run(Case(str(seed))) is not None for seed in range(SEEDS)), "no seed finds it"


@pytest.mark.parametrize("mutation", rights_mutations.ALL, ids=lambda each: each.__name__)
def test_a_bug_of_rights_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert any(run(Case(str(seed), users=True)) is not None for seed in range(SEEDS)), "no seed finds it"
