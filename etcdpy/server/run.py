"""Run one member from configuration to exit code.

    open the data directory -> raft -> publish -> listen -> ... -> signal -> drain -> close

When the disk refuses a write, the member goes on to serve reads, and starts over from what is on disk as soon as the
disk takes writes again: after a failed sync nothing else proves what was stored.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits, work_limits
from etcdpy.api.audit import AuditLog
from etcdpy.api.client_limits import ClientLimits
from etcdpy.api.client_versions import ClientVersions
from etcdpy.api.gate import Gate
from etcdpy.api.health import Health
from etcdpy.api.health_grpc import HealthService
from etcdpy.api.http import Access, MetricsPage, Versions, client_port, metrics_port
from etcdpy.api.metrics import build_registry
from etcdpy.api.timing import time_calls
from etcdpy.errors import EtcdError, Stopped
from etcdpy.gateway.gateway import Gateway
from etcdpy.server import doors, garbage, logs, notify, process
from etcdpy.server.audit_file import open_audit_file, stamp
from etcdpy.server.auto_compaction import make_compactor
from etcdpy.server.corruption import CorruptionChecker, Inconsistent
from etcdpy.server.encryption import keeper_of
from etcdpy.server.flag_table import redacted
from etcdpy.server.leader_leases import LeaderLeases
from etcdpy.server.loop_lag import LoopLag
from etcdpy.server.member import Replica, make_lessor, open_replica
from etcdpy.server.notes import ConfigError
from etcdpy.server.passwords import BcryptPasswords
from etcdpy.server.peer_tls import peer_tls
from etcdpy.server.peers import PeerAnswers, Peers
from etcdpy.server.slices import SliceRunner
from etcdpy.server.snapshots import Snapshots
from etcdpy.server.space import SpaceKeeper
from etcdpy.server.stats import MemberHealth, MemberStats
from etcdpy.server.tokens import make_tokens
from etcdpy.server.upkeep import LeaseKeeper, StoreUpkeep, WatchDriver
from etcdpy.storage.errors import StorageError
from etcdpy.transport.server import Server
from etcdpy.transport.tls_options import TlsConfigError

if TYPE_CHECKING:
    import signal
    from collections.abc import Coroutine, Iterator

    from etcdpy.auth.tokens import TokenProvider
    from etcdpy.server.audit_file import AuditFile
    from etcdpy.server.config import Config
    from etcdpy.transport.exchange import HttpHandler

log = logs.get("etcdmain")

THREAD_SWITCH_SECONDS: Final = 0.001
"""How long the disk thread waits for the interpreter when it has a job: the default of 5 ms would keep a batch from the
disk for as long as the loop goes on applying the one before. 0.2 ms cost a member of three 1 % more under full load,
for the times that the loop is taken off its processor."""

_REOPEN: Final = -1


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    import uvloop

    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    garbage.set_rhythm()
    sys.unraisablehook = report_unraisable
    process.restrict_umask()
    process.keep_freed_memory()
    process.raise_descriptor_limit()
    try:
        process.check_descriptor_limit()
    except process.TooFewDescriptors as error:
        log.error(str(error))
        return 1
    if config.memory_mlock and (reason := process.lock_memory()):
        log.error("failed to mlock memory", reason=reason)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    try:
        tokens = make_tokens(config)
    except ConfigError as error:
        log.error("failed to create token provider", error=str(error))
        return error.exit_code
    while True:
        try:
            replica = await _open(config, loop, stop, tokens)
        except StorageError as error:
            log.error("cannot open the data directory", error=str(error))
            return 1
        except ConfigError as error:
            log.error("discovery failed", error=str(error))
            return error.exit_code
        except (TlsConfigError, OSError) as error:
            if stop.is_set():
                return 0
            log.error("cannot serve", error=str(error))
            return 1
        try:
            code = await Running(config, replica, stop).run()
        except Inconsistent as error:
            log.error("checkInitialHashKV failed", error=str(error))
            return 1
        except (ConfigError, TlsConfigError, OSError, ValueError) as error:
            log.error("cannot serve", error=str(error))
            return 1
        finally:
            replica.engine.close()
            log.info("closed etcd server", name=config.name, **{"data-dir": config.data_dir})
        if code != _REOPEN:
            return code


async def _open(config: Config, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, tokens: TokenProvider) -> Replica:
    """The member. A signal ends the wait for others with TimeoutError."""
    async with asyncio.timeout(None) as patience:
        for number in process.STOP_SIGNALS:
            loop.add_signal_handler(number, _on_signal, number, stop, patience)
        replica = await open_replica(config, loop, tokens)
    for number in process.STOP_SIGNALS:
        loop.add_signal_handler(number, _on_signal, number, stop)
    return replica


def _on_signal(number: signal.Signals, stop: asyncio.Event, patience: asyncio.Timeout | None = None) -> None:
    log.info("received signal; shutting down", signal=number.name)
    stop.set()
    if patience is not None:
        patience.reschedule(0)


class Running:
    """A member from its doors' opening to their close."""

    def __init__(self, config: Config, replica: Replica, stop: asyncio.Event) -> None:
        self._config = config
        self._replica = replica
        self._stop = stop
        self._end = asyncio.Event()
        self._gate: Gate | None = None
        self._audit: AuditFile | None = None
        self._removed = False
        self._loop = asyncio.get_running_loop()
        self._server = Server({}, doors.transport_options(config), on_bug=_report_bug)
        slices = SliceRunner(self._server.spawn)
        self._watches = WatchDriver(replica.hub, self._loop.time)
        self._upkeep = StoreUpkeep(
            replica.store,
            replica.engine,
            replica,
            slices,
            batch_limit=config.compaction_batch_limit,
            pause_seconds=config.compaction_sleep_interval_seconds,
            write_early=replica.node.write_early,
        )
        health = HealthService()
        if config.feature_gates.enabled("StopGRPCServiceOnDefrag"):
            self._upkeep.on_defragmenting = lambda running: health.set_serving(not running)
        self._lag = LoopLag(self._loop, _report_stall)
        replica.on_compaction = self._upkeep.compaction_scheduled
        replica.on_changes = self._watches.wake
        replica.on_answers = self._server.flush_dirty
        self._peer_server = Server({}, doors.transport_options(config), on_bug=_report_bug)
        answers = PeerAnswers(replica, self._upkeep)
        self._peers = Peers(replica, answers, peer_tls(config), self._peer_server.spawn)
        self._snapshots = Snapshots(
            replica, self._peers.network, slices, self._peer_server.spawn, partial(make_lessor, config)
        )
        replica.connect(self._peers, self._snapshots)
        replica.on_removed = self._on_removed
        leader = LeaderLeases(replica, self._peers.network.connections)
        self._passwords = BcryptPasswords(config.bcrypt_cost)
        self._server.methods = doors.make_methods(
            replica, slices, self._upkeep, self._watches, health, self._server, leader, answers, self._passwords
        )
        self._encryption = keeper_of(config, replica)
        self._corruption = CorruptionChecker(replica, self._upkeep, self._peers.ask_hash)

    async def run(self) -> int:
        """Serve until told to stop. Returns the exit code, or _REOPEN."""
        replica, server = self._replica, self._server
        try:
            async with asyncio.TaskGroup() as tasks:
                duties = [tasks.create_task(duty) for duty in self._duties()]
                self._lag.start()
                if await self._begin():
                    await self._open_client_doors()
                code = await self._wait()
                await replica.hand_over()
                # Calls under way are answered while everything still runs.
                await server.drain(limits.DRAIN_SECONDS)
                for task in duties:
                    task.cancel()
        finally:
            self._lag.stop()
            replica.node.refuse_all(Stopped, under_way=Stopped)
            replica.changes.refuse_all(Stopped)
            await server.close()
            await self._peers.network.stop()
            await self._peer_server.close()
            self._snapshots.close()
            self._passwords.close()
            if self._audit is not None:
                self._audit.close()
        return code

    async def _begin(self) -> bool:
        """Become a part of the cluster. False when the end came first."""
        config, replica = self._config, self._replica
        if config.feature_gates.enabled("InitialCorruptCheck") and replica.applied_index:
            await self._corruption.check_at_start()
        urls = [str(url) for url in config.listen_peer_urls]
        await self._peers.network.listen(self._peer_server, urls)
        for url in urls:
            log.info("serving peer traffic", address=url)
        garbage.keep_for_good()
        replica.begin()
        async with asyncio.TaskGroup() as race:
            ways = {race.create_task(way) for way in (self._publish(), self._appear())}
            ending = race.create_task(self._end.wait())
            await asyncio.wait({*ways, ending}, return_when=asyncio.FIRST_COMPLETED)
            begun = any(way.done() for way in ways)
            for task in (*ways, ending):
                task.cancel()
        return begun

    async def _publish(self) -> None:
        """Until the cluster knows this member; that takes a leader."""
        replica = self._replica
        while True:
            try:
                await replica.publish()
                return
            except EtcdError as error:
                log.warn("failed to publish local member to cluster through raft", error=error.message)
                if replica.storage_failure.is_set():
                    return  # reads are served all the same

    async def _appear(self) -> None:
        """Until a new member stands among the members. What it has published may come back to it within the snapshot
        that it begins with: nobody answers the request then, and it would wait in vain. Never, for an old one."""
        replica = self._replica

        def client_urls() -> tuple[str, ...]:
            own = replica.membership.get(replica.own_id)
            return own.client_urls if own is not None else ()

        if client_urls():
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(limits.PEERS_ACTIVE_POLL_SECONDS)
            if client_urls() and replica.leader:
                return

    async def _open_client_doors(self) -> None:
        config, replica, server = self._config, self._replica, self._server
        tls = doors.client_tls(config)
        health = Health(MemberHealth(replica))
        stats = MemberStats(replica, self._upkeep, server, self._lag, tls)
        handling = time_calls(server.methods) if config.metrics == "extensive" else None
        self._guard_methods(stats)
        clients = ClientVersions()
        encryption = self._encryption.stats if self._encryption is not None else None
        server.on_head = clients.join
        metrics = MetricsPage(build_registry(stats.sources(health, clients, handling, encryption)))
        http = client_port(
            health=health,
            metrics=metrics,
            versions=lambda: Versions(replica.membership.version, replica.storage_version),
            variables=lambda: {"cmdline": redacted(sys.argv), "file_descriptor_limit": process.descriptor_limit()},
            access=Access(origins=config.cors, hosts=config.host_whitelist),
            gateway=self._make_gateway() if config.enable_grpc_gateway else None,
            names_users=lambda: config.client_cert_auth and replica.auth.enabled,
        )
        await doors.open_metrics_doors(server, config, metrics_port(health, metrics), tls)
        self._gate = Gate(server.methods, replica.users.waits)
        replica.on_standing = self._note_standing
        self._note_standing()
        await self._defragment_at_start()
        log.info("ready to serve client requests")
        await doors.open_client_doors(server, config, http, tls)
        notify.ready()

    def _make_gateway(self) -> HttpHandler:
        server = self._server
        assert server.on_head is not None
        gateway = Gateway(
            server.methods,
            server.spawn,
            server.on_bug,
            max_receive_bytes=server.options.max_receive_bytes,
            on_head=server.on_head,
        )
        server.on_drain = gateway.end_endless
        return gateway.handle

    def _guard_methods(self, stats: MemberStats) -> None:
        """Lay what the flags ask for around the handlers: what is refused for coming too often is not worth a line in
        the audit log."""
        config, replica = self._config, self._replica
        if config.audit_log_file:
            self._audit = stats.audit = open_audit_file(config.audit_log_file, config.audit_log_max_megabytes)
            hash_keys = config.audit_log_keys == "hash"
            AuditLog(self._audit.write, replica.callers.name_of, lambda: stamp(time.time()), hash_keys).wrap(
                self._server.methods
            )
        if config.client_requests_per_second or config.client_watches_per_second:
            client_limits = stats.client_limits = ClientLimits(
                replica.callers.name_of,
                self._loop.time,
                lambda: replica.headers[0].embed(replica.revision),
                requests_per_second=config.client_requests_per_second,
                watches_per_second=config.client_watches_per_second,
            )
            client_limits.wrap(self._server.methods)

    def _note_standing(self) -> None:
        assert self._gate is not None
        replica = self._replica
        self._gate.set(has_leader=replica.leader != 0, is_learner=replica.is_learner, has_users=replica.auth.enabled)

    def _on_removed(self) -> None:
        """This member belongs to the cluster no more. As on etcd it ends a little later, so that others hear of it."""
        if not self._removed:
            self._removed = True
            self._loop.call_later(limits.REMOVED_STOP_SECONDS, self._end.set)

    async def _defragment_at_start(self) -> None:
        threshold = self._config.bootstrap_defrag_threshold_megabytes * 1024 * 1024
        store = self._replica.store
        freeable = store.size_total - store.bytes_in_use
        if threshold and freeable >= threshold:
            log.info("defragmenting at start", **{"freeable-bytes": freeable, "threshold-bytes": threshold})
            await self._upkeep.defragment()

    async def _wait(self) -> int:
        """Until a signal, or until a disk that had failed takes writes again."""
        await self._end.wait()
        if self._stop.is_set():
            notify.stopping()
            return 0
        if self._removed:
            log.warn("server error", error="the member has been permanently removed from the cluster")
            log.warn("data-dir used by this member must be removed")
            return 0
        log.info("the disk takes writes again; starting over from what is stored")
        return _REOPEN

    async def _end_on_signal(self) -> None:
        await self._stop.wait()
        self._end.set()

    async def _end_when_disk_is_mended(self) -> None:
        await self._replica.storage_failure.wait()
        mended = False
        while not mended:  # nobody tells when a disk has room again
            await asyncio.sleep(limits.DISK_PROBE_SECONDS)
            mended = probe_disk(Path(self._config.data_dir))
        self._end.set()

    # --- duties ---

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        config, replica = self._config, self._replica
        duties: list[Coroutine[Any, Any, None]] = [
            self._tick(),
            replica.versions.run(),
            self._watches.run(),
            LeaseKeeper(replica.lessor, replica.run_as_leader, self._loop.time, replica.wait_linearizable).run(),
            self._upkeep.compact_forever(),
            self._look_after_memory(),
            garbage.collect_often(),
            self._end_on_signal(),
            self._end_when_disk_is_mended(),
            self._look_after_streams(),
            *self._corruption_checks(),
        ]
        if config.auto_space_reclaim or config.auto_alarm_disarm:
            keeper = SpaceKeeper(
                replica.store,
                replica.quota,
                replica,
                self._upkeep.defragment,
                reclaims=config.auto_space_reclaim,
                disarms=config.auto_alarm_disarm,
            )
            duties.append(keeper.run())
        if config.initial_election_tick_advance:
            duties.append(self._advance_first_election())
        compactor = make_compactor(
            config.auto_compaction_mode,
            config.auto_compaction_retention_seconds,
            config.auto_compaction_retention_revisions,
            self._loop.time(),
            replica.store.current_revision,
        )
        if compactor is not None:
            duties.append(self._upkeep.auto_compact(compactor, self._loop.time, lambda: replica.raw.is_leader))
        if self._encryption is not None:
            duties.append(self._encryption.run())
        interval = notify.watchdog_interval_seconds()
        if interval is not None:
            duties.append(_watchdog(interval))
        return duties

    def _corruption_checks(self) -> Iterator[Coroutine[Any, Any, None]]:
        config = self._config
        if config.corrupt_check_time_seconds:
            yield self._corruption.check_periodically(config.corrupt_check_time_seconds)
        if config.feature_gates.enabled("CompactHashCheck"):
            yield self._corruption.check_compactions_periodically(config.compact_hash_check_time_seconds)

    async def _tick(self) -> None:
        """Raft's clock: one tick a heartbeat interval. What a late loop missed is left out, as a clock that hurries
        after a pause would start elections; and what others said meanwhile is heard first."""
        interval = self._config.heartbeat_interval_ms / 1000
        due = self._loop.time() + interval
        while True:
            await asyncio.sleep(due - self._loop.time())
            if self._loop.time() - due > interval:
                await asyncio.sleep(0)
            self._replica.node.tick()
            self._replica.users.waits.expire()
            due = max(due, self._loop.time() - interval) + interval

    async def _advance_first_election(self) -> None:
        """Members that start together need not wait a whole election timeout once they hear each other. At least two
        ticks are left, for a leader that is there to be heard (--initial-election-tick-advance)."""
        replica, config = self._replica, self._config
        give_up = self._loop.time() + config.raft_read_timeout_seconds
        while self._loop.time() < give_up and not replica.leader:
            await asyncio.sleep(limits.PEERS_ACTIVE_POLL_SECONDS)
            others = len(replica.membership.members) - 1  # a new member knows of none before it begins
            if others > 0 and self._peers.active >= (others + 1) // 2:
                log.info("initialized peer connections; fast-forwarding election ticks", active=self._peers.active)
                replica.raw.advance_ticks(config.election_ticks - 2)
                return

    async def _look_after_streams(self) -> None:
        """Streams that demand a leader end when there has been none for long."""
        while True:
            await asyncio.sleep(self._config.election_timeout_ms / 1000)
            if self._gate is not None:
                self._gate.look()

    async def _look_after_memory(self) -> None:
        server = self._server
        connections, accepted, trims = len(server.connections), server.accepted, 0
        while True:
            await asyncio.sleep(limits.MEMORY_TRIM_SECONDS)
            before, connections = connections, len(server.connections)
            came_before, accepted = accepted, server.accepted
            gone = before - connections + accepted - came_before
            if gone > work_limits.CONNECTIONS_GONE_TO_TRIM:
                trims = work_limits.TRIMS_AFTER_MANY_CONNECTIONS
            if trims:
                trims -= 1
                await asyncio.to_thread(process.give_freed_memory_back)
            self._replica.engine.trim_memory()
            self._replica.engine.refresh_sizes()


def probe_disk(directory: Path) -> bool:
    """Whether the disk takes a few megabytes and their sync."""
    probe = directory / "member" / "probe"
    try:
        with probe.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, limits.DISK_PROBE_BYTES)
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        try:
            probe.unlink(missing_ok=True)
        except OSError as error:
            log.warn("cannot remove the probe file", path=str(probe), error=str(error))
    return True


async def _watchdog(interval_seconds: float) -> None:
    while True:
        notify.watchdog()
        await asyncio.sleep(interval_seconds)


def is_of_a_client(raised: sys.UnraisableHookArgs) -> bool:
    """Whether a client's server name that is no ASCII made Python's TLS raise where nobody can catch it."""
    return isinstance(raised.exc_value, UnicodeDecodeError) and isinstance(raised.object, bytes)


def report_unraisable(raised: sys.UnraisableHookArgs) -> None:
    """What a callback raised. A client's handshake fails and is logged as any other: Python's own traceback on stderr,
    one for each, would let anybody fill the log."""
    if not is_of_a_client(raised):
        log.error("an error that nobody can catch", error=repr(raised.exc_value), place=repr(raised.object)[:256])


def _report_stall(seconds: float) -> None:
    log.warn("the event loop was held", seconds=seconds)


def _report_bug(error: Exception) -> None:
    trace = "".join(traceback.format_exception(error))
    log.error("a request failed by a bug", error=repr(error), stacktrace=trace)
