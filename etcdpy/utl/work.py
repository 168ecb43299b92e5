"""What many commands do: look at their arguments, say what goes wrong with files, show how far they are."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from etcdpy.commandline import Exit, Failure, global_values
from etcdpy.duration import NS_PER_SECOND
from etcdpy.texttable import human_bytes
from etcdpy.utl.member_files import LOCK_TIMEOUT_NS_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from typing import TypeVar

    from etcdpy.raft.types import HardState
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.new_state import Installation, NewState

    T = TypeVar("T")

_LINE_SECONDS: Final = 2.0
"""Between two lines of progress where there is no terminal."""
_REFRESH_SECONDS: Final = 0.1


def install(engine: Engine, new_state: NewState, hard_state: HardState) -> None:
    """Make a finished state the engine's, and begin its log there. Raises StorageError."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Installation] = loop.create_future()
        engine.install(new_state, hard_state, ended.set_result, loop)
        error = (await ended).error
        if error is not None:
            raise error

    asyncio.run(run())


def timeout_seconds(ctx: click.Context) -> float:
    """--timeout."""
    timeout_ns: int = global_values(ctx).get("timeout", LOCK_TIMEOUT_NS_DEFAULT)
    return timeout_ns / NS_PER_SECOND


def one_argument(arguments: tuple[str, ...], command: str) -> str:
    """The only argument. Raises Failure as etcdutl does."""
    if len(arguments) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, f"{command} requires exactly one argument")
    return arguments[0]


def check_exists(path: Path) -> None:
    """Raise Failure as etcdutl does when there is no such file."""
    try:
        path.stat()
    except OSError as error:
        raise Failure(Exit.ERROR, f"stat {path}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def failures() -> Iterator[None]:
    """What goes wrong with files ends the command with the reason."""
    from etcdpy.interchange.bolt_format import DamagedFileError
    from etcdpy.interchange.wal import WalError
    from etcdpy.storage.errors import StorageError

    try:
        yield
    except OSError as error:
        named = f"open {error.filename}: " if error.filename else ""
        raise Failure(Exit.ERROR, f"{named}{(error.strerror or str(error)).lower()}") from None
    except (DamagedFileError, WalError, StorageError) as error:
        raise Failure(Exit.ERROR, str(error)) from None


class Progress:
    """How far long work is: a bar on a terminal, a line now and then elsewhere, nothing for what is quick."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what = what
        self._total = total_bytes
        self._next = time.monotonic() + _LINE_SECONDS
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task(what, total=total_bytes)
            self._bar.start()
            self._next = 0.0

    def show_of(self, done_bytes: int, total_bytes: int) -> None:
        """So much is done of what has turned out to be so much."""
        if self._bar is not None and total_bytes != self._total:
            self._bar.update(self._bar.task_ids[0], total=total_bytes)
        self._total = total_bytes
        self.show(done_bytes)

    def show(self, done_bytes: int) -> None:
        """So much is done."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done_bytes)
            self._next = now + _REFRESH_SECONDS
            return
        click.echo(f"{self._what}: {human_bytes(done_bytes)} of {human_bytes(self._total)}", err=True)
        self._next = now + _LINE_SECONDS

    def run(self, steps: Generator[int, None, T]) -> T:
        """What `steps`, which yields bytes done, returns."""
        try:
            while True:
                try:
                    self.show(next(steps))
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()
            self.end()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
