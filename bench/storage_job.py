"""What a raft entry costs on its way to the disk and through the applied state: on the loop, and in all.

    python -m bench.storage_job [--directory DIR] [--seconds 1.0]

Each put is what a server does with one: an entry proposed, its job built, synced, committed, its record put into the
state. `loop` is time on the loop's thread without the waiting, `total` is wall time; both in microseconds an entry.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from etcdpy.raft.entry import Entry
from etcdpy.raft.node import Config, RawNode
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.engine import Engine

if TYPE_CHECKING:
    from etcdpy.raft.types import Ready
    from etcdpy.storage.job import DiskJob

VALUE = os.urandom(256)


class Driver:
    """The smallest server: one member's ready loop."""

    def __init__(self, directory: Path, *, inline: bool) -> None:
        self.engine = Engine.open(directory)
        self.engine.bootstrap(ConfState((1,)), HardState())
        self.engine.inline_write_seconds = 1.0 if inline else 0.0
        self.node = RawNode(Config(id=1, storage=self.engine.log, random=random.Random(1)))
        self.loop = asyncio.get_running_loop()
        self.busy_seconds = 0.0
        self.idle = asyncio.Event()
        self.ready: Ready | None = None
        self.applied = 0
        self.node.campaign()

    def pump(self) -> None:
        begin = time.perf_counter()
        node, engine = self.node, self.engine
        while node.has_ready():
            ready = node.ready()
            job = None
            if ready.entries or ready.must_sync:
                job = engine.take_job(ready.hard_state, ready.entries, must_sync=ready.must_sync)
            elif ready.hard_state is not None:
                engine.note_hard_state(ready.hard_state)
            self.ready = ready
            before = time.perf_counter()
            waiting = job is not None and not engine.submit(job, self.on_done, self.loop)
            if job is not None and not waiting:
                begin += time.perf_counter() - before  # the write itself is not work of the loop
            if ready.committed:
                put = engine.state.put
                for entry in ready.committed:
                    put(b"r" + entry.index.to_bytes(8, "big") + b"\0\0\0\0", entry.data)
                engine.set_applied(ready.committed[-1].index, ready.committed[-1].term)
                self.applied += len(ready.committed)
            if waiting:
                self.busy_seconds += time.perf_counter() - begin
                return
            node.advance(ready)
        self.busy_seconds += time.perf_counter() - begin
        self.idle.set()

    def on_done(self, job: DiskJob) -> None:
        assert job.error is None, job.error
        assert self.ready is not None
        self.node.advance(self.ready)
        self.pump()


async def measure(root: Path, size: int, seconds: float, *, inline: bool) -> None:
    directory = root / f"{size}-{inline}"
    driver = Driver(directory, inline=inline)
    driver.pump()
    await driver.idle.wait()
    driver.busy_seconds, driver.applied = 0.0, 0
    syncs = driver.engine.sync_durations
    before = (syncs.count, syncs.total)
    begin = time.perf_counter()
    cpu = time.process_time()
    while time.perf_counter() - begin < seconds:
        batch = [Entry(VALUE) for _ in range(size)]
        driver.idle.clear()
        driver.node.propose(batch)
        driver.pump()
        await driver.idle.wait()
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    count = driver.applied
    sync = (syncs.total - before[1]) / (syncs.count - before[0])
    figures = [driver.busy_seconds / count, wall / count, cpu / count, sync, wall * size / count]
    print(f"{size:6} {'loop' if inline else 'thread':7}" + "".join(f"{figure * 1e6:11.2f}" for figure in figures))
    driver.engine.close()
    shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--seconds", type=float, default=1.0, help="per line")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    with tempfile.TemporaryDirectory(dir=options.directory) as root:
        names = ("loop", "total", "cpu", "sync", "job")
        print("microseconds; the first three an entry")
        print(f"{'batch':>6} {'sync on':7}" + "".join(f"{name:>11}" for name in names))
        for size in (1, 10, 200, 500):
            for inline in (True, False):
                asyncio.run(measure(Path(root), size, options.seconds, inline=inline))


if __name__ == "__main__":
    main()
