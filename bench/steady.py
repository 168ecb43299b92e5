"""Does the leader stay the leader under load? `python -m bench.steady --seconds 300`.

Three members take the puts of 1,000 clients by etcd's benchmark tool, while each member in turn is asked for all of
100,000 keys in one linearizable range. Afterwards the term must be what it was: a leader that is late with heartbeats,
or followers that are late in taking them, would have had an election.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.load import RUN_SECONDS_MAX, LoadError, benchmark_command
from bench.sides import SERVER_FLAGS
from etcdpy.proto import rpc_pb2
from tests.support.cluster import Cluster
from tests.support.members import KINDS
from tests.support.reference import build_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.client import Client
    from tests.support.cluster import ClusterMember
    from tests.support.members import Kind

KEYS: Final = 100_000
PREFIX: Final = b"/steady/"
VALUE_BYTES: Final = 100
RANGE_EVERY_SECONDS: Final = 2.0
PUTS_A_RUN: Final = 100_000
"""One run of the tool; runs follow each other until the time is over."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What happened in that time."""

    kind: Kind
    seconds: float
    puts: int
    ranges: int
    range_seconds_max: float
    elections: int
    """Terms that began while the load ran: 0 is the goal."""
    heartbeats_late: int
    """By the leader's own count."""


def _store(client: Client) -> None:
    for start in range(0, KEYS, 100):
        puts = [
            rpc_pb2.PutRequest(key=PREFIX + b"%08d" % number, value=bytes(VALUE_BYTES))
            for number in range(start, start + 100)
        ]
        client.txn(success=[rpc_pb2.RequestOp(request_put=put) for put in puts])


def _term(cluster: Cluster) -> int:
    status = cluster.status(cluster.leader())
    assert isinstance(status, rpc_pb2.StatusResponse), status
    return status.raftTerm


def _range_all(cluster: Cluster, member: ClusterMember) -> float:
    begun = time.monotonic()
    found = cluster.client(member).range(PREFIX, PREFIX[:-1] + b"0").kvs
    if len(found) != KEYS:
        raise LoadError(f"{len(found)} of {KEYS} keys in a range")
    return time.monotonic() - begun


def run(kind: Kind, seconds: float, data_root: Path) -> Steadiness:
    """Load three fresh members for so long. Raises LoadError where a request failed."""
    with (
        tempfile.TemporaryDirectory(dir=data_root, prefix=f"bench-steady-{kind}-") as name,
        Cluster([kind] * 3, Path(name), flags=SERVER_FLAGS) as cluster,
    ):
        leader = cluster.leader()
        _store(cluster.client(leader))
        term, begun = _term(cluster), time.monotonic()
        puts, longest, ranges = 0, 0.0, 0
        members = itertools.cycle(cluster.members)
        while (left := begun + seconds - time.monotonic()) > 0:
            total = min(PUTS_A_RUN, max(1000, int(left * 1000)))
            with _loading(cluster, total, Path(name) / "load.out") as load:
                while load.poll() is None:
                    longest = max(longest, _range_all(cluster, next(members)))
                    ranges += 1
                    time.sleep(RANGE_EVERY_SECONDS)
            puts += total
        late = leader.metric("etcd_server_heartbeat_send_failures_total", default=0)
        return Steadiness(kind, time.monotonic() - begun, puts, ranges, longest, _term(cluster) - term, int(late))


@contextmanager
def _loading(cluster: Cluster, total: int, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The tool at work; it has ended well at the end. Raises LoadError where it has not."""
    arguments = ("--conns=100", "--clients=1000", "put", "--key-size=8", "--val-size=256", "--sequential-keys")
    more = ("--key-space-size=1000000",)
    command = ["timeout", str(RUN_SECONDS_MAX)]
    command += benchmark_command(build_reference("benchmark"), cluster, [*arguments, *more], total)
    with output.open("wb") as file:
        load = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield load
        text = output.read_text()
        if load.wait() != 0 or "Error distribution" in text:
            raise LoadError(f"the load failed:\n{text[-2000:]}")
    finally:
        load.kill()
        load.wait()


def main() -> int:
    """1 where there was an election on etcdpy."""
    parser = argparse.ArgumentParser(prog="python -m bench.steady", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["etcdpy"], help="one after the other")
    parser.add_argument("--data-root", type=Path, default=Path.cwd() / ".bench", help="on the disk to measure")
    options = parser.parse_args()
    options.data_root.mkdir(parents=True, exist_ok=True)
    results = [run(kind, options.seconds, options.data_root) for kind in options.kinds]
    for result in results:
        print(json.dumps(asdict(result)))
    return int(any(result.elections for result in results if result.kind == "etcdpy"))


if __name__ == "__main__":
    sys.exit(main())
