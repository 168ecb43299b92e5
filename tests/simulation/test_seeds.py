"""Whole clusters under fixed seeds; a failure names the command that shows it again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.__main__ import Case, run
from tests.simulation.cluster import Cluster

HERE = Path(__file__).parent
SEEDS = 500
SEEDS_OF_FIVE = 60
SEEDS_OF_USERS = 60
SEEDS_A_TEST = 20
CASES = [
    *(Case(str(seed)) for seed in range(SEEDS)),
    *(Case(f"five-{seed}", 5) for seed in range(SEEDS_OF_FIVE)),
    *(Case(str(seed), users=True) for seed in range(SEEDS_OF_USERS)),
]


def remembered() -> list[Case]:
    lines = (HERE / "seeds.txt").read_text().splitlines()
    cases = [line.split(maxsplit=4) for line in lines if line and not line.startswith("#")]
    return [Case(seed, int(members), int(ticks), users == "users") for seed, members, ticks, users, _ in cases]


@pytest.mark.parametrize("first", range(0, len(CASES), SEEDS_A_TEST))
def test_fixed_seeds(first: int) -> None:
    for case in CASES[first : first + SEEDS_A_TEST]:
        finding = run(case)
        assert finding is None, f"{case}\n{finding}"


def test_seeds_that_found_something() -> None:
    for case in remembered():
        finding = run(case)
        assert finding is None, f"{case}\n{finding}"


def test_a_seed_is_always_the_same_run() -> None:
    digests = set()
    for _ in range(2):
        cluster = Cluster("again")
        cluster.run()
        digests.add(cluster.digest)
    assert len(digests) == 1


def test_the_hash_seed_changes_nothing() -> None:
    """Sets and dicts of bytes have another order under another PYTHONHASHSEED; nothing may depend on it."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "again", "--trace"]
    outputs = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=HERE.parents[1])
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_seeds_reach_what_they_are_for() -> None:
    """Elections, crashes, unknown outcomes and watchers that move: a simulation without them shows nothing."""
    terms = starts = unknown = answers = 0
    for seed in range(10):
        cluster = Cluster(str(seed))
        cluster.run()
        terms += len(cluster.checks.leaders)
        starts += cluster.starts - 3
        asked = [each for client in cluster.clients for each in client.asked]
        unknown += sum(each.call.returned is None for each in asked)
        answers += len(asked)
    assert min(terms, starts, unknown) > 20
    assert answers > 500


def test_seeds_with_users_reach_what_they_are_for() -> None:
    """Answers and refusals of every kind, tokens that ended, watchers that were cut off, users switched on and off."""
    told: Counter[str] = Counter()
    cancelled = ended = 0
    for seed in range(20):
        cluster = Cluster(str(seed), users=True)
        cluster.run()
        log = cluster.rights
        assert log is not None
        told.update(type(each.error).__name__ for each in log.told)
        ended += len(log.ends)
        cancelled += sum(each.cancelled for each in cluster.user_watchers)
    assert told["NoneType"] > 1000
    assert min(told["PermissionDenied"], told["InvalidAuthToken"], told["UserEmpty"]) > 40
    assert min(told["AuthOldRevision"], cancelled, ended) > 20
