"""What clients connect to: the services over a replica, and the listeners that carry them."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from etcdpy import limits
from etcdpy.api.auth import AuthService
from etcdpy.api.cluster import ClusterService
from etcdpy.api.election import ElectionService
from etcdpy.api.header import HeaderSource
from etcdpy.api.kv import KvService
from etcdpy.api.lease import LeaseService
from etcdpy.api.lock import LockService
from etcdpy.api.maintenance import MaintenanceService
from etcdpy.api.recipes import Inside
from etcdpy.api.services import in_task, method_table
from etcdpy.api.watch import WatchService
from etcdpy.gateway.gateway import streamed_paths
from etcdpy.server import logs
from etcdpy.transport.options import TransportOptions
from etcdpy.transport.tls import ServerTls
from etcdpy.transport.tls_options import ServerTlsConfig
from etcdpy.transport.tls_selfsigned import self_signed_pair

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from etcdpy.api.callers import Callers
    from etcdpy.api.health_grpc import HealthService
    from etcdpy.server.config import Config
    from etcdpy.server.leader_leases import LeaderLeases
    from etcdpy.server.member import Replica
    from etcdpy.server.passwords import BcryptPasswords
    from etcdpy.server.peers import PeerAnswers
    from etcdpy.server.slices import SliceRunner
    from etcdpy.server.upkeep import StoreUpkeep, WatchDriver
    from etcdpy.transport.calls import Method
    from etcdpy.transport.exchange import HttpHandler
    from etcdpy.transport.server import Server

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logs.get("embed")


def make_methods(
    replica: Replica,
    slices: SliceRunner,
    upkeep: StoreUpkeep,
    watches: WatchDriver,
    health: HealthService,
    server: Server,
    leader: LeaderLeases,
    answers: PeerAnswers,
    passwords: BcryptPasswords,
) -> dict[bytes, Method]:
    """Every service of the client port over one replica. `answers` gets the leases, which other members ask for too."""
    config, callers, spawn, clock = replica.config, replica.callers, server.spawn, server.loop.time
    header = HeaderSource(replica.membership.cluster_id, replica.own_id)
    header.set_term(replica.node.term)
    replica.headers.append(header)
    kv = KvService(
        replica.store,
        replica,
        replica,
        slices,
        upkeep,
        callers,
        header,
        replica.range_seconds,
        replica.slow,
        stopwatch=time.perf_counter,
        max_txn_ops=config.max_txn_ops,
        max_request_bytes=config.max_request_bytes,
    )
    lease = answers.leases = _lease_service(replica, leader, header, clock)
    cluster = ClusterService(replica.membership, replica, callers, header, replica.reconfiguration)
    watch = WatchService(replica.hub, callers, clock, watches.wake)
    replica.on_users_changed = watch.users_changed
    return method_table(
        {
            "KV.Range": kv.range,
            "KV.RangeStream": kv.range_stream,
            "KV.Put": kv.put,
            "KV.DeleteRange": kv.delete_range,
            "KV.Txn": kv.txn,
            "KV.Compact": callers.root_only(kv.compact),
            "Watch.Watch": watch.watch,
            "Lease.LeaseGrant": lease.grant,
            "Lease.LeaseRevoke": lease.revoke,
            "Lease.LeaseKeepAlive": lease.keep_alive,
            "Lease.LeaseTimeToLive": in_task(spawn, lease.time_to_live),
            "Lease.LeaseLeases": in_task(spawn, lease.leases),
            "Cluster.MemberList": cluster.member_list,
            "Cluster.MemberAdd": in_task(spawn, cluster.member_add),
            "Cluster.MemberRemove": in_task(spawn, cluster.member_remove),
            "Cluster.MemberUpdate": in_task(spawn, cluster.member_update),
            "Cluster.MemberPromote": in_task(spawn, cluster.member_promote),
            "Health.Check": health.check,
            "Health.List": health.list,
            "Health.Watch": health.watch,
            **_maintenance_handlers(replica, upkeep, callers, header, spawn),
            **_auth_handlers(replica, header, passwords, spawn),
            **_recipes(Inside(kv, lease, watch, spawn, server.on_bug)),
        }
    )


def _recipes(inside: Inside) -> dict[str, Callable[..., Any]]:
    lock, election, spawn = LockService(inside), ElectionService(inside), inside.spawn
    return {
        "Lock.Lock": in_task(spawn, lock.lock),
        "Lock.Unlock": in_task(spawn, lock.unlock),
        "Election.Campaign": in_task(spawn, election.campaign),
        "Election.Proclaim": in_task(spawn, election.proclaim),
        "Election.Leader": in_task(spawn, election.leader),
        "Election.Observe": election.observe,
        "Election.Resign": in_task(spawn, election.resign),
    }


def _maintenance_handlers(
    replica: Replica, upkeep: StoreUpkeep, callers: Callers, header: HeaderSource, spawn: Spawn
) -> dict[str, Callable[..., Any]]:
    service = MaintenanceService(
        replica,
        upkeep,
        replica,
        callers,
        header,
        replica.reconfiguration,
        replica.snapshots.backups,
        quota_bytes=replica.config.quota_bytes,
    )
    for_root = {
        "MoveLeader": service.move_leader,
        "Downgrade": service.downgrade,
        "Defragment": service.defragment,
        "Hash": service.hash,
        "HashKV": service.hash_kv,
    }
    return {
        "Maintenance.Status": callers.users_only(service.status),
        "Maintenance.Alarm": service.alarm,
        "Maintenance.Snapshot": service.snapshot,
        **{f"Maintenance.{name}": callers.root_only(in_task(spawn, handler)) for name, handler in for_root.items()},
    }


def _auth_handlers(
    replica: Replica, header: HeaderSource, passwords: BcryptPasswords, spawn: Spawn
) -> dict[str, Callable[..., Any]]:
    service = AuthService(
        replica.auth, replica, replica, passwords, header, random=random.SystemRandom(), wall_clock=time.time
    )
    return {
        **{f"Auth.{name}": handler for name, handler in service.handlers().items()},
        "Auth.UserAdd": in_task(spawn, service.user_add),
        "Auth.UserChangePassword": in_task(spawn, service.user_change_password),
        "Auth.Authenticate": in_task(spawn, service.authenticate),
    }


def _lease_service(
    replica: Replica, leader: LeaderLeases, header: HeaderSource, clock: Callable[[], float]
) -> LeaseService:
    return LeaseService(
        replica.lessor,
        replica.store,
        replica,
        leader,
        replica.callers,
        header,
        clock=clock,
        random=replica.random,
        fast_keep_alive=replica.config.feature_gates.enabled("FastLeaseKeepAlive"),
    )


def transport_options(config: Config) -> TransportOptions:
    """The transport's settings as the flags say. Where they say 0, grpc-go's own values hold, as on etcd."""
    interval, patience = config.grpc_keepalive_interval_seconds, config.grpc_keepalive_timeout_seconds
    if interval <= 0 or patience <= 0:
        interval, patience = limits.KEEPALIVE_INTERVAL_SECONDS_DEFAULT, limits.KEEPALIVE_TIMEOUT_SECONDS_DEFAULT
    return TransportOptions(
        max_receive_bytes=config.max_request_bytes + limits.GRPC_OVERHEAD_BYTES,
        max_concurrent_streams=config.max_concurrent_streams,
        keepalive_min_time_seconds=config.grpc_keepalive_min_time_seconds or limits.PING_MIN_SECONDS_WITHOUT_FLAG,
        keepalive_interval_seconds=max(interval, limits.KEEPALIVE_INTERVAL_SECONDS_MIN),
        keepalive_timeout_seconds=patience,
        reuse_address=True,
        reuse_port=config.socket_reuse_port,
        stream_stall_seconds=config.raft_write_timeout_seconds,
    )


def client_tls(config: Config) -> ServerTls | None:
    """The TLS of the client listeners; None when no flag asks for it. Raises TlsConfigError."""
    cert_file, key_file = config.cert_file, config.key_file
    urls = (*config.listen_client_urls, *config.listen_client_http_urls, *config.listen_metrics_urls)
    secure = any(url.scheme in ("https", "unixs") for url in urls)
    if config.auto_tls and not cert_file and secure:
        hosts = [url.address for url in config.listen_client_urls]
        cert_file, key_file = self_signed_pair(config.data_dir, "client", hosts, config.self_signed_cert_validity)
    if not cert_file or not secure:
        return None
    return ServerTls(
        ServerTlsConfig(
            cert_file=cert_file,
            key_file=key_file,
            trusted_ca_file=config.trusted_ca_file,
            client_cert_auth=config.client_cert_auth,
            crl_file=config.client_crl_file,
            allowed_hostnames=config.client_cert_allowed_hostname,
            allowed_cns=config.client_cert_allowed_cn,
            cipher_suites=config.cipher_suites,
            min_version=config.tls_min_version,
            max_version=config.tls_max_version,
        )
    )


async def open_metrics_doors(server: Server, config: Config, http: HttpHandler, tls: ServerTls | None) -> None:
    """Listen on --listen-metrics-urls. Raises OSError, ValueError."""
    urls = [str(url) for url in config.listen_metrics_urls]
    if urls:
        await server.listen(urls, tls=tls, grpc=False, http=http)
        for url in urls:
            log.info("serving metrics", address=url)


async def open_client_doors(server: Server, config: Config, http: HttpHandler, tls: ServerTls | None) -> None:
    """Listen on --listen-client-urls and --listen-client-http-urls. Raises OSError, ValueError."""
    urls = [str(url) for url in config.listen_client_urls]
    http_urls = [str(url) for url in config.listen_client_http_urls]
    await server.listen(urls, tls=tls, http=None if http_urls else http, streamed=streamed_paths())
    if http_urls:
        await server.listen(http_urls, tls=tls, grpc=False, http=http, streamed=streamed_paths())
    for group, traffic in ((urls, "grpc" if http_urls else "grpc+http"), (http_urls, "http")):
        for url in group:
            scheme, _, address = url.partition("://")
            if scheme in ("https", "unixs"):
                log.info("serving client traffic securely", traffic=traffic, address=address)
            else:
                log.info(
                    "serving client traffic insecurely; this is strongly discouraged!",
                    traffic=traffic,
                    address=address,
                )
