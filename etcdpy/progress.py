"""How far long work is, for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TypeVar

from etcdpy.texttable import human_bytes

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

_LINE_SECONDS: Final = 2.0
"""Between two lines where there is no terminal."""
_REFRESH_SECONDS: Final = 0.1


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
        sys.stderr.write(f"{self._what}: {human_bytes(done_bytes)} of {human_bytes(self._total)}\n")
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
