"""What one Python client does in one process of its own: `python -m bench.client_loads CLIENT LOAD ENDPOINT SECONDS`.

Prints calls (or events) a second, and how many us of CPU time each took of this process. Each client has a process to
itself: they bring generated code for the same messages, and protobuf takes each name once. What etcd3 and aetcd bring
is older than what today's protobuf takes, so both get ours, which is the same messages made anew; that is in their
favour, as their own would need protobuf written in Python.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from etcdpy.proto import auth_pb2, kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

VALUE: Final = b"v" * 256
IN_FLIGHT: Final = 100
HISTORY_EVENTS: Final = 200_000
WARM_UP_SECONDS: Final = 0.3


def key(number: int) -> str:
    return f"bench/{number % 1000:08}"


def lend_messages(package: str) -> None:
    """Let a package find our messages where its own would be."""
    for name, module in (("rpc_pb2", rpc_pb2), ("kv_pb2", kv_pb2), ("auth_pb2", auth_pb2)):
        sys.modules[f"{package}.{name}"] = module


# --- one call after the other ---


def blocking_client(name: str, endpoint: str) -> tuple[Callable[[int], Any], Callable[[int], Any], Callable[[], Any]]:
    """Its put, its get, and an iterator over the events of `bench/` from the first revision on."""
    if name == "etcdpy":
        from etcdpy.client import Client

        client = Client(endpoint)
        return (
            lambda number: client.put(key(number), VALUE),
            lambda number: client.get(key(number)).kvs[0].value,
            lambda: iter(client.watch("bench/", prefix=True, start_revision=2)),
        )
    lend_messages("etcd3.etcdrpc")
    host, port = endpoint.split(":")
    other = importlib.import_module("etcd3").client(host=host, port=int(port))
    return (
        lambda number: other.put(key(number), VALUE),
        lambda number: other.get(key(number))[0],
        lambda: other.watch_prefix("bench/", start_revision=2)[0],
    )


class Meter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self._cpu = time.process_time()

    def figures(self, done: int) -> tuple[float, float]:
        """Of so many calls: how many a second, and us of CPU time for each."""
        return done / (time.perf_counter() - self.begin), 1e6 * (time.process_time() - self._cpu) / done


def repeat(call: Callable[[int], Any], seconds: float) -> tuple[float, float]:
    """The figures of calls, after some that do not count."""
    end = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < end:
        call(0)
    number, meter = 0, Meter()
    while time.perf_counter() < meter.begin + seconds:
        call(number)
        number += 1
    return meter.figures(number)


def blocking_load(client: str, load: str, endpoint: str, seconds: float) -> tuple[float, float]:
    put, get, watch = blocking_client(client, endpoint)
    if load == "watch":
        meter = Meter()
        events = watch()
        for _ in range(HISTORY_EVENTS):
            next(events)
        return meter.figures(HISTORY_EVENTS)
    return repeat(put if load == "put" else get, seconds)


# --- many calls at once ---


async def aio_load(client: str, load: str, endpoint: str, seconds: float) -> tuple[float, float]:
    """`IN_FLIGHT` callers, each with one call after the other."""
    if client == "etcdpy":
        from etcdpy.client import AsyncClient

        async with AsyncClient(endpoint) as ours:
            if load == "put":
                return await repeat_all(lambda number: ours.put(key(number), VALUE), seconds)
            return await repeat_all(lambda number: ours.get(key(number)), seconds)
    lend_messages("aetcd.rpc")
    host, port = endpoint.split(":")
    async with importlib.import_module("aetcd").Client(host=host, port=int(port)) as theirs:
        if load == "put":
            return await repeat_all(lambda number: theirs.put(key(number).encode(), VALUE), seconds)
        return await repeat_all(lambda number: theirs.get(key(number).encode()), seconds)


async def repeat_all(call: Callable[[int], Awaitable[Any]], seconds: float) -> tuple[float, float]:
    done = 0
    end = time.perf_counter() + WARM_UP_SECONDS

    async def caller(first: int) -> None:
        nonlocal done
        number = first
        while time.perf_counter() < end:
            await call(number)
            number += IN_FLIGHT
            done += 1

    await asyncio.gather(*map(caller, range(IN_FLIGHT)))
    done, meter = 0, Meter()
    end = meter.begin + seconds
    await asyncio.gather(*map(caller, range(IN_FLIGHT)))
    return meter.figures(done)


def main() -> None:
    client, load, endpoint, seconds = sys.argv[1:]
    if load.startswith("aio-"):
        rate, cpu_us = asyncio.run(aio_load(client, load.removeprefix("aio-"), endpoint, float(seconds)))
    else:
        rate, cpu_us = blocking_load(client, load, endpoint, float(seconds))
    print(rate, cpu_us)


if __name__ == "__main__":
    main()
