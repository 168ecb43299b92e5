"""Run whole clusters under a seed.

python -m tests.simulation --seed N [--members 3|5] [--ticks N] [--users] [--trace]
                                             one run, step by step if wanted; with clients who have users and rights
python -m tests.simulation --soak SECONDS    random seeds for that long
"""

from __future__ import annotations

import argparse
import logging
import platform
import random
import subprocess
import sys
import time
from typing import NamedTuple

from tests.simulation.cluster import TICKS, Cluster
from tests.simulation.violation import Violation

PROGRESS_SECONDS = 30.0
SOAK_MEMBERS = (3, 3, 3, 5)
SOAK_TICKS = (TICKS, TICKS, 4 * TICKS)
SOAK_USERS = (False, False, True)


class Case(NamedTuple):
    """One run."""

    seed: str
    members: int = 3
    ticks: int = TICKS
    users: bool = False

    def __str__(self) -> str:
        """How to see that run again."""
        users = " --users" if self.users else ""
        return f"python -m tests.simulation --seed {self.seed} --members {self.members} --ticks {self.ticks}{users}"


def run(case: Case, *, trace: bool = False) -> str | None:
    """What a run found wrong; None when it is sound."""
    cluster = Cluster(
        case.seed, members=case.members, ticks=case.ticks, users=case.users, trace=print if trace else None
    )
    try:
        cluster.run()
    except Violation as violation:
        return f"{violation}"
    if trace:
        print(f"digest {cluster.digest}")
    return None


def soak(seconds: float) -> int:
    """Random seeds; the number of those that fail."""
    draw = random.SystemRandom()
    begin = said = time.monotonic()
    count = 0
    failed: list[str] = []
    while time.monotonic() - begin < seconds:
        chosen = Case(
            str(draw.getrandbits(40)), draw.choice(SOAK_MEMBERS), draw.choice(SOAK_TICKS), draw.choice(SOAK_USERS)
        )
        finding = run(chosen)
        count += 1
        if finding is not None:
            failed.append(str(chosen))
            print(f"FAILED {failed[-1]}\n  {finding}", flush=True)
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"{said - begin:.0f} s: {count} seeds, {len(failed)} failed", flush=True)
    print(f"{count} seeds, {len(failed)} failed", *failed, sep="\n  ")
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--ticks", type=int, default=TICKS)
    parser.add_argument("--users", action="store_true")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    options = parser.parse_args()
    logging.getLogger("etcdpy").addHandler(logging.NullHandler())  # what members log about their faults is no news
    if options.soak is not None:
        return 1 if soak(options.soak) else 0
    if options.seed is None:
        parser.error("say which --seed, or how long to --soak")
    case = Case(options.seed, options.members, options.ticks, options.users)
    finding = run(case, trace=options.trace)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print(f"seed {options.seed} at {commit.strip() or 'no commit'}, Python {platform.python_version()}: ", end="")
    print(finding or "sound")
    return 1 if finding else 0


if __name__ == "__main__":
    sys.exit(main())
