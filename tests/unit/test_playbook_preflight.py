"""What a host is asked before a playbook changes anything."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PREFLIGHT = Path(__file__).resolve().parents[2] / "ansible/roles/etcdpy/files/preflight.py"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Its question whether a unit runs, which finds these states one after the other."""
    asked: dict[str, Any] = runpy.run_path(str(PREFLIGHT))

    def ask(*states: str) -> bool:
        said = iter(states)
        monkeypatch.setattr(
            subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, next(said) + "\n", "")
        )
        found: bool = asked["runs"]("etcd.service")
        assert not list(said)
        return found

    return ask


def test_a_unit_that_stops_is_waited_for(runs: Callable[..., bool]) -> None:
    assert not runs("deactivating", "deactivating", "inactive")
    assert not runs("deactivating", "failed")
    assert runs("deactivating", "activating")
    assert runs("active")
    assert not runs("inactive")
