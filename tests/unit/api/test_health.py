"""/health, /livez, /readyz."""

from __future__ import annotations

import asyncio
import json

import pytest

from etcdpy.api.health import Health
from etcdpy.errors import EtcdError, NoLeader, Timeout
from etcdpy.transport.calls import Peer
from etcdpy.transport.exchange import HttpRequest, HttpResponse


class FakeSource:
    """A member in whatever state a test needs."""

    def __init__(self) -> None:
        self.raised: list[str] = []
        self.has_leader = True
        self.is_learner = False
        self.local: EtcdError | None = None
        self.quorum: EtcdError | None = None

    def alarms(self) -> list[str]:
        return self.raised

    def serializable_read(self) -> None:
        if self.local is not None:
            raise self.local

    async def linearizable_read(self) -> None:
        if self.quorum is not None:
            raise self.quorum


def request(target: str, method: str = "GET") -> HttpRequest:
    path, _, query = target.partition("?")
    return HttpRequest(method, path, query, {}, b"", Peer("127.0.0.1:1"), False, "localhost", "HTTP/1.1")


def ask(health: Health, target: str, method: str = "GET") -> HttpResponse:
    asked = request(target, method)

    async def run() -> HttpResponse:
        return await health.paths()[asked.path](asked)

    return asyncio.run(run())


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def told(response: HttpResponse) -> tuple[int, object]:
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


class TestHealth:
    def test_well(self, source: FakeSource) -> None:
        response = ask(Health(source), "/health")
        assert (response.status, response.body) == (200, b'{"health":"true","reason":""}')
        assert response.headers == [("content-type", "text/plain; charset=utf-8")]

    @pytest.mark.parametrize(
        ("alarms", "query", "reason"),
        [
            (["NOSPACE"], "", "ALARM NOSPACE"),
            (["CORRUPT"], "", "ALARM CORRUPT"),
            (["NEW"], "", "ALARM UNKNOWN"),
            (["NOSPACE"], "?exclude=NOSPACE", ""),
            (["NOSPACE", "CORRUPT"], "?exclude=NOSPACE", "ALARM CORRUPT"),
            (["NOSPACE", "CORRUPT"], "?exclude=NOSPACE&exclude=CORRUPT", ""),
            (["NOSPACE"], "?exclude=", "ALARM NOSPACE"),
        ],
    )
    def test_alarms(self, source: FakeSource, alarms: list[str], query: str, reason: str) -> None:
        source.raised = alarms
        status, body = told(ask(Health(source), f"/health{query}"))
        assert (status, body) == (503 if reason else 200, {"health": "false" if reason else "true", "reason": reason})

    def test_a_refusal_ends_with_a_line_end(self, source: FakeSource) -> None:
        source.has_leader = False
        response = ask(Health(source), "/health")
        assert response.body == b'{"health":"false","reason":"RAFT NO LEADER"}\n'
        assert ("x-content-type-options", "nosniff") in response.headers

    def test_serializable_asks_nobody_else(self, source: FakeSource) -> None:
        source.has_leader = False
        source.quorum = Timeout()
        assert ask(Health(source), "/health?serializable=true").status == 200
        assert ask(Health(source), "/health?serializable=1").status == 503
        source.local = Timeout()
        assert ask(Health(source), "/health?serializable=true").status == 503

    def test_a_failed_read(self, source: FakeSource) -> None:
        source.quorum = Timeout()
        _, body = told(ask(Health(source), "/health"))
        assert body == {"health": "false", "reason": "RANGE ERROR:etcdserver: request timed out"}

    def test_answers_are_counted(self, source: FakeSource) -> None:
        health = Health(source)
        ask(health, "/health")
        source.has_leader = False
        ask(health, "/health")
        ask(health, "/health", "POST")
        assert (health.stats().successes, health.stats().failures) == (1, 1)


class TestChecks:
    def test_well(self, source: FakeSource) -> None:
        for path in ("/livez", "/readyz", "/livez/serializable_read", "/readyz/non_learner"):
            response = ask(Health(source), path)
            assert (response.status, response.body) == (200, b"ok\n")

    def test_verbose(self, source: FakeSource) -> None:
        assert ask(Health(source), "/livez?verbose").body == b"[+]serializable_read ok\nok\n"
        assert ask(Health(source), "/readyz/non_learner?verbose=").body == b"[+]non_learner ok\nok\n"

    def test_what_fails_is_listed_whether_asked_or_not(self, source: FakeSource) -> None:
        source.raised = ["CORRUPT", "NOSPACE"]
        source.is_learner = True
        source.quorum = NoLeader()
        response = ask(Health(source), "/readyz")
        assert response.status == 503
        assert response.body == (
            b"[-]data_corruption failed: alarm activated: CORRUPT\n"
            b"[+]serializable_read ok\n"
            b"[-]linearizable_read failed: etcdserver: no leader\n"
            b"[-]non_learner failed: not supported for learner\n\n"
        )
        excluded = "?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner&exclude=nonsense"
        assert ask(Health(source), f"/readyz{excluded}").status == 200

    def test_a_full_disk_is_no_reason_to_send_requests_elsewhere(self, source: FakeSource) -> None:
        source.raised = ["NOSPACE"]
        assert ask(Health(source), "/readyz").status == 200

    def test_a_single_check_ignores_exclude(self, source: FakeSource) -> None:
        source.is_learner = True
        assert ask(Health(source), "/readyz/non_learner?exclude=non_learner").status == 503

    def test_results_are_counted(self, source: FakeSource) -> None:
        health = Health(source)
        ask(health, "/livez")
        source.local = Timeout()
        ask(health, "/livez")
        stats = health.stats()
        assert stats.results == {("livez", "serializable_read"): 0}
        assert stats.checks == {
            ("livez", "serializable_read", "success"): 1,
            ("livez", "serializable_read", "error"): 1,
        }


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz/non_learner"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
def test_only_get(source: FakeSource, path: str, method: str) -> None:
    response = ask(Health(source), path, method)
    assert (response.status, response.body) == (405, b"Method Not Allowed\n")
    assert ("allow", "GET") in response.headers
