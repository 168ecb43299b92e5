"""`check perf` and `check datascale`: what a cluster can do, tried out on it.

The clients run in one event loop of this process, so what it can send bounds what is measured: some 3000 puts a second
on one core. Where the loop had no time left that is said, lest a cluster be blamed for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.ctl.gotext import quote
from etcdpy.ctl.memory import resident_bytes
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session, go_text
from etcdpy.errors import EtcdError
from etcdpy.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from etcdpy.client.aio import AsyncClient

PERF_SECONDS: Final = 60
PERF_LOADS: Final = {"s": (150, 50), "m": (1000, 200), "l": (8000, 500), "xl": (15000, 1000)}
"""Puts a second, and clients."""
SCALE_LOADS: Final = {"s": (10_000, 50), "m": (100_000, 200), "l": (1_000_000, 500), "xl": (3_000_000, 1000)}
"""Keys, and clients."""
_ALIASES: Final = {"small": "s", "medium": "m", "large": "l", "xLarge": "xl"}

PERF_SIZES: Final = (256, 1024)
SCALE_SIZES: Final = (512, 512)
"""Bytes of a key behind its prefix, and of a value."""

RATE_SHARE_MIN: Final = 0.9
SLOWEST_SECONDS_MAX: Final = 0.5
DEVIATION_SECONDS_MAX: Final = 0.1
"""With less of the rate, or more of the others, a cluster does not pass. etcd's numbers, as all above."""

CLEANUP_SECONDS: Final = 30.0
BUSY_SHARE: Final = 0.9
"""Of one core: a loop that takes more has no time left."""
_BURST_SECONDS: Final = 0.005
"""What a late put may bring forward the next ones by: no more than the clock of the loop is off."""


@click.group("check", cls=Group, globals_=global_options, short_help="Tries out what a cluster can do")
@click.pass_context
def check(ctx: click.Context) -> None:
    """Try out what a cluster can do. Keys are written below a prefix that has none, and deleted afterwards.

    \b
    Examples:
      etcdpyctl check perf
      etcdpyctl check datascale --load m
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _checking(prefix: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What both checks take."""
    decorators = (
        click.option("--load", default="s", metavar="string", help='s, m, l or xl (default "s")'),
        click.option("--prefix", default=prefix, metavar="string", help=f'Where keys are written (default "{prefix}")'),
        click.option("--auto-compact", is_flag=True, help="Compact the history afterwards"),
        click.option("--auto-defrag", is_flag=True, help="Defragment each endpoint afterwards"),
        click.argument("words", nargs=-1, metavar="", expose_value=False),
        click.pass_context,
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


@check.command("perf", cls=Command, globals_=global_options, short_help="Checks how many writes a cluster takes")
@_checking("/etcdctl-check-perf/")
def perf(ctx: click.Context, load: str, prefix: str, **cleaning: bool) -> None:
    """Put keys for a minute at a rate (150, 1000, 8000 or 15000 a second by --load), and judge rate and latency.

    \b
    Example:
      etcdpyctl check perf --load m --auto-compact
    """
    rate, clients = PERF_LOADS[_model(load, PERF_LOADS)]
    run = _Run(Session(ctx), prefix, **cleaning)
    run.check_unused("Delete with 'etcdctl del --prefix {}' first")
    tally = asyncio.run(run.put_all(paced(rate, PERF_SECONDS), clients, PERF_SIZES, rate * PERF_SECONDS))
    run.clean_up()
    if not judge(tally, rate):
        click.echo("FAIL")
        raise Failure(Exit.ERROR)
    click.echo("PASS")


@check.command("datascale", cls=Command, globals_=global_options, short_help="Checks how much memory keys take")
@_checking("/etcdctl-check-datascale/")
def datascale(ctx: click.Context, load: str, prefix: str, **cleaning: bool) -> None:
    """Put many keys (10,000, 100,000, 1 or 3 million by --load), and tell how much more memory the first endpoint's
    member takes then, by its metrics.

    \b
    Example:
      etcdpyctl check datascale --load s --auto-compact --auto-defrag
    """
    count, clients = SCALE_LOADS[_model(load, SCALE_LOADS)]
    session = Session(ctx)
    run = _Run(session, prefix, **cleaning)
    run.check_unused("Delete with etcdctl del --prefix {} first")
    before = _memory(session, "before")
    size = sum(SCALE_SIZES)
    text = f"[{count} key-value pairs, {size} bytes per key-value, {clients} concurrent clients]"
    click.echo(f"Start data scale check for work load {text}.")
    tally = asyncio.run(run.put_all(_at_once(count), clients, SCALE_SIZES, count))
    after = _memory(session, "after")
    run.clean_up()
    if tally.errors:
        _show_errors(tally)
        raise Failure(Exit.ERROR)
    click.echo(f"PASS: Approximate system memory used : {(after - before) / 2**20:.2f} MB.")


def _model(load: str, loads: dict[str, tuple[int, int]]) -> str:
    name = _ALIASES.get(load, load)
    if name not in loads:
        raise Failure(Exit.BAD_FEATURE, f"unknown load option {load}")
    return name


def _memory(session: Session, when: str) -> float:
    try:
        return resident_bytes(session.options, session.options.endpoints[0])
    except (OSError, ValueError) as error:
        click.echo(str(error))
        click.echo(f"FAIL: Could not read process_resident_memory_bytes {when} the put operations.")
        raise Failure(Exit.ERROR) from None


# --- the load ---


@dataclass(slots=True)
class Tally:
    """What came of the puts. Times are seconds."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    client_was_busy: bool = False

    @property
    def rate(self) -> float:
        """Puts that were answered, a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


async def paced(rate: int, seconds: float) -> AsyncIterator[None]:
    """Something to do at a rate, without catching up on what could not be done in time."""
    begun = due = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        if due > now:
            await asyncio.sleep(due - now)
        yield
        due = max(due + 1 / rate, time.monotonic() - _BURST_SECONDS)


async def _at_once(count: int) -> AsyncIterator[None]:
    for _ in range(count):
        yield


class _Run:
    """One load on one cluster."""

    def __init__(self, session: Session, prefix: str, *, auto_compact: bool, auto_defrag: bool) -> None:
        self._session = session
        self._prefix = os.fsencode(prefix)
        self._name = prefix
        self._auto_compact = auto_compact
        self._auto_defrag = auto_defrag

    def check_unused(self, advice: str) -> None:
        """Refuse a prefix that has keys. Raises Failure."""
        with self._session.failing():
            found = self._session.client.get(self._prefix, prefix=True, limit=1)
        if found.kvs:
            raise Failure(Exit.BAD_INPUT, f"prefix {quote(self._name)} has keys. {advice.format(self._name)}")

    async def put_all(self, pace: AsyncIterator[None], count: int, sizes: tuple[int, int], expected: int) -> Tally:
        """Put keys from so many clients, until there is nothing to do or Ctrl-C is pressed."""
        tally = Tally()
        progress = Progress("putting", expected * sum(sizes))
        todo: asyncio.Queue[bool] = asyncio.Queue(count)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
        async with AsyncExitStack() as open_ones:
            clients = [await open_ones.enter_async_context(each) for each in self._session.open_async_clients(count)]
            begun, used = time.monotonic(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(self._put_each(client, todo, sizes, tally, progress))
                async for _ in pace:
                    if stopped.is_set():
                        break
                    await todo.put(True)
                for _ in clients:
                    await todo.put(False)
            tally.seconds = time.monotonic() - begun
            tally.client_was_busy = time.process_time() - used > BUSY_SHARE * tally.seconds
        progress.end()
        return tally

    async def _put_each(
        self, client: AsyncClient, todo: asyncio.Queue[bool], sizes: tuple[int, int], tally: Tally, progress: Progress
    ) -> None:
        from etcdpy.client import op

        key_size, value_size = sizes
        value = bytes(value_size)
        while await todo.get():
            key = self._prefix + os.urandom(9).ljust(key_size, b"\0")
            begun = time.monotonic()
            try:
                await client.do(op.put(key, value))
            except EtcdError as error:
                tally.errors[go_text(error.code, error.message)] += 1
            else:
                tally.latencies.append(time.monotonic() - begun)
                progress.show(len(tally.latencies) * sum(sizes))

    def clean_up(self) -> None:
        """Delete what was written; compact and defragment where that is wanted. Raises Failure."""
        client = self._session.client
        try:
            deleted = client.delete(self._prefix, prefix=True, timeout=CLEANUP_SECONDS)
        except EtcdError as error:
            text = go_text(error.code, error.message)
            click.echo(f"FAIL: Cleanup failed during key deletion: ERROR({text})")
            return
        with self._session.failing():
            if self._auto_compact:
                revision = deleted.header.revision
                click.echo(f"Compacting with revision {revision}")
                client.compact(revision, physical=True, timeout=CLEANUP_SECONDS)
                click.echo(f"Compacted with revision {revision}")
            for endpoint in client.endpoints if self._auto_defrag else ():
                click.echo(f"Defragmenting {quote(endpoint)}")
                client.at(endpoint).defragment(timeout=CLEANUP_SECONDS)
                click.echo(f"Defragmented {quote(endpoint)}")


# --- the verdict ---


def _show_errors(tally: Tally) -> None:
    click.echo("FAIL: too many errors")
    for text, count in tally.errors.items():
        click.echo(f"FAIL: ERROR({text}) -> {count}")


def judge(tally: Tally, wanted: int) -> bool:
    """Print line by line what is good and what is not; whether all is."""
    if tally.errors:
        _show_errors(tally)
    slowest = max(tally.latencies, default=0.0)
    deviation = statistics.pstdev(tally.latencies) if tally.latencies else 0.0
    enough = tally.rate > wanted * RATE_SHARE_MIN
    rate = int(tally.rate) + 1
    click.echo(f"PASS: Throughput is {rate} writes/s" if enough else f"FAIL: Throughput too low: {rate} writes/s")
    if not enough and tally.client_was_busy:
        click.echo("This client could send no more; the cluster may be able to take it.", err=True)
    quick = slowest <= SLOWEST_SECONDS_MAX
    click.echo(f"{'PASS: Slowest request took' if quick else 'Slowest request took too long:'} {slowest:.6f}s")
    steady = deviation <= DEVIATION_SECONDS_MAX
    click.echo(f"{'PASS: Stddev is' if steady else 'Stddev too high:'} {deviation:.6f}s")
    return enough and quick and steady and not tally.errors
