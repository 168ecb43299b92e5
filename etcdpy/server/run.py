"""Run one member from configuration to exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import TYPE_CHECKING

from etcdpy import STORAGE_VERSION, limits
from etcdpy.api.health import Health
from etcdpy.api.health_grpc import HealthService
from etcdpy.api.http import Access, MetricsPage, Versions, client_port, metrics_port
from etcdpy.api.metrics import build_registry
from etcdpy.errors import Stopped
from etcdpy.server import doors, logs, notify, process
from etcdpy.server.loop_lag import LoopLag
from etcdpy.server.member import open_replica
from etcdpy.server.slices import SliceRunner
from etcdpy.server.stats import MemberHealth, MemberStats
from etcdpy.server.upkeep import LeaseKeeper, StoreUpkeep, WatchDriver
from etcdpy.storage.errors import StorageError
from etcdpy.transport.server import Server

if TYPE_CHECKING:
    from etcdpy.server.config import Config
    from etcdpy.server.member import Replica

log = logs.get("etcdmain")

THREAD_SWITCH_SECONDS = 0.0002
"""How long the disk thread waits for the interpreter when it has a job: the default of 5 ms would keep a batch from the
disk for as long as the loop goes on applying the one before."""


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    import uvloop

    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stop)
    try:
        replica = open_replica(config, loop)
    except StorageError as error:
        log.error("cannot start", error=str(error))
        return 1
    try:
        return await _run_member(config, replica, stop)
    finally:
        replica.engine.close()
        log.info("closed etcd server", name=config.name, **{"data-dir": config.data_dir})


def _on_signal(number: signal.Signals, stop: asyncio.Event) -> None:
    log.info("received signal; shutting down", signal=number.name)
    stop.set()


async def _run_member(config: Config, replica: Replica, stop: asyncio.Event) -> int:
    loop = asyncio.get_running_loop()
    server = Server({}, doors.transport_options(config), on_bug=_report_bug)
    slices = SliceRunner(server.spawn)
    watches = WatchDriver(replica.hub, loop.time)
    upkeep = StoreUpkeep(
        replica.store,
        replica.engine,
        replica,
        slices,
        batch_limit=config.compaction_batch_limit,
        pause_seconds=config.compaction_sleep_interval_seconds,
    )
    replica.on_compaction = upkeep.compaction_scheduled
    replica.on_changes = watches.wake
    server.methods = doors.make_methods(replica, slices, upkeep, watches, HealthService(), server.spawn, loop.time)
    lag = LoopLag(loop, _report_stall)
    try:
        tls = doors.client_tls(config)
        health = Health(MemberHealth(replica))
        metrics = MetricsPage(build_registry(MemberStats(replica, upkeep, server, lag, tls).sources(health)))
        await doors.open_metrics_doors(server, config, metrics_port(health, metrics), tls)
        http = client_port(
            health=health,
            metrics=metrics,
            versions=lambda: Versions(replica.membership.version, STORAGE_VERSION),
            variables=lambda: {"cmdline": sys.argv, "file_descriptor_limit": process.descriptor_limit()},
            access=Access(origins=config.cors, hosts=config.host_whitelist),
            gateway_enabled=config.enable_grpc_gateway,
        )
        lag.start()
        async with asyncio.TaskGroup() as duties:
            running = [
                duties.create_task(work)
                for work in (
                    _tick(config, replica),
                    watches.run(),
                    LeaseKeeper(replica.lessor, replica, loop.time).run(),
                    upkeep.compact_forever(),
                )
            ]
            replica.begin()
            await replica.publish()
            log.info("ready to serve client requests")
            await doors.open_client_doors(server, config, http, tls)
            notify.ready()
            # What was made so far stays for good: the collector need not look at it again and again.
            gc.freeze()
            await stop.wait()
            notify.stopping()
            for task in running:
                task.cancel()
    except OSError as error:
        log.error("cannot listen", error=str(error))
        return 1
    finally:
        lag.stop()
        replica.node.refuse_all(Stopped)
        await server.drain(limits.DRAIN_SECONDS)
    return 0


async def _tick(config: Config, replica: Replica) -> None:
    """Raft's clock: one tick a heartbeat interval, however late the loop is."""
    loop = asyncio.get_running_loop()
    interval = config.heartbeat_interval_ms / 1000
    due = loop.time()
    while True:
        due = max(due + interval, loop.time())
        await asyncio.sleep(due - loop.time())
        replica.node.tick()


def _report_stall(seconds: float) -> None:
    log.warn("the event loop was held", seconds=seconds)


def _report_bug(error: Exception) -> None:
    log.error("a request failed by a bug", error=repr(error))
