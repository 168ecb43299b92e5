"""What is printed: how to talk to the members, and how they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.local.ask import Asker, Status
    from etcdpy.local.place import Place

LIVE_SECONDS: Final = 1.0
PLAIN_SECONDS: Final = 60.0


def flags_text(place: Place) -> str:
    """The TLS flags of etcdctl and of everything that is called as it is."""
    tls = place.client_tls
    return f"--endpoints={place.endpoints} --cacert={tls.trusted_ca} --cert={tls.certificate} --key={tls.key}"


def curl_text(place: Place) -> str:
    """A health check over HTTP/1.1."""
    tls = place.client_tls
    return f"curl --cacert {tls.trusted_ca} --cert {tls.certificate} --key {tls.key} {place.members[0].endpoint}/health"


def python_text(place: Place) -> str:
    """A program that puts and gets."""
    tls = place.client_tls
    return f"""\
from pathlib import Path
from etcdpy.client import Client, TlsFiles

tls = TlsFiles(Path("{tls.trusted_ca}"), Path("{tls.certificate}"), Path("{tls.key}"))
with Client("{place.endpoints}", tls=tls) as client:
    client.put("greeting", "hello")
    print(client.get("greeting").kvs[0].value)
"""


def guide(place: Place) -> str:
    """How to talk to the members."""
    indented = "\n".join(f"    {line}".rstrip() for line in python_text(place).splitlines())
    return f"""\
etcdctl (or .venv/bin/etcdpyctl, which takes the same flags):

    TLS="{flags_text(place)}"
    etcdctl $TLS put greeting hello
    etcdctl $TLS get --prefix ""

HTTP:

    {curl_text(place)}

Python (.venv/bin/python):

{indented}
"""


def status_line(name: str, status: Status | None) -> str:
    """One line for logs."""
    if status is None:
        return f"{name} does not answer"
    return (
        f"{name} {status.role}, term {status.raft_term}, revision {status.revision}, {status.keys} keys, "
        f"{status.db_bytes / 1e6:.1f} MB, raft index {status.raft_index}"
    )


def watch_plainly(askers: Sequence[Asker], goes_on: Callable[[float], bool]) -> None:
    """A line for each member now and then: when a standing changed, and once a minute. `goes_on` waits, and says
    whether there is more to come."""
    shown_at, shown_standings = 0.0, object()
    while goes_on(0):
        found = [asker.status() for asker in askers]
        standings = [status and (status.role, status.raft_term) for status in found]
        if standings != shown_standings or time.monotonic() - shown_at >= PLAIN_SECONDS:
            for asker, status in zip(askers, found, strict=True):
                click.echo(f"{time.strftime('%H:%M:%S')} {status_line(asker.member.name, status)}")
            shown_at, shown_standings = time.monotonic(), standings
        goes_on(LIVE_SECONDS)


COLUMNS: Final = ("MEMBER", "ROLE", "TERM", "REVISION", "KEYS", "DB SIZE", "RAFT INDEX")
"""As many as fit into a terminal of 80 columns."""


def watch_live(askers: Sequence[Asker], goes_on: Callable[[float], bool]) -> None:
    """A table on the terminal that changes in place."""
    from rich.live import Live
    from rich.table import Table

    def table(statuses: Sequence[Status | None], rate: float) -> Table:
        drawn = Table(title=f"{rate:,.0f} writes/s   (Ctrl-C stops all)", title_justify="left")
        for name in COLUMNS:
            drawn.add_column(name, justify="left" if name in ("MEMBER", "ROLE") else "right")
        for asker, status in zip(askers, statuses, strict=True):
            drawn.add_row(asker.member.name, *(_cells(status) if status else ("no answer",)))
        return drawn

    def written(statuses: Sequence[Status | None]) -> int:
        return max((status.raft_index for status in statuses if status), default=0)

    before, before_at = [asker.status() for asker in askers], time.monotonic()
    with Live(table(before, 0.0), auto_refresh=False) as live:
        while goes_on(LIVE_SECONDS):
            now, now_at = [asker.status() for asker in askers], time.monotonic()
            live.update(table(now, (written(now) - written(before)) / (now_at - before_at)), refresh=True)
            before, before_at = now, now_at


def _cells(status: Status) -> tuple[str, ...]:
    numbers = (f"{status.revision:,}", f"{status.keys:,}", f"{status.db_bytes / 1e6:.1f} MB", f"{status.raft_index:,}")
    return status.role, str(status.raft_term), *numbers
