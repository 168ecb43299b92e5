"""`gateway` and `grpc-proxy` as processes, of either kind."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Literal, Self

from tests.support.members import READY_SECONDS_MAX, STOP_SECONDS_MAX, NotReady, command_of, cpu_seconds, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.members import Kind, TlsFiles

What = Literal["gateway", "grpc-proxy"]


class Proxy:
    """A proxy in front of `endpoints`. A context manager: started when it accepts connections."""

    def __init__(
        self, kind: Kind, what: What, directory: Path, endpoints: Sequence[str], flags: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.log_path = directory / f"{kind}-{what}-{self.port}.log"
        self.command = [
            *command_of(kind),
            what,
            "start",
            f"--endpoints={','.join(endpoints)}",
            f"--listen-addr={self.endpoint}",
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.log_path.parent
            )
        begun = time.monotonic()
        while time.monotonic() - begun < READY_SECONDS_MAX:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.02)
        self.__exit__()
        raise NotReady(self.log_text()[-2000:])

    def __exit__(self, *_exc_info: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    tls: TlsFiles | None = None

    @property
    def client_url(self) -> str:
        """For who loads it as if it were a member."""
        return f"http://{self.endpoint}"

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        assert self._process is not None
        return cpu_seconds(self._process.pid)

    def log_text(self) -> str:
        """Everything it has said."""
        return self.log_path.read_text(errors="replace")
