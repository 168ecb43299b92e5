"""An honest client beside an attacker, before, during and after: `python -m bench.floods [--seconds N] [KIND ...]`.

For each attack one fresh member, one client that puts one key after the other, and the attacker as a process of its own
with a lower priority, since its work would be done on another host. A line tells the client's rate before and during,
what share of it, and of the member's processor time, the client kept, and the member's resident memory before, at its
peak, and after.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.client import Client
from tests.support.floods import WATCHED_PREFIX
from tests.support.members import Member, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL: Final = {
    "idle": 10_000,
    "slow-readers": 1000,
    "rapid-reset": 1,
    "header-bomb": 1,
    "slowloris": 2000,
    "slowloris-peer": 2000,
    "half-handshakes": 1000,
}
"""How many connections each attack has."""

SETTLE_SECONDS_MAX: Final = 30.0
EVENT_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What one attack did."""

    kind: str
    connections: int
    before_per_second: float
    during_per_second: float
    before_cpu_seconds: float
    """The member's, for one put."""
    during_cpu_seconds: float
    before_bytes: int
    peak_bytes: int
    after_bytes: int

    @property
    def kept(self) -> float:
        """The share of its rate that the client kept."""
        return self.during_per_second / self.before_per_second

    @property
    def kept_of_processor(self) -> float:
        """The share of the member's time that the client kept, however much other programs left to the member."""
        return self.before_cpu_seconds / self.during_cpu_seconds

    def __str__(self) -> str:
        kept = f"{self.kept:4.0%}, of the member's time {self.kept_of_processor:4.0%}"
        rates = f"{self.before_per_second:6.0f}/s -> {self.during_per_second:6.0f}/s ({kept})"
        memory = " -> ".join(f"{each / 2**20:.0f}" for each in (self.before_bytes, self.peak_bytes, self.after_bytes))
        return f"{self.kind:16} {self.connections:6} connections   puts {rates}   resident MiB {memory}"


def put_rate(client: Client, seconds: float, *, watched: bool = False) -> float:
    """Puts a second, one after the other. `watched`: twenty a second of them are large and go to all watchers."""
    count, began, next_event = 0, time.monotonic(), 0.0
    while (passed := time.monotonic() - began) < seconds:
        if watched and passed >= next_event:
            client.put(WATCHED_PREFIX + b"k", bytes(EVENT_BYTES))
            next_event += 0.05
        client.put(b"honest/%d" % (count % 1000), b"v" * 256)
        count += 1
    return count / seconds


def put_cost(member: Member, client: Client, seconds: float, *, watched: bool = False) -> tuple[float, float]:
    """`put_rate`, and the member's CPU seconds for one put."""
    before = member.cpu_seconds()
    rate = put_rate(client, seconds, watched=watched)
    return rate, (member.cpu_seconds() - before) / (rate * seconds)


@contextmanager
def attack(kind: str, member: Member, connections: int) -> Iterator[None]:
    """The attacker, from when its attack is in place until the block ends."""
    port = member.peer_port if kind.endswith("-peer") else member.client_port
    name = kind.removesuffix("-peer")
    command = [sys.executable, "-m", "tests.support.floods", name, str(port), str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", "the attacker did not get ready"
            yield
        finally:
            process.kill()


def measure(kind: str, directory: Path, tls: TlsFiles, *, connections: int, seconds: float) -> Figures:
    """One attack on a fresh member."""
    with (
        Member("etcdpy", directory / kind, tls=tls if kind == "half-handshakes" else None) as member,
        Client.of(member) as client,
    ):
        put_rate(client, seconds / 2)
        before_bytes = member.rss_bytes()
        before, before_cpu = put_cost(member, client, seconds)
        with attack(kind, member, connections):
            during, during_cpu = put_cost(member, client, seconds, watched=kind == "slow-readers")
        after_bytes = settle(member, client, before_bytes)
        rates = (before, during, before_cpu, during_cpu)
        return Figures(kind, connections, *rates, before_bytes, member.rss_peak_bytes(), after_bytes)


def settle(member: Member, client: Client, wanted_bytes: int) -> int:
    """The resident memory once the attacker is gone, when it falls no more."""
    give_up = time.monotonic() + SETTLE_SECONDS_MAX
    lowest = member.rss_bytes()
    while time.monotonic() < give_up and lowest > wanted_bytes + (16 << 20):
        put_rate(client, 0.5)
        lowest = min(lowest, member.rss_bytes())
    return lowest


def main() -> int:
    from tests.support.certificates import TestAuthority

    parser = argparse.ArgumentParser(prog="python -m bench.floods")
    parser.add_argument("kinds", nargs="*", choices=[[], *FULL], metavar="KIND")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tls = tls_files(TestAuthority(directory))
        for kind in options.kinds or FULL:
            print(measure(kind, directory, tls, connections=FULL[kind], seconds=options.seconds), flush=True)
    return 0


def tls_files(authority: object) -> TlsFiles:
    """What a member with mutual TLS needs, from a tests.support.certificates.TestAuthority."""
    from tests.support.certificates import TestAuthority

    assert isinstance(authority, TestAuthority)
    server, client = authority.issue("server", "server"), authority.issue("client", "client")
    return TlsFiles(Path(authority.path), Path(server.cert), Path(server.key), Path(client.cert), Path(client.key))


if __name__ == "__main__":
    sys.exit(main())
