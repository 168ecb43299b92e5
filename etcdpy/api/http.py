"""What the client port and the metrics port say over HTTP: health, version, metrics, and 404 to the rest.

A request on the client port passes the access rules first: the Host names of plain HTTP (against DNS rebinding,
CVE-2018-5702) and the origins of CORS.
"""

from __future__ import annotations

import gzip
import html
import json
import logging
import posixpath
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from etcdpy import VERSION
from etcdpy.api import exposition
from etcdpy.api.health import TEXT, Health, error_response, not_allowed
from etcdpy.transport.exchange import HttpHandler, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger("etcdpy.api.http")

JSON: Final = ("content-type", "application/json")
_GZIP_LEVEL: Final = 1
"""A scrape of 150 KB shrinks to a tenth in 1.5 ms at level 1; higher levels cost more than the bytes."""
_NOT_FOUND: Final = "404 page not found"
_NAME_IGNORED: Final = "CommonName of client sending a request against gateway will be ignored and not used as expected"
_CORS_METHODS: Final = "POST, GET, OPTIONS, PUT, DELETE"
_CORS_HEADERS: Final = "accept, content-type, authorization"

Route = Callable[[HttpRequest], Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask: origins (`*` or exact ones) and Host names of plain HTTP (`*` or exact ones)."""

    origins: Sequence[str] = ("*",)
    hosts: Sequence[str] = ("*",)

    def allows_host(self, host: str) -> bool:
        """Whether a plain request with this Host header is answered."""
        return not self.hosts or "*" in self.hosts or host_name(host) in self.hosts

    def cors_headers(self, origin: str) -> list[tuple[str, str]]:
        """What a browser is told about this origin."""
        if not self.origins or "*" in self.origins:
            allowed = "*"
        elif origin in self.origins:
            allowed = origin
        else:
            return []
        return [
            ("access-control-allow-methods", _CORS_METHODS),
            ("access-control-allow-origin", allowed),
            ("access-control-allow-headers", _CORS_HEADERS),
        ]


def host_name(host: str) -> str:
    """The Host header without its port; as it is when it has no proper one."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]:")
        return name if bracket and ":" not in port else host
    name, colon, port = host.partition(":")
    return name if colon and ":" not in port else host


class MetricsPage(Collector):
    """/metrics, and the counts of its own scrapes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._in_flight = 0
        self._scrapes = dict.fromkeys(("200", "500", "503"), 0)
        registry.register(self)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Every method is answered alike, as etcd does."""
        self._in_flight += 1
        try:
            body = await exposition.scrape(self._registry)
        finally:
            self._in_flight -= 1
        self._scrapes["200"] += 1
        headers = [("content-type", exposition.CONTENT_TYPE)]
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers.append(("content-encoding", "gzip"))
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        return HttpResponse(200, headers, body)

    def collect(self) -> Iterator[Metric]:
        """The counts, under the names of Prometheus' Go handler."""
        flying = Metric("promhttp_metric_handler_requests_in_flight", "Scrapes being served.", "gauge")
        flying.add_sample(flying.name, {}, self._in_flight)
        total = Metric("promhttp_metric_handler_requests_total", "Scrapes by status code.", "counter")
        for code, count in self._scrapes.items():
            total.add_sample(total.name, {"code": code}, count)
        return iter((flying, total))


class Versions:
    """What /version tells besides the server's own version. Empty texts are what is not known yet."""

    __slots__ = ("cluster", "storage")

    def __init__(self, cluster: str = "", storage: str = "") -> None:
        self.cluster = cluster
        self.storage = storage


def metrics_port(health: Health, metrics: MetricsPage) -> HttpHandler:
    """The handler of --listen-metrics-urls: metrics and health, without access rules."""
    return router({**health.paths(), "/metrics": metrics.handle})


def client_port(
    *,
    health: Health,
    metrics: MetricsPage,
    versions: Callable[[], Versions],
    variables: Callable[[], Mapping[str, Any]],
    access: Access,
    gateway: HttpHandler | None = None,
    names_users: Callable[[], bool] = lambda: False,
) -> HttpHandler:
    """The handler of the client port. `variables` fills /debug/vars; `gateway` serves /v3/, if it is on.

    `names_users` says whether certificates stand for users now; the gateway's clients cannot be known by theirs.
    """

    async def version(request: HttpRequest) -> HttpResponse:
        if request.method != "GET":
            return not_allowed()
        told = versions()
        body = {
            "etcdserver": VERSION,
            "etcdcluster": told.cluster or "not_decided",
            "storage": told.storage or "unknown",
        }
        return HttpResponse(200, [JSON], json.dumps(body, separators=(",", ":")).encode())

    async def debug_vars(request: HttpRequest) -> HttpResponse:
        if request.method != "GET":
            return not_allowed()
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(variables().items()))
        return HttpResponse(200, [("content-type", "application/json; charset=utf-8")], f"{{\n{rows}\n}}\n".encode())

    routes = {**health.paths(), "/metrics": metrics.handle, "/version": version, "/debug/vars": debug_vars}
    route = router(routes, gateway)

    async def handle(request: HttpRequest) -> HttpResponse:
        if not request.secure and not access.allows_host(request.host):
            host = host_name(request.host)
            fields = {"host": host[:256]}
            logger.warning("rejecting HTTP request to prevent DNS rebinding attacks", extra={"fields": fields})
            return error_response(421, _host_refused(host))
        if request.secure and gateway is not None and _is_api(request) and request.peer.common_name and names_users():
            return error_response(400, _NAME_IGNORED)
        cors = access.cors_headers(request.headers.get("origin", ""))
        response = HttpResponse(200) if request.method == "OPTIONS" else await route(request)
        return HttpResponse(response.status, [*cors, *response.headers], response.body) if cors else response

    return handle


def router(routes: Mapping[str, Route], gateway: HttpHandler | None = None) -> HttpHandler:
    """Exact paths, and everything under /v3/ for the gateway. Other spellings of a path are redirected, as in Go."""

    async def handle(request: HttpRequest) -> HttpResponse:
        path = unquote(request.path) or "/"
        clean = _clean(path)
        if gateway is not None and clean == "/v3":
            clean = "/v3/"
        if clean != path and request.method != "CONNECT":
            return _redirect(request, clean)
        if gateway is not None and (path.startswith(("/v3/", "/v3beta/"))):
            return await gateway(request)
        route = routes.get(path)
        return await route(request) if route is not None else error_response(404, _NOT_FOUND)

    return handle


def _is_api(request: HttpRequest) -> bool:
    return unquote(request.path).startswith(("/v3/", "/v3beta/"))


def _clean(path: str) -> str:
    """The path without double slashes and dots; a slash at its end stays."""
    # normpath keeps two leading slashes, which POSIX gives a meaning that URLs do not have.
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _redirect(request: HttpRequest, path: str) -> HttpResponse:
    target = quote(path, safe="/~:@!$&'()*+,;=-._") + (f"?{request.query}" if request.query else "")
    headers = [("location", target)]
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(307, headers)
    body = f'<a href="{html.escape(target)}">Temporary Redirect</a>.\n\n'
    return HttpResponse(307, [("content-type", "text/html; charset=utf-8"), *headers], body.encode())


def _host_refused(host: str) -> str:
    shown = json.dumps(host[:256], ensure_ascii=False)
    return (
        f"\nThe Host header of this request is not on the list of --host-whitelist.\n\n"
        f"Either use https, which takes any host, or start the server with it on the list: --host-whitelist {shown}\n\n"
        "The list keeps web pages from reaching the server through names of their own (DNS rebinding, "
        "CVE-2018-5702).\n"
    )


__all__ = ["TEXT", "Access", "MetricsPage", "Versions", "client_port", "host_name", "metrics_port", "router"]
