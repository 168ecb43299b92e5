"""What the proxy says over HTTP: whether it and the cluster are well, its own metrics, and those of a member."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from etcdpy import limits
from etcdpy.api.exposition import CONTENT_TYPE, scrape
from etcdpy.api.health import error_response, health_answer, not_allowed
from etcdpy.api.http import router
from etcdpy.api.metrics import call_families
from etcdpy.client.call import RANGE
from etcdpy.errors import EtcdError, PermissionDenied
from etcdpy.peer.connections import PeerUnreachable
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.upstream import NOBODY
from etcdpy.transport.exchange import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from etcdpy.peer.connections import Connections
    from etcdpy.proxy.asking import Asker
    from etcdpy.proxy.broadcast import Counts
    from etcdpy.proxy.cache import RangeCache
    from etcdpy.proxy.upstream import Upstream
    from etcdpy.transport.calls import Method
    from etcdpy.transport.exchange import HttpHandler

_PLAIN: Final = [("content-type", "text/plain; version=0.0.4")]
_QUESTION: Final = rpc_pb2.RangeRequest(key=b"a")
"""What etcd's proxy asks the cluster to see whether it is well."""


class ProxyCollector(Collector):
    """etcd's metrics of a proxy, and those of its calls."""

    def __init__(self, cache: RangeCache, watchers: Counts, methods: Mapping[bytes, Method]) -> None:
        self._cache = cache
        self._watchers = watchers
        self._methods = methods

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        cache, watchers = self._cache, self._watchers
        for name, kind, text, value in (
            ("cache_hits_total", "gauge", "Ranges answered by the cache.", cache.hits),
            ("cache_misses_total", "gauge", "Serializable ranges that the cache could not answer.", cache.misses),
            ("cache_keys_total", "gauge", "Answers in the cache.", len(cache)),
            ("watchers_coalescing_total", "gauge", "Watchers that share one of the cluster's.", watchers.watchers),
            ("events_coalescing_total", "counter", "Answers that did not have to be asked for.", watchers.events),
        ):
            family = Metric(f"etcd_grpc_proxy_{name}", text, kind)
            family.add_sample(family.name, {}, value)
            yield family
        yield from call_families(self._methods)


class Pages:
    """The paths."""

    def __init__(
        self,
        upstream: Upstream,
        asker: Asker,
        connections: Connections,
        registry: CollectorRegistry,
        *,
        secure: bool,
        advertised: bool,
    ) -> None:
        """`secure`: endpoints without a scheme are asked over TLS. `advertised`: clients are told where this proxy is;
        where they are not, etcd's cannot ask itself, and says that it is not well."""
        self._upstream = upstream
        self._asker = asker
        self._connections = connections
        self._registry = registry
        self._secure = secure
        self._advertised = advertised

    def handler(self) -> HttpHandler:
        """For the listeners."""
        return router(
            {
                "/health": self._health,
                "/metrics": self._metrics,
                "/proxy/health": self._proxy_health,
                "/proxy/metrics": self._proxy_metrics,
            }
        )

    async def _health(self, request: HttpRequest) -> HttpResponse:
        """Whether the cluster answers a linearizable read."""
        return await _told(request, self._trouble)

    async def _proxy_health(self, request: HttpRequest) -> HttpResponse:
        if not self._advertised:
            return await _told(request, _no_connection)
        return await _told(request, self._trouble)

    async def _trouble(self) -> str:
        try:
            async with asyncio.timeout(limits.PROXY_HEALTH_SECONDS):
                await self._asker.call(RANGE, _QUESTION, NOBODY)
        except PermissionDenied:
            return ""  # whoever may not read it has been answered
        except EtcdError as error:
            return f"GET ERROR:{error.message}"
        except TimeoutError:
            return "GET ERROR:context deadline exceeded"
        return ""

    async def _metrics(self, _request: HttpRequest) -> HttpResponse:
        """/metrics of a member."""
        endpoint = random.SystemRandom().choice(self._upstream.endpoints)
        url = endpoint if endpoint.startswith("http") else f"http{'s' if self._secure else ''}://{endpoint}"
        try:
            answer = await self._connections.request(
                "GET", url, "/metrics", seconds=limits.HTTP_REQUEST_SECONDS_MAX, limit=limits.PROXY_METRICS_BYTES_MAX
            )
        except PeerUnreachable:
            return error_response(500, "Internal server error")
        return HttpResponse(200, _PLAIN, answer.body)

    async def _proxy_metrics(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [("content-type", CONTENT_TYPE)], await scrape(self._registry))


async def _told(request: HttpRequest, trouble: Callable[[], Awaitable[Any]]) -> HttpResponse:
    return not_allowed() if request.method != "GET" else health_answer(await trouble())


async def _no_connection() -> str:
    return "no connection to proxy"
