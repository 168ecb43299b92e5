"""Calls through `grpc-proxy`, ours beside etcd's, in front of one and the same member.

    python -m bench.proxies [--total 20000] [--rounds 3] [--data-root .bench]

The member is etcd's and does not wait for its disk: it is the proxies that are measured. 1,000 clients on 100
connections, by etcd's `benchmark`.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.sides import SERVER_FLAGS
from bench.workloads import KEY, put_many_clients, range_one_key
from tests.support.client import Client
from tests.support.members import KINDS, Member
from tests.support.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load import Load, Target

LOADS: Final[dict[str, tuple[bool, Callable[[Target, int], Load]]]] = {
    "put": (False, put_many_clients),
    "range, linearizable": (False, range_one_key("l")),
    "range, serializable: from the cache": (False, range_one_key("s")),
    "range, linearizable, of an owned key": (True, range_one_key("l")),
}
"""Whether the proxies own keys, and what is sent."""


def wait_until_owned(client: Client, member: Member, record: bytes) -> None:
    """Read until the proxy owns the key, which a record at the member shows."""
    with Client.of(member) as beside:
        while not beside.range(record).kvs:
            client.range(KEY)


def measure(name: str, member: Member, directory: Path, total: int) -> dict[str, tuple[float, float]]:
    """By kind of proxy: requests a second, and the proxy's CPU in microseconds a request."""
    leasing, send = LOADS[name]
    found: dict[str, tuple[float, float]] = {}
    for kind in KINDS:
        # Another one each time: etcd's proxy keeps its keys from others for a minute after its end.
        prefix = secrets.token_hex(8)
        flags = [f"--experimental-leasing-prefix={prefix}"] if leasing else []
        with Proxy(kind, "grpc-proxy", directory, [member.endpoint], flags) as proxy, Client(proxy.endpoint) as client:
            client.put(KEY, b"v" * 256)
            if leasing:
                wait_until_owned(client, member, prefix.encode() + KEY)
            before = proxy.cpu_seconds()
            load = send(proxy, total)
            found[kind] = load.rate, (proxy.cpu_seconds() - before) / total * 1e6
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--total", type=int, default=20_000, help="requests of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--data-root", type=Path, default=Path.cwd() / ".bench")
    arguments = parser.parse_args()
    arguments.data_root.mkdir(exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.data_root, prefix="proxies-")))
        member = stack.enter_context(Member("etcd", directory, flags=[*SERVER_FLAGS, "--unsafe-no-fsync"]))
        for name in arguments.loads:
            rounds = [measure(name, member, directory, arguments.total) for _ in range(arguments.rounds)]
            sides = (
                f"{kind} {statistics.median(each[kind][0] for each in rounds):,.0f}/s, "
                f"{statistics.median(each[kind][1] for each in rounds):.0f} us of its CPU each"
                for kind in KINDS
            )
            print(f"{name}: {'; '.join(sides)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
