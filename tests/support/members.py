"""One member as a process, of either kind: real etcd or etcdpy. What runs on both starts them through here."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import urlsplit

from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["etcd", "etcd-3.6", "etcdpy"]
KINDS: Final[tuple[Kind, ...]] = ("etcd", "etcdpy")
"""What is held beside each other. The release before etcd's is there for clusters that are half upgraded."""

READY_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 15.0
BUILT_VARIABLE: Final = "ETCDPY_BUILT"
"""Names the directory of a build that members run in place of the sources (see tests/support/built.py)."""
_RUN_BUILT: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); import etcdpy.__main__ as m; sys.exit(m.main())"
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
_handed_out: set[int] = set()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a member with mutual TLS serves with and what its clients show."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers (lower-case names) and body of one HTTP/1.1 answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict), value
        return value


class NotReady(AssertionError):
    """The member did not come up in time, or ended; the text carries the end of its log."""


def free_port() -> int:
    """A port nobody listens on, and that this process was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _handed_out:
            _handed_out.add(port)
            return port


def command_of(kind: Kind) -> list[str]:
    """How a server of this kind is started."""
    if kind != "etcdpy":
        return [str(reference_binary(kind))]
    built = os.environ.get(BUILT_VARIABLE)
    if built:
        assert Path(built, "etcdpy").is_dir(), f"{BUILT_VARIABLE} names no build: {built}"  # else the sources would run
        return [sys.executable, "-P", "-c", _RUN_BUILT, built]
    return [sys.executable, "-m", "etcdpy"]


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


class Member:
    """A single-member cluster: its data directory, its ports, its process. Usable as a context manager."""

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        *,
        name: str = "m1",
        tls: TlsFiles | None = None,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        file_size_bytes_max: int | None = None,
    ) -> None:
        """`wrapper` is put before the command (`taskset -c 0`, `strace ...`); nothing is started yet."""
        self.kind: Kind = kind
        self.directory = directory
        self.data_dir = directory / f"{name}.etcd"
        self.log_path = directory / f"{name}.log"
        self.name = name
        self.tls = tls
        self.flags = list(flags)
        self.environment = dict(environment or {})
        self.wrapper = list(wrapper)
        self.file_size_bytes_max = file_size_bytes_max
        self.client_port = free_port()
        self.peer_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    # --- addresses ---

    @property
    def endpoint(self) -> str:
        """host:port of the client listener."""
        return f"127.0.0.1:{self.client_port}"

    @property
    def client_url(self) -> str:
        """The advertised client URL."""
        return f"{'https' if self.tls else 'http'}://{self.endpoint}"

    def command(self) -> list[str]:
        """The whole command line."""
        tls_flags: list[str] = []
        if self.tls:
            tls_flags = [
                f"--cert-file={self.tls.server_cert}",
                f"--key-file={self.tls.server_key}",
                f"--trusted-ca-file={self.tls.ca}",
                "--client-cert-auth",
            ]
        return [
            *self.wrapper,
            *command_of(self.kind),
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            *self.peer_flags(),
            *tls_flags,
            *self.flags,
        ]

    def peer_flags(self) -> list[str]:
        """Where it listens for other members, and who they are: here there are none."""
        peer_url = f"http://127.0.0.1:{self.peer_port}"
        return [
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster={self.name}={peer_url}",
        ]

    # --- life ---

    def launch(self) -> Self:
        """Start the process and return at once; its output is appended to the log file."""
        assert self.process is None or self.process.poll() is not None, "already running"
        environment = {**os.environ, **self.environment}
        limit = self.file_size_bytes_max

        def limit_file_size() -> None:  # runs in the child between fork and exec
            assert limit is not None
            # Python ignores SIGXFSZ, and an ignored signal stays ignored across exec: writes fail with EFBIG.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                preexec_fn=None if limit is None else limit_file_size,
            )
        return self

    def start(self, *, ready_seconds_max: float = READY_SECONDS_MAX) -> Self:
        """Start and wait until it serves."""
        self.launch()
        self.wait_ready(ready_seconds_max)
        return self

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> float:
        """Wait until /health says true; returns the seconds that took. Raises NotReady."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < seconds_max:
            if self.process is not None and (status := self.process.poll()) is not None:
                raise NotReady(f"{self.kind} ended with {status} before it was ready:\n{self.log_tail()}")
            try:
                if self.http("GET", "/health", seconds_max=1.0).json().get("health") == "true":
                    return waited
            except (OSError, http.client.HTTPException, ValueError):
                pass  # not listening yet, or not serving HTTP yet: that is what we wait for
            time.sleep(0.01)
        raise NotReady(f"{self.kind} not ready after {seconds_max:.0f} s:\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        """Of the started process (of the wrapper, where there is one)."""
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self.process is not None, "not started"
        self.process.terminate()

    def wait_ended(self, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """Wait for the end; returns the exit status (negative: the signal that ended it)."""
        assert self.process is not None, "not started"
        return self.process.wait(seconds_max)

    def stop(self) -> int:
        """SIGTERM and wait; SIGKILL where that does not help. Returns the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(STOP_SECONDS_MAX)
            self.kill()
        return self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # --- what it shows ---

    def http(
        self, method: str, path: str, *, body: bytes | None = None, seconds_max: float = 10.0, port: int | None = None
    ) -> HttpAnswer:
        """One HTTP/1.1 request to the client port (or another `port`) of this member."""
        connection: http.client.HTTPConnection
        host = urlsplit(self.client_url).hostname or "127.0.0.1"
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.tls.ca))
            context.load_cert_chain(self.tls.client_cert, self.tls.client_key)
            connection = http.client.HTTPSConnection(
                host, port or self.client_port, timeout=seconds_max, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port or self.client_port, timeout=seconds_max)
        with contextlib.closing(connection):
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return HttpAnswer(answer.status, headers, answer.read())

    def metric(self, name: str, *, default: float | None = None) -> float:
        """The value of one sample of /metrics, by its name with labels as printed."""
        for line in self.http("GET", "/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == name:
                return float(value)
        if default is not None:
            return default
        raise AssertionError(f"/metrics has no {name}")

    def histogram(self, name: str) -> dict[float, float]:
        """A histogram of /metrics: upper bound to the number of samples up to it."""
        text = self.http("GET", "/metrics").body.decode()
        found = re.findall(rf'{name}_bucket\{{le="([^"]+)"\}} (\S+)', text)
        assert found, f"/metrics has no {name}"
        return {float(bound): float(count) for bound, count in found}

    def log_text(self) -> str:
        """Everything it has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines_max: int = 25) -> str:
        """The end of the log, for a failure's text."""
        return "\n".join(line[:500] for line in self.log_text().splitlines()[-lines_max:])

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status_bytes("VmRSS")

    def rss_peak_bytes(self) -> int:
        """The largest resident memory so far."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} for process {self.pid}")

    def cpu_seconds(self) -> float:
        """User and system time used so far, of all its threads."""
        return cpu_seconds(self.pid)
