"""/health, /livez and /readyz: whether the member is alive, and whether it should get requests.

/health is etcd's old path: alarms, a leader, one read. /livez and /readyz are lists of named checks, each a path of its
own; a full disk (NOSPACE) fails /health and leaves /readyz alone, since reads are still served.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs

from etcdpy.api.stats import HealthStats
from etcdpy.errors import EtcdError
from etcdpy.transport.exchange import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("etcdpy.api.health")

TEXT: Final = ("content-type", "text/plain; charset=utf-8")
NOSNIFF: Final = ("x-content-type-options", "nosniff")

Check = Callable[[], Awaitable[str | None]]
"""One check: None when all is well, otherwise why not."""


class HealthSource(Protocol):
    """What health is made of. The server has it."""

    def alarms(self) -> Sequence[str]:
        """The alarms raised on any member: `NOSPACE`, `CORRUPT`."""
        ...

    @property
    def has_leader(self) -> bool:
        """Whether the member knows a leader."""
        ...

    @property
    def is_learner(self) -> bool:
        """Whether the member has no vote."""
        ...

    def serializable_read(self) -> None:
        """Read from the local store. Raises EtcdError."""
        ...

    async def linearizable_read(self) -> None:
        """Read what the quorum agrees on. Raises EtcdError, a timeout included."""
        ...


def error_response(status: int, text: str, *headers: tuple[str, str]) -> HttpResponse:
    """A refusal as Go's http.Error writes it: plain text and a line end."""
    return HttpResponse(status, [*headers, TEXT, NOSNIFF], text.encode() + b"\n")


def not_allowed() -> HttpResponse:
    """405 for a path that is read with GET."""
    return error_response(405, "Method Not Allowed", ("allow", "GET"))


def query_values(request: HttpRequest) -> dict[str, list[str]]:
    """The query by name, empty values kept."""
    return parse_qs(request.query, keep_blank_values=True)


def health_answer(reason: str) -> HttpResponse:
    """/health: `reason` says why the server is not well; empty where it is."""
    body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":"))
    if not reason:
        return HttpResponse(200, [TEXT], body.encode())
    logger.warning("/health error", extra={"fields": {"output": body, "status-code": 503}})
    return error_response(503, body)


class Health:
    """The health paths, and the counts that /metrics shows of them."""

    def __init__(self, source: HealthSource) -> None:
        self._source = source
        self._good = 0
        self._bad = 0
        self._results: dict[tuple[str, ...], float] = {}
        self._counts: dict[tuple[str, ...], float] = {}
        self._checks: dict[str, dict[str, Check]] = {
            "livez": {"serializable_read": self._serializable_read},
            "readyz": {
                "data_corruption": self._data_corruption,
                "serializable_read": self._serializable_read,
                "linearizable_read": self._linearizable_read,
                "non_learner": self._non_learner,
            },
        }

    def paths(self) -> dict[str, Callable[[HttpRequest], Awaitable[HttpResponse]]]:
        """Every path with its handler."""
        found: dict[str, Callable[[HttpRequest], Awaitable[HttpResponse]]] = {"/health": self.health}
        for kind, checks in self._checks.items():
            found[f"/{kind}"] = self._handler(kind, None)
            for name in checks:
                found[f"/{kind}/{name}"] = self._handler(kind, name)
        return found

    def stats(self) -> HealthStats:
        """The counts so far."""
        return HealthStats(self._good, self._bad, self._results, self._counts)

    async def health(self, request: HttpRequest) -> HttpResponse:
        """GET /health, with `exclude=<alarm>` and `serializable=true`."""
        if request.method != "GET":
            return not_allowed()
        query = query_values(request)
        reason = await self._trouble(set(query.get("exclude", ())), query.get("serializable", [""])[0] == "true")
        if reason:
            self._bad += 1
        else:
            self._good += 1
        return health_answer(reason)

    async def _trouble(self, excluded: set[str], serializable: bool) -> str:
        for alarm in self._source.alarms():
            if alarm not in excluded:
                return f"ALARM {alarm}" if alarm in ("NOSPACE", "CORRUPT") else "ALARM UNKNOWN"
        if not serializable and not self._source.has_leader:
            return "RAFT NO LEADER"
        problem = await (self._serializable_read() if serializable else self._linearizable_read())
        return f"RANGE ERROR:{problem}" if problem else ""

    def _handler(self, kind: str, only: str | None) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
        path = f"/{kind}/{only}" if only else f"/{kind}"

        async def handle(request: HttpRequest) -> HttpResponse:
            if request.method != "GET":
                return not_allowed()
            query = query_values(request)
            names = [only] if only else self._chosen(kind, query.get("exclude", ()))
            report, well = await self._run(kind, names)
            if not well:
                fields = {"path": path, "reason": report, "status-code": 503}
                logger.error("Health check error", extra={"fields": fields})
                return error_response(503, report)
            shown = report if "verbose" in query else ""
            return HttpResponse(200, [TEXT, NOSNIFF], f"{shown}ok\n".encode())

        return handle

    def _chosen(self, kind: str, excluded: Sequence[str]) -> list[str]:
        known = self._checks[kind]
        unknown = sorted({name for name in excluded if name and name not in known})
        if unknown:
            fields = {"missing-health-checks": ",".join(f'"{name}"' for name in unknown)}
            logger.warning("some health checks cannot be excluded", extra={"fields": fields})
        return [name for name in known if name not in excluded]

    async def _run(self, kind: str, names: Sequence[str]) -> tuple[str, bool]:
        lines, well = [], True
        for name in names:
            problem = await self._checks[kind][name]()
            status = "error" if problem else "success"
            well = well and not problem
            lines.append(f"[-]{name} failed: {problem}\n" if problem else f"[+]{name} ok\n")
            self._results[kind, name] = 0.0 if problem else 1.0
            self._counts[kind, name, status] = self._counts.get((kind, name, status), 0) + 1
        return "".join(lines), well

    # --- the checks ---

    async def _data_corruption(self) -> str | None:
        return "alarm activated: CORRUPT" if "CORRUPT" in self._source.alarms() else None

    async def _serializable_read(self) -> str | None:
        try:
            self._source.serializable_read()
        except EtcdError as error:
            return error.message
        return None

    async def _linearizable_read(self) -> str | None:
        try:
            await self._source.linearizable_read()
        except EtcdError as error:
            return error.message
        return None

    async def _non_learner(self) -> str | None:
        return "not supported for learner" if self._source.is_learner else None
