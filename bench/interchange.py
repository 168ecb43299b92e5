"""What it costs to make a snapshot for another member, and to take one in, from and into LevelDB as a member has it.

    python -m bench.interchange [--records 200000] [--bytes 1024] [--vary]

Prints megabytes per CPU second, microseconds of CPU a record, and how long the slices are that hold up the loop.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from etcdpy.interchange.export import export_steps
from etcdpy.interchange.ingest import ingest_steps
from etcdpy.mvcc.record import first_record
from etcdpy.mvcc.revision import disk_key, pack
from tests.support.storage import flush, new_engine

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.storage.engine import Engine


def fill(engine: Engine, records: int, size: int, *, vary: bool) -> None:
    """That many records with values of `size` bytes, or of half to one and a half times that."""
    draw = Random(1)
    for revision in range(2, records + 2):
        value = draw.randbytes(draw.randrange(size // 2, size * 3 // 2) if vary else size)
        engine.state.put(disk_key(pack(revision)), first_record(b"key/%08d" % revision, revision, value, 0))
        if engine.should_write_early:
            flush(engine)
    flush(engine)


def measure(name: str, steps: Generator[int, None, Any], path: Path, records: int) -> Any:
    """Run the steps one by one, print what they took, return what they return."""
    slices = []
    cpu, before = time.process_time(), time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
        now = time.perf_counter()
        slices.append(now - before)
        before = now
    cpu = time.process_time() - cpu
    slices.sort()
    median, high = slices[len(slices) // 2] * 1000, slices[len(slices) * 99 // 100] * 1000
    size = path.stat().st_size / 1e6
    print(
        f"{name}: {size:.0f} MB, {size / cpu:.0f} MB per CPU second, {cpu / records * 1e6:.2f} us a record, "
        f"{len(slices)} slices of {median:.2f} ms, 99 of 100 below {high:.2f} ms"
    )
    return result


def filling(engine: Engine, path: Path) -> Generator[int, None, None]:
    """Take a file into a new state, batches written between the slices."""
    new_state = engine.new_state()
    steps = ingest_steps(path, new_state.put_many)
    while True:
        try:
            yield next(steps)
        except StopIteration as stop:
            content = stop.value
            break
        if new_state.should_flush:
            new_state.flush()()
            yield 0
    new_state.finish(content.index, content.term, content.conf_state)()
    new_state.discard()


def main() -> None:
    """Fill a store, send it, take it in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--vary", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        engine = new_engine(Path(directory) / "data")
        fill(engine, options.records, options.bytes, vary=options.vary)
        path = Path(directory) / "snapshot"
        view = engine.frozen_view()
        with path.open("wb") as file:
            measure("export", export_steps(view, file), path, options.records)
        view.close()
        measure("ingest", filling(engine, path), path, options.records)
        engine.close()


if __name__ == "__main__":
    main()
