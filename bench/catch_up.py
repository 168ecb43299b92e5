"""How long the loops of two members are held while one sends the other its whole state, and a client writes.

    python -m bench.catch_up [--megabytes 1000] [--data-root .bench]

Three members; one stands still while the others are filled with more than their logs keep, and then gets all of it in a
snapshot. What counts is the loop's own share of its delays: the members and the client have two cores between them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.load import LoadError
from bench.saving import store
from tests.support.cluster import Cluster
from tests.support.traffic import Writer

if TYPE_CHECKING:
    from tests.support.cluster import ClusterMember

FLAGS: Final = ("--snapshot-count=100", "--snapshot-catchup-entries=20", "--quota-backend-bytes=8589934592")
CAUGHT_UP_SECONDS_MAX: Final = 150.0
APPLIED: Final = "applied snapshot"
OWN_LAG: Final = "etcdpy_loop_lag_own_seconds"


@dataclass(frozen=True, slots=True)
class Held:
    """What a loop's own work did to it."""

    wakes: int
    late_10ms: int
    """Times that it came 10 ms late or later by its own work."""
    worst_seconds: float
    """The bound below which all of its delays are."""

    def __str__(self) -> str:
        return f"10 ms late {self.late_10ms} times of {self.wakes}, never {self.worst_seconds * 1000:.0f} ms"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What happened until the member had everything."""

    seconds: float
    leader: Held
    follower: Held
    writes: int
    failed_writes: int


def _held(before: dict[float, float], after: dict[float, float]) -> Held:
    gained = {bound: after[bound] - before[bound] for bound in after}
    wakes = max(gained.values())
    worst = min(bound for bound, count in gained.items() if count == wakes)
    return Held(int(wakes), int(wakes - gained[0.01]), worst)


def _wait_caught_up(cluster: Cluster, follower: ClusterMember, revision: int) -> float:
    begun = time.monotonic()
    while cluster.client(follower).range(b"\0", serializable=True).header.revision < revision:
        if time.monotonic() - begun > CAUGHT_UP_SECONDS_MAX:
            raise LoadError(f"{follower.name} has not caught up:\n{follower.log_tail()}")
        time.sleep(0.05)
    return time.monotonic() - begun


def run(megabytes: int, directory: Path) -> CatchUp:
    """Fresh members, ended afterwards. Raises LoadError where it was not the state that was sent."""
    with Cluster(["etcdpy"] * 3, directory, flags=FLAGS) as cluster:
        leader = cluster.leader()
        follower = cluster.others(leader)[0]
        follower.pause()
        store(cluster.client(leader), megabytes)
        revision = cluster.client(leader).revision()
        with Writer(cluster, b"meanwhile/") as writer:
            writer.wait(10)
            follower.resume()
            before = [member.histogram(OWN_LAG) for member in (leader, follower)]
            seconds = _wait_caught_up(cluster, follower, revision)
            after = [member.histogram(OWN_LAG) for member in (leader, follower)]
        cluster.assert_equal()
        if APPLIED not in follower.log_text():
            raise LoadError("it caught up by the log")
        leading, following = (_held(*each) for each in zip(before, after, strict=True))
        return CatchUp(seconds, leading, following, len(writer.acknowledged), len(writer.failures))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.catch_up", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--data-root", type=Path, default=Path.cwd() / ".bench", help="on the disk to measure")
    options = parser.parse_args()
    options.data_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.data_root, prefix="bench-catch-up-") as name:
        found = run(options.megabytes, Path(name))
    writes = f"{found.writes} writes meanwhile, {found.failed_writes} failed"
    print(f"{options.megabytes} MB in {found.seconds:.1f} s, {writes}")
    print(f"leader: {found.leader}")
    print(f"follower: {found.follower}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
