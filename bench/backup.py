"""Saving and restoring the whole state, etcdpy beside real etcd, by the tools that operators use.

    python -m bench.backup [--megabytes 1000] [--data-root .bench]

For each side: a member is filled with values of 1 KB; `etcdctl snapshot save` on the idle member; puts by 1,000 clients
alone, then while saves follow one another; each one's `snapshot restore`, and its start until it is healthy.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.saving import BATCH, VALUE_BYTES, restore, save, store
from bench.sides import SERVER_FLAGS
from bench.workloads import put_many_clients
from tests.support.client import Client
from tests.support.members import KINDS, Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.load import Load

PUTS: Final = 100_000
FILLERS: Final = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """What one side took; seconds, megabytes, puts a second."""

    megabytes: float
    save_seconds: float
    puts_alone: float
    puts_while_saving: float
    saves_meanwhile: int
    late_10ms: float
    """Of etcdpy: share of the loop's wake-ups that were 10 ms late or later while it did nothing but save; -1: etcd."""
    restore_seconds: float
    start_seconds: float


def fill(member: Member, megabytes: int) -> None:
    """Keys with values of 1 KB, by several clients."""
    keys = megabytes * 1_000_000 // VALUE_BYTES

    def write(number: int) -> None:
        with Client.of(member) as client:
            store(client, megabytes, range(number * BATCH, keys, FILLERS * BATCH))

    with ThreadPoolExecutor(FILLERS) as pool:
        list(pool.map(write, range(FILLERS)))


def put(member: Member) -> Load:
    """1,000 clients."""
    return put_many_clients(member, PUTS)


def saving(member: Member, path: Path, stop: threading.Event) -> Iterator[int]:
    """Save again and again; counts."""
    count = 0
    while not stop.is_set():
        save(member, path)
        count += 1
        yield count


def put_while_saving(member: Member, path: Path) -> tuple[Load, int]:
    """Puts, and how many saves ended meanwhile."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(lambda: list(saving(member, path, stop)))
        time.sleep(0.5)
        load = put(member)
        stop.set()
        return load, len(counting.result())


def lag(member: Member) -> tuple[float, float]:
    """Wake-ups of the loop, and those that came less than 10 ms late."""
    if member.kind == "etcd":
        return 0.0, 0.0
    counts = member.histogram("etcdpy_loop_lag_seconds")
    return counts[math.inf], counts[0.01]


def measure(kind: Kind, megabytes: int, directory: Path) -> Figures:
    """One side."""
    path = directory / "saved.db"
    with Member(kind, directory, flags=SERVER_FLAGS) as member:
        fill(member, megabytes)
        before = lag(member)
        seconds = min(save(member, path) for _ in range(2))
        after = lag(member)
        size = path.stat().st_size / 1e6
        kept = path.rename(directory / "kept.db")
        alone = put(member)
        meanwhile, saves = put_while_saving(member, path)
    path.unlink(missing_ok=True)
    wakes = after[0] - before[0]
    late = 1 - (after[1] - before[1]) / wakes if wakes else -1.0
    restored, started = restore(kind, kept, directory / "restore")
    return Figures(size, seconds, alone.rate, meanwhile.rate, saves, late, restored, started)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--data-root", type=Path, default=Path.cwd() / ".bench", help="on the disk to measure")
    parser.add_argument("--sides", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    arguments.data_root.mkdir(exist_ok=True)
    for kind in arguments.sides:
        with tempfile.TemporaryDirectory(dir=arguments.data_root, prefix=f"backup-{kind}-") as name:
            found = measure(kind, arguments.megabytes, Path(name))
        print(
            f"{kind}: {found.megabytes:.0f} MB; save {found.save_seconds:.2f} s; "
            f"puts {found.puts_alone:.0f}/s alone, {found.puts_while_saving:.0f}/s while saving "
            f"({found.puts_while_saving / found.puts_alone:.0%}, {found.saves_meanwhile} saves); "
            f"loop 10 ms late: {found.late_10ms:.2%}; "
            f"restore {found.restore_seconds:.2f} s, start {found.start_seconds:.2f} s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
