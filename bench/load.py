"""The two load generators: etcd's own `benchmark` tool and h2load; what they are asked and what they report."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.members import Member, TlsFiles

RUN_SECONDS_MAX: Final = 180
"""No single load run takes longer; the watchdog ends what does."""


class LoadError(Exception):
    """A load generator is missing, failed, or reported failed requests; the text says which."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one load run reported."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    data_bytes: int | None = None
    """Message bytes that came back, where the generator counts them."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


class Target(Protocol):
    """What the benchmark tool loads: a member, or all members of a cluster."""

    @property
    def client_url(self) -> str:
        """The URL, or several with commas between; the tool's connections go to them in turn."""
        ...

    @property
    def tls(self) -> TlsFiles | None:
        """What its clients show and trust."""
        ...


def benchmark_command(binary: Path, target: Target, arguments: Sequence[str], total: int) -> list[str]:
    """How etcd's benchmark tool is called."""
    command = [str(binary), f"--endpoints={target.client_url}", "--precise", *arguments, f"--total={total}"]
    if target.tls:
        command += [
            f"--cacert={target.tls.ca}",
            f"--cert={target.tls.client_cert}",
            f"--key={target.tls.client_key}",
        ]
    return command


def run_benchmark(binary: Path, target: Target, arguments: Sequence[str], total: int) -> Load:
    """etcd's benchmark tool against a target. Raises LoadError when a request failed."""
    command = benchmark_command(binary, target, arguments, total)
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    text = done.stdout
    if done.returncode != 0 or "Error distribution" in text:
        raise LoadError(f"{' '.join(command)} failed:\n{(text + done.stderr)[-2000:]}")

    def figure(pattern: str) -> float:
        found = re.search(pattern, text)
        if not found:
            raise LoadError(f"no {pattern!r} in the output of benchmark:\n{text[-2000:]}")
        return float(found[1])

    seconds = figure(r"Total:\s+([\d.e+-]+) secs")
    # Below 100 requests the tool prints no 99 %: the slowest stands for it.
    p99 = figure(r"99% in ([\d.e+-]+)") if "99% in" in text else figure(r"Slowest:\s+([\d.e+-]+)")
    return Load(total, seconds, figure(r"50% in ([\d.e+-]+)") * 1000, p99 * 1000)


# --- h2load ---


def grpc_body(message: bytes) -> bytes:
    """A message as one uncompressed gRPC frame, which is what h2load sends as the request's body."""
    return b"\0" + struct.pack(">I", len(message)) + message


def h2load_binary() -> str:
    """Where h2load is; raises LoadError with the way to install it."""
    found = shutil.which("h2load")
    if found is None:
        raise LoadError("h2load is not installed; on Debian: apt-get install nghttp2-client")
    return found


def run_h2load(
    member: Member, path: str, messages: Sequence[bytes], total: int, *, connections: int, streams: int
) -> Load:
    """h2load against one member: one process for each of `messages`, side by side, sharing the connections.

    h2load sends one body only, so spread keys need several processes. It takes any HTTP 200 for a success, also one
    that carries a gRPC error: the caller checks what was done by revisions, and by the bytes that came back.
    """
    binary = h2load_binary()
    share, own_connections = total // len(messages), max(1, connections // len(messages))
    # In memory, so that the log's writes do not stand in the queue of the disk that is measured.
    shared_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared_memory) as name:
        directory = Path(name)
        commands = []
        for index, message in enumerate(messages):
            body = directory / f"{index}.bin"
            body.write_bytes(grpc_body(message))
            commands.append(
                [
                    *(binary, "-t1", f"-c{own_connections}", f"-m{streams}", f"-n{share}"),
                    *("-H", "content-type: application/grpc", "-H", "te: trailers"),
                    *("-d", str(body), f"--log-file={directory / f'{index}.log'}"),
                    f"{member.client_url}{path}",
                ]
            )
        begun = time.monotonic()
        running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
        try:
            outputs = [process.communicate(timeout=RUN_SECONDS_MAX)[0] for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
        wall = time.monotonic() - begun
        return _read_h2load(directory, outputs, share, wall)


def _read_h2load(directory: Path, outputs: list[str], share: int, wall: float) -> Load:
    for output in outputs:
        summary = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", output)
        if not summary or int(summary[2]) != share:
            raise LoadError(f"h2load did not get {share} answers:\n{output[-2000:]}")
    data = [re.search(r"traffic: .*, [\d.]+[KMG]?B \((\d+)\) data", output) for output in outputs]
    latencies: list[int] = []
    first, last = 2**63, 0
    for path in directory.glob("*.log"):
        for line in path.read_text().splitlines():
            start, _, took = line.split("\t")
            latencies.append(int(took))
            first, last = min(first, int(start)), max(last, int(start) + int(took))
    latencies.sort()
    if len(latencies) != share * len(outputs):
        raise LoadError(f"h2load logged {len(latencies)} of {share * len(outputs)} requests")
    # From the first request sent to the last answer, of all processes together; never longer than the wall clock.
    seconds = min((last - first) / 1e6, wall)
    return Load(
        len(latencies),
        seconds,
        latencies[len(latencies) // 2] / 1000,
        latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] / 1000,
        sum(int(found[1]) for found in data if found),
    )
