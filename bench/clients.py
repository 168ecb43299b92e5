"""Python clients side by side on the same server: `python -m bench.clients [--rounds N] [--seconds N] [LOAD ...]`.

Rounds are interleaved, and the side that begins changes. The table has the median of each side and the ratio of the
medians. 1 is returned where a ratio is below what docs/bench says.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.client_loads import HISTORY_EVENTS, IN_FLIGHT, VALUE, key
from bench.sides import SERVER_FLAGS as USUAL_FLAGS
from etcdpy.proto import rpc_pb2
from tests.support.client import Client
from tests.support.members import KINDS, Member

if TYPE_CHECKING:
    from collections.abc import Sequence

LOADS: Final = {
    "put": ("etcd3", 1.0, "puts of 256 B, one after the other"),
    "get": ("etcd3", 1.0, "reads of 256 B, one after the other"),
    "watch": ("etcd3", 1.0, f"events of a history of {HISTORY_EVENTS:,}"),
    "aio-put": ("aetcd", 1.2, f"puts of 256 B, {IN_FLIGHT} in flight"),
    "aio-get": ("aetcd", 1.2, f"reads of 256 B, {IN_FLIGHT} in flight"),
}
"""Load -> (beside whom, the ratio to reach, what it is)."""
PUTS_IN_A_TXN: Final = 100
SERVER_FLAGS: Final = (*USUAL_FLAGS, "--unsafe-no-fsync")
"""Clients are measured here: how long the disk takes differs more from run to run than they do."""


def fill(client: Client) -> None:
    """Every key that is read, and the history that is watched: a revision for each transaction of it."""
    for start in range(0, HISTORY_EVENTS, PUTS_IN_A_TXN):
        puts = [rpc_pb2.PutRequest(key=key(start + n).encode(), value=VALUE) for n in range(PUTS_IN_A_TXN)]
        client.txn(success=[rpc_pb2.RequestOp(request_put=put) for put in puts])


def run_once(client: str, load: str, endpoint: str, seconds: float) -> tuple[float, float]:
    """Calls a second, and us of the client's CPU time for each."""
    command = [sys.executable, "-m", "bench.client_loads", client, load, endpoint, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{client} failed at {load}:\n{done.stderr[-2000:]}")
    rate, cpu_us = map(float, done.stdout.split())
    return rate, cpu_us


Runs = dict[tuple[str, str], list[tuple[float, float]]]


def measure(loads: Sequence[str], endpoint: str, rounds: int, seconds: float) -> Runs:
    """Rates and CPU times by load and client."""
    found: Runs = {}
    for number in range(rounds):
        for load in loads:
            sides = ["etcdpy", LOADS[load][0]]
            for client in sides if number % 2 == 0 else reversed(sides):
                found.setdefault((load, client), []).append(run_once(client, load, endpoint, seconds))
    return found


def report(runs: Runs, loads: Sequence[str]) -> bool:
    """Print medians; whether each load reached its ratio."""
    held = True
    for load in loads:
        other, wanted, what = LOADS[load]
        sides = [tuple(map(statistics.median, zip(*runs[load, client], strict=True))) for client in ("etcdpy", other)]
        ratio = sides[0][0] / sides[1][0]
        held &= ratio >= wanted
        texts = [
            f"{name} {rate:8,.0f}/s {cpu_us:5.0f} us CPU"
            for name, (rate, cpu_us) in zip(("etcdpy", other), sides, strict=True)
        ]
        print(f"{load:8} {'  '.join(texts)}  ratio {ratio:.2f} (wanted {wanted})  {what}")
    return held


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"of {', '.join(LOADS)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="that each run of a load lasts")
    parser.add_argument("--server", choices=KINDS, default="etcdpy")
    options = parser.parse_args(arguments)
    loads = options.loads or list(LOADS)
    root = Path.cwd() / ".bench"
    root.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="clients-", dir=root) as directory,
        Member(options.server, Path(directory), flags=SERVER_FLAGS) as member,
    ):
        with Client.of(member) as client:
            fill(client)
        runs = measure(loads, member.endpoint, options.rounds, options.seconds)
    return 0 if report(runs, loads) else 1


if __name__ == "__main__":
    sys.exit(main())
