"""Does the server sync before it answers? Sequential puts against the syncs that the kernel was asked for.

With one put under way at a time, every acknowledged put needs a sync of its own; fewer syncs than puts means that
some were answered from memory. strace counts the calls; where it may not trace, the device's own counter of flushes
is read instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.sides import SERVER_FLAGS, BenchError
from tests.support.client import Client
from tests.support.members import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.members import Kind

PUTS: Final = 200
_SYNC_CALLS: Final = "fsync,fdatasync,msync,sync_file_range,sync,syncfs"


@dataclass(frozen=True, slots=True)
class SyncCheck:
    """How many syncs were asked for while that many puts were answered, one after the other."""

    side: str
    puts: int
    syncs: int
    counted_by: str

    @property
    def held(self) -> bool:
        """Whether no put can have been answered without a sync."""
        return self.syncs >= self.puts


def _put_and_count(member: Member, count: Callable[[], int]) -> int:
    with Client.of(member) as client:
        client.put(b"sync-check", b"warm")
        before = count()
        for number in range(PUTS):
            client.put(b"sync-check", b"%d" % number)
        return count() - before


def _device_flushes(directory: Path) -> Callable[[], int] | None:
    """A reader of the flush counter of the device below `directory` (field 16 of its stat), if there is one."""
    device = directory.stat().st_dev
    base = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for path in (base / "stat", base / ".." / "stat"):
        if path.exists() and len(path.read_text().split()) >= 16:
            return lambda: int(path.read_text().split()[15])
    return None


def check(side: str, kind: Kind, data_root: Path, flags: tuple[str, ...] = SERVER_FLAGS) -> SyncCheck:
    """Count the syncs of PUTS sequential puts on a fresh server. Raises BenchError where nothing can count them."""
    strace = shutil.which("strace")
    with tempfile.TemporaryDirectory(dir=data_root, prefix=f"bench-sync-{side}-") as name:
        directory = Path(name)
        trace = directory / "syncs.trace"
        if strace is not None:
            wrapper = (strace, "-f", "-qq", "-e", f"trace={_SYNC_CALLS}", "-e", "signal=none", "-o", str(trace))
            member = Member(kind, directory, flags=flags, wrapper=wrapper)
            try:
                member.start(ready_seconds_max=40)
            except AssertionError:
                member.kill()  # not allowed to trace here
            else:
                try:
                    return SyncCheck(side, PUTS, _put_and_count(member, lambda: _traced(trace)), "strace")
                finally:
                    _stop_traced(member)
        flushes = _device_flushes(directory)
        if flushes is None:
            raise BenchError("cannot count syncs: strace is missing or may not trace, and the device has no counter")
        with Member(kind, directory, flags=flags) as plain:
            return SyncCheck(side, PUTS, _put_and_count(plain, flushes), "device flushes")


def _traced(trace: Path) -> int:
    """Sync calls that have returned 0 so far. A call of two threads is written as `unfinished` and `resumed`."""
    time.sleep(0.05)  # strace writes a line when the call returns, a moment before or after the answer is sent
    return sum(1 for line in trace.read_text().splitlines() if line.rstrip().endswith("= 0"))


def _stop_traced(member: Member) -> None:
    """End the traced server, not strace alone, which would leave it running."""
    children = Path(f"/proc/{member.pid}/task/{member.pid}/children")
    for child in children.read_text().split():
        os.kill(int(child), 15)
    try:
        member.wait_ended()
    finally:
        member.kill()
