"""The handlers of the client port and the metrics port."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace

import pytest

from etcdpy.api.health import Health
from etcdpy.api.http import Access, MetricsPage, Versions, client_port, host_name, metrics_port
from etcdpy.api.metrics import Sources, build_registry
from etcdpy.transport.calls import Peer
from etcdpy.transport.exchange import HttpHandler, HttpRequest, HttpResponse
from tests.unit.api.test_health import FakeSource, request


def pages() -> tuple[Health, MetricsPage]:
    return Health(FakeSource()), MetricsPage(build_registry(Sources()))


def client(
    access: Access | None = None,
    gateway: HttpHandler | None = None,
    versions: Versions | None = None,
) -> HttpHandler:
    health, metrics = pages()
    return client_port(
        health=health,
        metrics=metrics,
        versions=lambda: versions or Versions("3.7.0", "3.7.0"),
        variables=lambda: {"cmdline": ["etcdpy"], "file_descriptor_limit": 1024},
        access=access or Access(),
        gateway=gateway,
    )


def ask(
    handler: HttpHandler,
    target: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    host: str = "localhost:2379",
    secure: bool = False,
) -> HttpResponse:
    asked: HttpRequest = replace(request(target, method), headers=headers or {}, host=host, secure=secure)

    async def run() -> HttpResponse:
        return await handler(asked)

    return asyncio.run(run())


def text(response: HttpResponse) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


class TestClientPort:
    def test_version(self) -> None:
        response = ask(client(), "/version")
        assert text(response) == '{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}'
        assert ("content-type", "application/json") in response.headers
        unknown = json.loads(text(ask(client(versions=Versions()), "/version")))
        assert (unknown["etcdcluster"], unknown["storage"]) == ("not_decided", "unknown")
        assert ask(client(), "/version", "POST").status == 405

    def test_variables(self) -> None:
        response = ask(client(), "/debug/vars")
        assert text(response).startswith('{\n"cmdline": ["etcdpy"],\n')
        assert json.loads(text(response))["file_descriptor_limit"] == 1024
        assert ask(client(), "/debug/vars", "POST").status == 405

    @pytest.mark.parametrize("path", ["/", "/nope", "/v2/keys", "/health/", "/readyz/nope", "/Version"])
    def test_not_found(self, path: str) -> None:
        response = ask(client(), path)
        assert (response.status, text(response)) == (404, "404 page not found\n")

    @pytest.mark.parametrize("path", ["/v3/nope", "/v3/", "/v3/kv/range", "/v3beta/kv/range"])
    def test_no_gateway(self, path: str) -> None:
        assert text(ask(client(), path, "POST")) == "404 page not found\n"

    def test_a_gateway_gets_its_paths(self) -> None:
        async def gateway(asked: HttpRequest) -> HttpResponse:
            return HttpResponse(200, [], asked.path.encode())

        assert text(ask(client(gateway=gateway), "/v3/kv/put", "POST")) == "/v3/kv/put"
        assert ask(client(gateway=gateway), "/version").status == 200
        assert ("location", "/v3/") in ask(client(gateway=gateway), "/v3").headers

    @pytest.mark.parametrize(
        ("target", "location"),
        [
            ("//version", "/version"),
            ("/x/../version?a=1", "/version?a=1"),
            ("/./health", "/health"),
            ("//evil.example/%0d%0ax:y", "/evil.example/%0D%0Ax:y"),
        ],
    )
    def test_other_spellings_are_redirected(self, target: str, location: str) -> None:
        response = ask(client(), target)
        assert response.status == 307
        assert ("location", location) in response.headers
        assert text(response) == f'<a href="{location}">Temporary Redirect</a>.\n\n'
        assert text(ask(client(), target, "POST")) == ""


class TestAccess:
    def test_hosts_of_plain_http(self) -> None:
        handler = client(Access(hosts=("a.b", "127.0.0.1")))
        for host in ("a.b", "a.b:2379", "127.0.0.1:1"):
            assert ask(handler, "/version", host=host).status == 200
        for host in ("evil", "evil:2379", "", "a.b.", "a.b:1:2"):
            refused = ask(handler, "/version", host=host)
            assert refused.status == 421
            assert "--host-whitelist" in text(refused)
        assert ask(handler, "/version", host="evil", secure=True).status == 200

    def test_all_hosts(self) -> None:
        assert ask(client(Access(hosts=())), "/version", host="evil").status == 200
        assert ask(client(Access(hosts=("*", "a"))), "/version", host="evil").status == 200

    @pytest.mark.parametrize(
        ("host", "name"),
        [("a:1", "a"), ("a", "a"), ("[::1]:2379", "::1"), ("[::1]", "[::1]"), ("a:b:c", "a:b:c"), ("", ""), (":1", "")],
    )
    def test_host_names(self, host: str, name: str) -> None:
        assert host_name(host) == name

    def test_any_origin(self) -> None:
        headers = dict(ask(client(), "/version").headers)
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"
        assert headers["access-control-allow-headers"] == "accept, content-type, authorization"

    def test_chosen_origins(self) -> None:
        handler = client(Access(origins=("http://x:1",)))
        allowed = dict(ask(handler, "/version", headers={"origin": "http://x:1"}).headers)
        assert allowed["access-control-allow-origin"] == "http://x:1"
        for headers in ({"origin": "http://y:1"}, {}):
            assert "access-control-allow-origin" not in dict(ask(handler, "/version", headers=headers).headers)

    def test_options_is_answered_for_every_path(self) -> None:
        response = ask(client(), "/nope", "OPTIONS")
        assert (response.status, response.body) == (200, b"")
        assert dict(response.headers)["access-control-allow-origin"] == "*"


class TestMetricsPort:
    def test_only_metrics_and_health(self) -> None:
        handler = metrics_port(*pages())
        assert ask(handler, "/health", host="evil").status == 200
        assert ask(handler, "/readyz").status == 200
        assert ask(handler, "/metrics").status == 200
        for path in ("/version", "/v3/kv/range", "/debug/vars"):
            assert text(ask(handler, path)) == "404 page not found\n"
        assert ask(handler, "/health", "OPTIONS").status == 405

    def test_a_scrape(self) -> None:
        health, metrics = pages()
        handler = metrics_port(health, metrics)
        plain = ask(handler, "/metrics", "POST")
        assert dict(plain.headers)["content-type"].startswith("text/plain; version=0.0.4; charset=utf-8")
        assert 'promhttp_metric_handler_requests_total{code="200"} 0\n' in text(plain)
        assert "promhttp_metric_handler_requests_in_flight 1\n" in text(plain)
        packed = ask(handler, "/metrics", headers={"accept-encoding": "gzip"})
        assert dict(packed.headers)["content-encoding"] == "gzip"
        assert isinstance(packed.body, bytes)
        assert b'promhttp_metric_handler_requests_total{code="200"} 1\n' in gzip.decompress(packed.body)


@pytest.mark.parametrize("path", ["/v3/kv/range", "/v3beta/kv/range", "/v3/%6bv/range"])
@pytest.mark.parametrize(
    ("name", "names_users", "secure", "status"),
    [("root", True, True, 400), ("root", False, True, 200), ("", True, True, 200), (None, True, True, 200)],
)
def test_who_shows_a_named_certificate_to_the_gateway(
    path: str, name: str | None, names_users: bool, secure: bool, status: int
) -> None:
    """Where names of certificates are users, nobody shall believe that the gateway knows them by it."""

    async def gateway(_asked: HttpRequest) -> HttpResponse:
        return HttpResponse(200)

    health, metrics = pages()
    handler = client_port(
        health=health,
        metrics=metrics,
        versions=Versions,
        variables=dict,
        access=Access(),
        gateway=gateway,
        names_users=lambda: names_users,
    )
    asked = replace(request(path, "POST"), secure=secure, peer=Peer("1.2.3.4:5", name, secure))

    async def run() -> HttpResponse:
        return await handler(asked)

    assert asyncio.run(run()).status == status
