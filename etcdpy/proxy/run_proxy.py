"""`grpc-proxy start`, from flags to exit code."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcdpy import limits
from etcdpy.api.services import in_task, method_table
from etcdpy.client import call as calls
from etcdpy.client.channels import TlsFiles
from etcdpy.client.namespace import Namespace
from etcdpy.commandline import Exit, Failure
from etcdpy.duration import NS_PER_SECOND
from etcdpy.errors import EtcdError
from etcdpy.peer.connections import Connections, Dialer
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.asking import Namespaced, Ordered
from etcdpy.proxy.cache import RangeCache
from etcdpy.proxy.call_log import logged
from etcdpy.proxy.endpoints import discover
from etcdpy.proxy.kv import KvService
from etcdpy.proxy.leases import LeaseService
from etcdpy.proxy.leasing import Leasing
from etcdpy.proxy.members import ListedMembers, Registration
from etcdpy.proxy.pages import Pages, ProxyCollector
from etcdpy.proxy.passing import Recipes, passed_stream, passed_unary_handlers
from etcdpy.proxy.starting import run_loop
from etcdpy.proxy.upstream import NOBODY, Upstream
from etcdpy.proxy.watching import WatchService
from etcdpy.server import logs, notify, process
from etcdpy.transport.options import TransportOptions
from etcdpy.transport.server import Server
from etcdpy.transport.tls import ServerTls, ServerTlsConfig, TlsConfigError
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig
from etcdpy.transport.tls_options import check_options, parse_version
from etcdpy.transport.tls_refusal import common_name
from etcdpy.transport.tls_selfsigned import self_signed_pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from etcdpy.proxy.asking import Asker
    from etcdpy.transport.calls import Method

log = logs.get("etcdmain")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The flags, see `flags.GRPC_PROXY`. Spans are nanoseconds."""

    endpoints: tuple[str, ...]
    endpoints_auto_sync_interval: int
    discovery_srv: str
    discovery_srv_name: str
    insecure_discovery: bool
    listen_addr: str
    metrics_addr: str
    advertise_client_url: str
    resolver_prefix: str
    resolver_ttl: int
    namespace: str
    enable_pprof: bool
    data_dir: str
    max_send_bytes: int
    max_recv_bytes: int
    max_concurrent_streams: int
    dial_keepalive_time: int
    dial_keepalive_timeout: int
    permit_without_stream: bool
    grpc_keepalive_min_time: int
    grpc_keepalive_interval: int
    grpc_keepalive_timeout: int
    cert: str
    key: str
    cacert: str
    insecure_skip_tls_verify: bool
    cert_file: str
    key_file: str
    trusted_ca_file: str
    client_crl_file: str
    auto_tls: bool
    self_signed_cert_validity: int
    listen_cipher_suites: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str
    experimental_leasing_prefix: str
    experimental_serializable_ordering: bool
    experimental_enable_grpc_logging: bool
    debug: bool

    def check(self) -> None:
        """Raise Failure, in etcd's words, for what cannot be meant."""
        if self.resolver_prefix and self.resolver_ttl < 1:
            raise Failure(Exit.ERROR, f"invalid resolver-ttl {self.resolver_ttl}")
        if not self.resolver_prefix and self.resolver_ttl > 0:
            raise Failure(Exit.ERROR, 'invalid resolver-prefix ""')
        if self.resolver_prefix and not self.advertise_client_url:
            raise Failure(Exit.ERROR, 'invalid advertise-client-url ""')
        if self.auto_tls and self.self_signed_cert_validity == 0:
            raise Failure(Exit.ERROR, "selfSignedCertValidity is invalid,it should be greater than 0")
        for name, version in (("min", self.tls_min_version), ("max", self.tls_max_version)):
            try:
                parse_version(version)
            except TlsConfigError as error:
                raise Failure(Exit.ERROR, f"tls-{name}-version is invalid: {error}") from None
        check_options(self.listen_cipher_suites, self.tls_min_version, self.tls_max_version)

    def without_effect(self) -> Iterator[str]:
        """What is set and does nothing, with the reason."""
        if self.enable_pprof:
            yield "enable-pprof: pprof is Go's; there is no /debug/pprof"

    @property
    def dials_with_tls(self) -> bool:
        """Whether endpoints without a scheme are asked over TLS."""
        return bool(self.cacert or self.cert or self.key or self.insecure_skip_tls_verify)


def run(options: ProxyOptions) -> int:
    """Serve until a signal. Returns the exit code; what cannot be started with is said on standard error."""
    try:
        options.check()
    except (Failure, TlsConfigError) as problem:
        sys.stderr.write(f"{problem}\n")
        return Exit.ERROR
    logs.setup_default(logging.DEBUG if options.debug else logging.INFO)
    return run_loop(partial(_serve, options))


async def _serve(options: ProxyOptions, _room: int) -> None:
    for line in options.without_effect():
        log.warn("this setting has no effect here", setting=line)
    stop = asyncio.Event()
    for number in process.STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tls = listener_tls(options)
    dialing = _dialing(options) if options.dials_with_tls else None
    upstream = await _upstream(options, dialing)
    problem: Exception | None = None
    async with asyncio.TaskGroup() as group:
        upstream.start(group)
        proxy = Proxy(options, upstream, dialing, group)
        try:
            await proxy.listen(tls)
            proxy.start()
            log.info("started gRPC proxy", address=options.listen_addr)
            log.info("notifying init daemon")
            notify.ready()
            await stop.wait()
            notify.stopping()
        except (OSError, ValueError) as error:
            problem = error  # raised once the group has ended, which would wrap it
        await proxy.close()
        await upstream.close()
    if problem is not None:
        raise problem


async def _upstream(options: ProxyOptions, dialing: ClientTls | None) -> Upstream:
    found = await discover(
        options.discovery_srv,
        options.discovery_srv_name,
        trusted_ca=options.cacert,
        insecure=options.insecure_discovery,
    )
    if dialing is not None and (told := _named(dialing)):
        raise Failure(Exit.ERROR, told)
    if options.insecure_skip_tls_verify:
        log.warn(
            "--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS "
            "certificates. This option should be enabled only for testing purposes."
        )
    files = (Path(path) if path else None for path in (options.cacert, options.cert, options.key))
    return Upstream(
        [each.url for each in found] or options.endpoints,
        TlsFiles(*files) if options.dials_with_tls else None,
        verify=not options.insecure_skip_tls_verify,
        max_send_bytes=options.max_send_bytes if options.max_send_bytes > 0 else 2**31 - 1,
        options=_channel_options(options),
        renewals=ClusterFiles(dialing).renewals if dialing is not None else lambda: 0,
    )


def _named(dialing: ClientTls) -> str:
    """What is wrong with the certificate for the cluster, if something is. With a common name it would make every
    client of the proxy that user (CVE-2018-16886 again)."""
    names = filter(None, map(common_name, dialing.certificates()))
    return next((f"cert has non empty Common Name ({name}): {dialing.config.cert_file}" for name in names), "")


class ClusterFiles:
    """The TLS files for the cluster, which may be renewed while the proxy runs."""

    def __init__(self, dialing: ClientTls) -> None:
        self._dialing = dialing
        self._context = dialing.context()
        self._renewals = 0

    def renewals(self) -> int:
        """How often they were renewed."""
        context = self._dialing.context()
        if context is not self._context:
            self._context = context
            if told := _named(self._dialing):
                log.error("the certificate for the cluster cannot be renewed", error=told)
            else:
                self._renewals += 1
        return self._renewals


def _channel_options(options: ProxyOptions) -> list[tuple[str, int]]:
    found = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 1000)]
    if options.max_recv_bytes > 0:
        found.append(("grpc.max_receive_message_length", options.max_recv_bytes))
    if options.dial_keepalive_time > 0:
        found.append(("grpc.keepalive_time_ms", options.dial_keepalive_time // 1_000_000))
        found.append(("grpc.http2.max_pings_without_data", 0))
        if options.dial_keepalive_timeout > 0:
            found.append(("grpc.keepalive_timeout_ms", options.dial_keepalive_timeout // 1_000_000))
        if options.permit_without_stream:
            found.append(("grpc.keepalive_permit_without_calls", 1))
    return found


def listener_tls(options: ProxyOptions) -> ServerTls | None:
    """The TLS for clients; None where no flag asks for it. Raises TlsConfigError."""
    cert_file, key_file = options.cert_file, options.key_file
    if not (cert_file or key_file or options.trusted_ca_file):
        if not options.auto_tls:
            return None
        cert_file, key_file = self_signed_pair(
            options.data_dir, "proxy", [options.listen_addr], options.self_signed_cert_validity
        )
    return ServerTls(
        ServerTlsConfig(
            cert_file=cert_file,
            key_file=key_file,
            trusted_ca_file=options.trusted_ca_file,
            crl_file=options.client_crl_file,
            cipher_suites=options.listen_cipher_suites,
            min_version=options.tls_min_version,
            max_version=options.tls_max_version,
        )
    )


def transport_options(options: ProxyOptions) -> TransportOptions:
    """The flags of the listener. Where they say 0, grpc-go's own values hold, as on etcd."""
    second = float(NS_PER_SECOND)
    interval = options.grpc_keepalive_interval / second or limits.KEEPALIVE_INTERVAL_SECONDS_DEFAULT
    return TransportOptions(
        max_receive_bytes=limits.PROXY_RECEIVE_BYTES_MAX,
        max_concurrent_streams=options.max_concurrent_streams,
        keepalive_min_time_seconds=options.grpc_keepalive_min_time / second or limits.PING_MIN_SECONDS_WITHOUT_FLAG,
        keepalive_interval_seconds=max(interval, limits.KEEPALIVE_INTERVAL_SECONDS_MIN),
        keepalive_timeout_seconds=options.grpc_keepalive_timeout / second or limits.KEEPALIVE_TIMEOUT_SECONDS_DEFAULT,
    )


class Proxy:
    """The services, and what listens for their clients."""

    def __init__(
        self, options: ProxyOptions, upstream: Upstream, dialing: ClientTls | None, group: asyncio.TaskGroup
    ) -> None:
        self._options = options
        self._upstream = upstream
        self._group: asyncio.TaskGroup = group
        self._tasks: list[asyncio.Task[None]] = []
        self._methods: dict[bytes, Method] = {}
        self.server = Server(self._methods, transport_options(options), on_bug=_report)
        self._namespace = Namespace(options.namespace.encode()) if options.namespace else None
        asker: Asker = upstream
        if options.experimental_serializable_ordering:
            asker = Ordered(asker, upstream)
        if self._namespace is not None:
            asker = Namespaced(asker, self._namespace)
        self._asker = asker
        self._leasing: Leasing | None = None
        if options.experimental_leasing_prefix:
            prefix = options.experimental_leasing_prefix.encode()
            asker = self._leasing = Leasing(asker, upstream, self._namespace, prefix, group)
        self._cache = RangeCache()
        self._kv = KvService(asker, self._cache)
        self._watch = WatchService(upstream, self._namespace, group, self._may_read)
        self._members = ListedMembers(options.advertise_client_url) if options.advertise_client_url else None
        self._methods.update(method_table(self._handlers()))
        self._connections = Connections(Dialer(dialing))
        self._pages = self._make_pages(secure=dialing is not None)

    def _make_pages(self, *, secure: bool) -> Pages:
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(ProxyCollector(self._cache, self._watch.counts, self._methods))
        return Pages(
            self._upstream,
            self._asker,
            self._connections,
            registry,
            secure=secure,
            advertised=self._members is not None,
        )

    async def _may_read(self, request: rpc_pb2.RangeRequest, caller: Any) -> object:
        return await self._asker.call(calls.RANGE, request, caller)

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        upstream, kv = self._upstream, self._kv
        lease = LeaseService(upstream, self._asker, self._group)
        unary, streams = Recipes(upstream, self._namespace).handlers()
        unary |= passed_unary_handlers(upstream)
        unary |= {
            "KV.Range": kv.range,
            "KV.Put": kv.put,
            "KV.DeleteRange": kv.delete_range,
            "KV.Txn": kv.txn,
            "KV.Compact": kv.compact,
            "Lease.LeaseTimeToLive": lease.time_to_live,
        }
        if self._members is not None:
            unary["Cluster.MemberList"] = self._members.list
        streams |= {
            "KV.RangeStream": kv.range_stream,
            "Watch.Watch": self._watch.watch,
            "Lease.LeaseKeepAlive": lease.keep_alive,
            "Maintenance.Snapshot": passed_stream(upstream, calls.SNAPSHOT.path),
        }
        told = logged if self._options.experimental_enable_grpc_logging else _as_it_is
        return {
            **{name: in_task(self.server.spawn, told(handler)) for name, handler in unary.items()},
            **{name: told(handler) for name, handler in streams.items()},
        }

    async def listen(self, tls: ServerTls | None) -> None:
        """Open the listeners. Raises OSError, ValueError."""
        options, pages = self._options, self._pages.handler()
        scheme = "http" if tls is None else "https"
        await self.server.listen([f"{scheme}://{options.listen_addr}"], tls=tls, http=pages)
        log.info("listening for gRPC proxy client requests", address=options.listen_addr)
        if options.metrics_addr:
            await self.server.listen([options.metrics_addr], tls=tls, grpc=False, http=pages)
            log.info("gRPC proxy listening for metrics", address=options.metrics_addr)

    def start(self) -> None:
        """Begin what goes on beside the calls."""
        options, found = self._options, self._tasks
        if self._leasing is not None:
            self._leasing.start()
        if options.resolver_prefix and self._members is not None:
            registration = Registration(
                self._upstream,
                self._asker,
                self._namespace,
                self._members,
                prefix=options.resolver_prefix,
                address=options.advertise_client_url,
                ttl_seconds=options.resolver_ttl,
            )
            found.append(self._group.create_task(registration.keep()))
            found.append(self._group.create_task(registration.follow()))
        if options.endpoints_auto_sync_interval > 0:
            found.append(self._group.create_task(self._sync(options.endpoints_auto_sync_interval / NS_PER_SECOND)))

    async def _sync(self, seconds: float) -> None:
        """Take the members' own addresses for endpoints, now and then."""
        while True:
            await asyncio.sleep(seconds)
            try:
                answer = await self._upstream.call(calls.MEMBER_LIST, rpc_pb2.MemberListRequest(), NOBODY)
            except EtcdError as error:
                log.info("Auto sync endpoints failed.", error=error.message)
                continue
            await self._upstream.replace([url for member in answer.members for url in member.clientURLs])

    async def close(self) -> None:
        """Let calls end, and close everything."""
        for task in self._tasks:
            task.cancel()
        await self.server.drain(limits.DRAIN_SECONDS)
        if self._leasing is not None:
            await self._leasing.close()
        self._watch.close()
        self._connections.close()


def _as_it_is(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    return handler


def _dialing(options: ProxyOptions) -> ClientTls:
    return ClientTls(
        ClientTlsConfig(
            cert_file=options.cert,
            key_file=options.key,
            trusted_ca_file=options.cacert,
            verify=not options.insecure_skip_tls_verify,
        )
    )


def _report(error: Exception) -> None:
    log.error("a request failed by a bug", error=repr(error))
