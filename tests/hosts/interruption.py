"""Every playbook, ended before each of its tasks in turn and run again: `make interrupt`.

python -m tests.hosts.interruption [PLAYBOOK ...] [--seconds N] [--from PLACE] [--step N] [--cut [--seed N]]

Each run begins anew, does what the one before it has left to do, and is ended one place further on; the last one
finishes. Where a second run has nothing to do, what the playbook did is undone in between. With --cut the processes of
a run are killed in the middle of a task, as when the control machine loses its power; what goes on then on the hosts
meets the next run. HOSTLAB takes hosts that are up already (__main__.py).
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts.conftest import booted
from tests.hosts.interrupted_playbooks import CASES, Case, make_whole
from tests.hosts.lab import Lab, LabError
from tests.hosts.site import ADDRESSES, Place, Site, make_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 3600
INTO_TASK_SECONDS_MAX = 1.5
FAULTS = (LabError, AssertionError, subprocess.TimeoutExpired)
FAULT_CHARACTERS_MAX = 6000
BEYOND_ALL = 1_000_000


class Walk:
    """One playbook, from a place on, until its end or that of the time."""

    def __init__(self, case: Case, step: int, ends: float, draw: random.Random | None) -> None:
        self.case = case
        self._step = step
        self.failed: list[str] = []
        self._ends = ends
        self._draw = draw
        self._before = ""
        """Where the run before this one was ended; empty where there was none since the case began."""

    def go(self, place: int) -> int | None:
        """Where to go on another time; None when each place has had its turn."""
        self.case.begin()
        while self._before or time.monotonic() < self._ends:
            begun, before, late = time.monotonic(), self._before, time.monotonic() >= self._ends
            try:
                ended = self._run(BEYOND_ALL if late else place)
            except FAULTS as fault:
                self.tell(fault)
                make_whole(self.case.site)
                ended, said = None, "failed"
            else:
                said = "finished" if ended is None else f"ended before {ended.number} ({ended.task})"
            print(f"{self.case.name}: {said}, {time.monotonic() - begun:.0f} s", flush=True)
            self._before = "" if ended is None else f"{ended.number} ({ended.task})"
            if ended is not None:
                place = ended.number + self._step
            elif not before:
                return None
            elif not late:
                self.case.begin()
        return place

    def _run(self, place: int) -> Place | None:
        case = self.case
        seconds = None if self._draw is None else self._draw.uniform(0, INTO_TASK_SECONDS_MAX)
        ended = case.site.interrupted(case.playbook, place, *case.options, cut_after=seconds, **case.variables)
        if ended is None:
            case.check()
        return ended

    def tell(self, fault: BaseException) -> None:
        self.failed.append(f"{self.case.name}: after an end before {self._before or 'nothing'}")
        print(f"FAILED {self.failed[-1]}\n{str(fault)[-FAULT_CHARACTERS_MAX:]}", flush=True)


def a_site(until_end: ExitStack) -> Site:
    """A cluster, with controller-3 beside it."""
    kept = os.environ.get("HOSTLAB")
    if kept:
        return Site(Lab(f"{kept}/l", ADDRESSES, {}), Path(kept) / "wheels", Path(kept) / "site")
    place = Path(until_end.enter_context(tempfile.TemporaryDirectory()))
    wheels = make_wheels(place / "wheels")
    return Site(until_end.enter_context(booted(ADDRESSES, wheels)), wheels, place / "site")


def walks(given: argparse.Namespace, site: Site, place: Path) -> Iterator[str]:
    """Go through the playbooks; yields what failed."""
    ends = time.monotonic() + given.seconds
    draw = random.Random(given.seed) if given.cut else None
    chosen = [kind for kind in CASES if not given.playbooks or kind.name in given.playbooks]
    make_whole(site)
    for kind in chosen:
        if time.monotonic() >= ends:
            print(f"{kind.name}: no time was left")
            continue
        case = kind(site, place / kind.name)
        walk = Walk(case, given.step, ends, draw)
        left = None
        try:
            left = walk.go(given.place)
            case.end()
        except FAULTS as fault:
            walk.tell(fault)
            make_whole(site)
        yield from walk.failed
        print(f"{kind.name}: {'each place had its turn' if left is None else f'go on with --from {left}'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.interruption")
    names = [kind.name for kind in CASES]
    parser.add_argument("playbooks", nargs="*", metavar="PLAYBOOK", help=f"{' '.join(names)}; default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="begin with no place after so long")
    parser.add_argument("--from", dest="place", type=int, default=1, help="begin with this place")
    parser.add_argument(
        "--step", type=int, default=1, help="go on by so many tasks; what only looks is passed over anyway"
    )
    parser.add_argument("--cut", action="store_true", help="kill the run in the middle of a task")
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)), help="of the moments of --cut")
    given = parser.parse_args()
    if unknown := set(given.playbooks) - set(names):
        parser.error(f"no such playbook: {' '.join(sorted(unknown))}")
    if given.cut:
        print("seed", given.seed)
    with ExitStack() as until_end:
        site = a_site(until_end)
        place = until_end.enter_context(tempfile.TemporaryDirectory())
        failed = list(walks(given, site, Path(place)))
    print(f"{len(failed)} failed", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
