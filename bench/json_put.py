"""Puts as JSON over HTTP/1.1, etcdpy beside etcd: `python -m bench.json_put [--rounds N] [--connections N ...]`.

Both members run all the time; h2load asks one and then the other, a round each, so that what the machine does besides
meets both alike. A line tells the median of the rounds and what the member's process spent on a request.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.load import RUN_SECONDS_MAX, LoadError, h2load_binary
from bench.sides import SERVER_FLAGS
from tests.support.members import KINDS, Member

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE_BYTES: Final = 256
SECONDS_A_RUN: Final = 3


def _load(member: Member, path: str, body: Path, connections: int) -> tuple[float, float]:
    """Requests a second, and microseconds of the member's CPU for each. Raises LoadError."""
    command = [
        *(h2load_binary(), "--h1", "-t1", f"-c{connections}", f"-D{SECONDS_A_RUN}", f"-d{body}"),
        *("-H", "content-type: application/json", f"{member.client_url}{path}"),
    ]
    before = member.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    spent = member.cpu_seconds() - before
    found = re.search(r"requests: .*, (\d+) succeeded, (\d+) failed, .*\n.*status codes: (\d+) 2xx", done.stdout)
    if found is None or found[2] != "0" or found[1] != found[3] or found[1] == "0":
        raise LoadError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return int(found[1]) / SECONDS_A_RUN, spent / int(found[1]) * 1e6


def run(path: str, request: dict[str, str], connections: Sequence[int], rounds: int) -> None:
    """Print a line for each number of connections. Raises LoadError."""
    with tempfile.TemporaryDirectory() as name:
        body = Path(name) / "body"
        body.write_text(json.dumps(request))
        members = [Member(kind, Path(name) / kind, flags=SERVER_FLAGS).start() for kind in KINDS]
        try:
            for number in connections:
                figures = [[_load(member, path, body, number) for member in members] for _ in range(rounds)]
                for index, kind in enumerate(KINDS):
                    rate = statistics.median(each[index][0] for each in figures)
                    cpu = statistics.median(each[index][1] for each in figures)
                    print(f"{path} {number:4d} connections {kind:7} {rate:7.0f}/s {cpu:6.0f} us", flush=True)
        finally:
            for member in members:
                member.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="puts as JSON, etcdpy beside etcd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--range", action="store_true", help="ranges of one key in place of puts")
    options = parser.parse_args(arguments)
    key = base64.b64encode(b"/bench/k").decode()
    value = base64.b64encode(bytes(VALUE_BYTES)).decode()
    path, request = ("range", {"key": key}) if options.range else ("put", {"key": key, "value": value})
    try:
        run(f"/v3/kv/{path}", request, options.connections, options.rounds)
    except LoadError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
