"""Calls through `grpc-proxy`, ours beside etcd's, in front of one and the same member.

    python -m bench.proxies [--total 20000] [--rounds 3] [--data-root .bench]

The member is etcd's and does not wait for its disk: it is the proxies that are measured. 1,000 clients on 100
connections, by etcd's `benchmark`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.sides import SERVER_FLAGS
from bench.workloads import KEY, put_many_clients, range_one_key
from tests.support.client import Client, wait_until
from tests.support.members import KINDS, Member
from tests.support.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load import Load, Target

_LEASED: Final = "--experimental-leasing-prefix=leases/"

LOADS: Final[dict[str, tuple[Sequence[str], Callable[[Target, int], Load]]]] = {
    "put": ((), put_many_clients),
    "range, linearizable": ((), range_one_key("l")),
    "range, serializable: from the cache": ((), range_one_key("s")),
    "range, linearizable, of an owned key": ((_LEASED,), range_one_key("l")),
}
"""The proxies' flags, and what is sent."""


def measure(name: str, member: Member, directory: Path, total: int) -> dict[str, tuple[float, float]]:
    """By kind of proxy: requests a second, and the proxy's CPU in microseconds a request."""
    flags, send = LOADS[name]
    found: dict[str, tuple[float, float]] = {}
    for kind in KINDS:
        with Proxy(kind, "grpc-proxy", directory, [member.endpoint], flags) as proxy, Client(proxy.endpoint) as client:
            client.put(KEY, b"v" * 256)
            if flags:
                wait_until(lambda client=client: bool(client.range(KEY).kvs and client.range(b"leases/" + KEY).kvs))  # type: ignore[misc]
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
