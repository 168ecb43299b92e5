"""`make test` keeps the process tests on one worker. Shown by a run: a scheduler that nobody asks says nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.tidy.sources import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEST = """\
import os, pathlib, time
def note(name):
    time.sleep(0.05)
    with open({log!r}, "a") as log:
        print(os.environ["PYTEST_XDIST_WORKER"], os.getpriority(os.PRIO_PROCESS, 0), name, file=log)
def test_a(): note({name!r})
def test_b(): note({name!r})
"""


def test_process_tests_share_a_worker_and_quiet_ones_give_way(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("interop/test_x", "processes/test_y", "unit/test_z", "unit/test_w", "property/test_v"):
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEST.format(log=str(log), name=name))
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    options = re.findall(r"^PYTEST := .* -m pytest (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ran = [line.split() for line in log.read_text().splitlines()]
    assert len(ran) == 10
    by_room = {room: {worker for worker, _, name in ran if name.startswith(room)} for room in ("interop", "processes")}
    assert by_room["interop"] == by_room["processes"]
    assert len(by_room["interop"]) == 1
    assert all(len({worker for worker, _, name in ran if name == wanted}) == 1 for _, _, wanted in ran)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    quiet = {int(nice) for _, nice, name in ran if name.startswith(("unit", "property"))}
    assert quiet == {max(10, before)}
    assert {int(nice) for _, nice, name in ran if name.startswith(("interop", "processes"))} == {before}
