"""The two tools as processes that go on: watchers, holders of locks, mirrors. They are told what to do by pipes."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from tests.support.transcripts import Tool

SECONDS_MAX: Final = 40.0


class RunningTool:
    """One process; a context manager that ends it."""

    def __init__(self, tool: Tool, endpoint: str, *words: str, **environment: str) -> None:
        command = [str(reference_binary("etcdctl"))] if tool == "etcdctl" else [sys.executable, "-m", "etcdpy.ctl"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
        self.process = subprocess.Popen(
            [*command, f"--endpoints={endpoint}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**clean, **environment},
        )
        self._seen = b""

    def type(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    def read_until(self, text: str) -> str:
        """What it has printed, as soon as that holds a whole line with `text` in it."""
        assert self.process.stdout is not None
        give_up = time.monotonic() + SECONDS_MAX
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._seen.partition(text.encode())[2]:
                assert selector.select(max(0.0, give_up - time.monotonic())), f"no {text!r} in {self._seen!r}"
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"it ended without {text!r}: {self._seen!r} {self.wait_ended()}"
                self._seen += data
        return self._seen.decode(errors="surrogateescape")

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def wait_ended(self) -> tuple[int, str, str]:
        """Exit status, all that it printed, and its complaints without the log lines of Go's client."""
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        self._seen += out
        kept = [line for line in err.decode().splitlines() if not line.startswith('{"level"')]
        return self.process.returncode, self._seen.decode(errors="surrogateescape"), "\n".join(kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
