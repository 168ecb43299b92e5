"""kill -9 of the engine alone, over and over on one directory: whatever it said was durable is there afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tests.support.storage import check_prefix, new_engine

ROOT = Path(__file__).parents[2]
CYCLES = 30


def kill_cycles(data: Path, *options: str) -> tuple[int, int]:
    """Kill a writer again and again. Returns the last entry that it called durable and in how many cycles it wrote."""
    draw = random.Random(1)
    acknowledged = 0
    restarts_with_work = 0
    for cycle in range(CYCLES):
        command = [sys.executable, "-m", "tests.support.storage_victim", str(data), str(cycle), *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            opened = victim.stdout.readline().split()
            assert opened[0] == "open"
            assert int(opened[2]) >= acknowledged, "an acknowledged entry is gone"
            time.sleep(draw.uniform(0.0, 0.03))
            victim.kill()
            said = victim.stdout.read().split()
        if said:
            acknowledged = int(said[-1])
            restarts_with_work += 1
    return acknowledged, restarts_with_work


def test_acknowledged_entries_survive(tmp_path: Path) -> None:
    acknowledged, restarts_with_work = kill_cycles(tmp_path / "data")
    assert restarts_with_work > CYCLES // 2, "most cycles must have killed it while it wrote"
    engine = new_engine(tmp_path / "data")
    applied, last = check_prefix(engine)
    assert last >= acknowledged > CYCLES
    assert engine.log.first_index() > 1, "the cycles went through truncations"
    assert applied <= last
    engine.close()


def test_installed_states_survive(tmp_path: Path) -> None:
    """The victim checks at each start that all of the old state or all of the new one is there."""
    acknowledged, restarts_with_work = kill_cycles(tmp_path / "data", "install")
    assert restarts_with_work > CYCLES // 3
    engine = new_engine(tmp_path / "data")
    applied, last = check_prefix(engine)
    assert applied <= last
    assert last >= acknowledged > 10 * CYCLES
    assert engine.log.first_index() > 1
    engine.close()
    found = {file.name for file in (tmp_path / "data" / "member").iterdir()}
    assert found == {"FORMAT", "LOCK", "log", "state"}, "the disk space of what was cut short is free again"
