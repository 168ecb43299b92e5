"""Makes a member's data directory from etcd's files: whole, or not at all.

Everything is made in a directory inside of the one that is asked for, so that a mount point will do, and gets its name
by one rename at the end. Whatever fails before leaves nothing that a member would start on.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from etcdpy.commandline import Exit, Failure
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.interchange.ingest import ingest_open_file_steps
from etcdpy.membership.members import Membership
from etcdpy.membership.versions import LowerThanCluster
from etcdpy.progress import Progress
from etcdpy.storage.engine import Engine
from etcdpy.storage.leveldb import sync_directory
from etcdpy.utl.work import install

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from etcdpy.backend import Backend
    from etcdpy.interchange.ingest import SnapshotContent
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import HardState
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.storage.new_state import NewState

_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size
_SECTOR_BYTES: Final = 512
"""A backend file has a multiple of it, so what goes beyond by a checksum has one."""
_PIECE_BYTES: Final = 4 << 20
_WRITES_WAITING_MAX: Final = 2
"""Of a state that is filled; each has some megabytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member's data goes. `wal_dir` takes the raft log, as etcd's flag does."""

    data_dir: Path
    wal_dir: Path | None = None

    def check_free(self) -> None:
        """Raise Failure, with etcdutl's texts, where something is already."""
        try:
            taken = self.data_dir.exists() and any(self.data_dir.iterdir())
        except OSError:
            taken = True
        if taken:
            raise Failure(Exit.ERROR, f'data-dir "{self.data_dir}" not empty or could not be read')
        if self.wal_dir is not None and self.wal_dir.exists():
            raise Failure(Exit.ERROR, f'wal-dir "{self.wal_dir}" exists')

    @contextmanager
    def made_whole(self) -> Iterator[Place]:
        """Where to make it. It is moved here when the context ends well, and removed when it does not."""
        name = f".making-{os.urandom(4).hex()}"
        own = [path for path in (self.data_dir, self.wal_dir) if path is not None and not path.exists()]
        making = Place(self.data_dir / name, self.wal_dir / name if self.wal_dir is not None else None)
        try:
            making.data_dir.mkdir(mode=0o700, parents=True)
            if self.data_dir in own:
                os.chmod(self.data_dir, 0o700)
            yield making
            if self.wal_dir is not None and making.wal_dir is not None:
                _move_content(making.wal_dir, self.wal_dir)
            _move_content(making.data_dir, self.data_dir)
        except BaseException:
            for path in own:
                shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            for made in (making.data_dir, making.wal_dir):
                if made is not None:
                    shutil.rmtree(made, ignore_errors=True)


def _move_content(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        path.rename(target / path.name)
    sync_directory(target)


# --- the file ---


@contextmanager
def checksum_compared(path: Path) -> Iterator[Callable[[], None]]:
    """Compare the SHA-256 at the end of a saved file with its content, on a thread of its own.

    Yields what waits for the end of that. Raises Failure with etcdutl's texts, OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size % _SECTOR_BYTES != _CHECKSUM_BYTES:
            raise Failure(Exit.ERROR, "snapshot missing hash but --skip-hash-check=false")
        with ThreadPoolExecutor(1) as pool:
            comparing = pool.submit(_compare, file, size - _CHECKSUM_BYTES)
            yield comparing.result


def _compare(file: BinaryIO, size: int) -> None:
    digest = hashlib.sha256()
    # Mapped, as the reader has it too, so that nothing is copied for this.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
        for start in range(0, size, _PIECE_BYTES):
            digest.update(content[start : min(start + _PIECE_BYTES, size)])  # lets the interpreter go
            mapped.madvise(mmap.MADV_DONTNEED, start, _PIECE_BYTES)  # so that it does not count as ours
        expected = bytes(content[size:])
    found = digest.digest()
    if found != expected:
        shown = " ".join(map(str, expected)), " ".join(map(str, found))
        raise Failure(Exit.ERROR, f"expected sha256 [{shown[0]}], got [{shown[1]}]")


# --- the state ---


class Filling:
    """A new state that takes in a backend file; a thread writes what has gathered while more is read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.state: NewState = engine.new_state()

    @property
    def backend(self) -> Backend:
        """To put what the file does not hold."""
        return cast("Backend", self.state)

    def take_in(self, path: Path, *, without: Container[bytes] = ()) -> SnapshotContent:
        """All of the file but the buckets `without`. Raises DamagedFileError, StorageError, OSError."""
        with BoltFile(path) as file, ThreadPoolExecutor(1) as pool:
            steps = ingest_open_file_steps(file, self.state.put_many, without=without)
            total = file.meta.pages * file.meta.page_bytes
            return Progress("restoring", total).run(self._flushed(steps, pool))

    def _flushed(
        self, steps: Generator[int, None, SnapshotContent], pool: ThreadPoolExecutor
    ) -> Generator[int, None, SnapshotContent]:
        writing: deque[Future[None]] = deque()
        while True:
            try:
                yield next(steps)
            except StopIteration as stop:
                content: SnapshotContent = stop.value
                break
            if self.state.should_flush:
                writing.append(pool.submit(self.state.flush()))
                if len(writing) > _WRITES_WAITING_MAX:
                    writing.popleft().result()
        for each in writing:
            each.result()
        self.state.flush()()
        return content


def make_member(
    place: Place,
    fill: Callable[[Filling], tuple[SnapshotContent, HardState]],
    entries: Iterable[list[Entry]] = (),
    masters: MasterKeys | None = None,
) -> None:
    """A data directory whose state `fill` puts in, and whose log goes on from there with `entries`, by batches; with
    `masters` encrypted from its first byte.

    Opened once more at the end: what a start looks at has been looked at. Raises Failure, StorageError, OSError.
    """
    with place.made_whole() as making:
        engine = Engine.open(making.data_dir, wal_dir=making.wal_dir, masters=masters)
        try:
            filling = Filling(engine)
            content, hard_state = fill(filling)
            filling.state.finish(content.index, content.term, content.conf_state)()
            try:
                Membership(filling.state.backend).restore()
            except LowerThanCluster as error:
                raise Failure(Exit.ERROR, str(error)) from None
            install(engine, filling.state, hard_state)
            for batch in entries:
                engine.write_now(hard_state, batch)
        finally:
            engine.close()
        Engine.open(making.data_dir, wal_dir=making.wal_dir, masters=masters).close()
