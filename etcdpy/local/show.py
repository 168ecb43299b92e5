"""What is printed: how to talk to the member, and how it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import subprocess
    import threading

    from etcdpy.local.ask import Asker, Status
    from etcdpy.local.place import Place

LIVE_SECONDS: Final = 1.0
PLAIN_SECONDS: Final = 60.0


def flags_text(place: Place) -> str:
    """The TLS flags of etcdctl and of everything that is called as it is."""
    tls = place.client_tls
    return f"--endpoints={place.endpoint} --cacert={tls.trusted_ca} --cert={tls.certificate} --key={tls.key}"


def curl_text(place: Place) -> str:
    """A health check over HTTP/1.1."""
    tls = place.client_tls
    return f"curl --cacert {tls.trusted_ca} --cert {tls.certificate} --key {tls.key} {place.endpoint}/health"


def python_text(place: Place) -> str:
    """A program that puts and gets."""
    tls = place.client_tls
    return f"""\
from pathlib import Path
from etcdpy.client.channels import TlsFiles, open_channel
from etcdpy.client.stubs import KV
from etcdpy.proto import rpc_pb2

tls = TlsFiles(Path("{tls.trusted_ca}"), Path("{tls.certificate}"), Path("{tls.key}"))
with open_channel("{place.endpoint}", tls) as channel:
    KV(channel).Put(rpc_pb2.PutRequest(key=b"greeting", value=b"hello"))
    print(KV(channel).Range(rpc_pb2.RangeRequest(key=b"greeting")).kvs[0].value)
"""


def guide(place: Place) -> str:
    """How to talk to the member."""
    indented = "\n".join(f"    {line}".rstrip() for line in python_text(place).splitlines())
    return f"""\
etcdctl (or .venv/bin/etcdpyctl, which takes the same flags):

    etcdctl {flags_text(place)} put greeting hello
    etcdctl {flags_text(place)} get --prefix ""

HTTP:

    {curl_text(place)}

Python (.venv/bin/python):

{indented}
"""


def status_line(status: Status | None) -> str:
    """One line for logs."""
    if status is None:
        return "does not answer"
    role = "leader" if status.leads else "follower"
    return (
        f"{role}, revision {status.revision}, {status.keys} keys, {status.db_bytes / 1e6:.1f} MB, "
        f"term {status.raft_term}, raft index {status.raft_index}"
    )


def watch_plainly(asker: Asker, process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    """A line now and then: when the standing changed, and once a minute."""
    shown_at, shown_standing = 0.0, object()
    while process.poll() is None:
        status = asker.status()
        standing = status and (status.leads, status.raft_term)
        if standing != shown_standing or time.monotonic() - shown_at >= PLAIN_SECONDS:
            click.echo(f"{time.strftime('%H:%M:%S')} {status_line(status)}")
            shown_at, shown_standing = time.monotonic(), standing
        if stopping.wait(LIVE_SECONDS):
            break


def watch_live(asker: Asker, process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    """A table on the terminal that changes in place."""
    from rich.live import Live
    from rich.table import Table

    def table(status: Status | None, rate: float) -> Table:
        drawn = Table(title="controller-0   (Ctrl-C stops it)", title_justify="left")
        for name in ("ROLE", "REVISION", "KEYS", "DB SIZE", "TERM", "RAFT INDEX", "WRITES/S", "VERSION"):
            drawn.add_column(name, justify="right")
        if status is None:
            drawn.add_row("does not answer")
        else:
            numbers = (f"{number:,}" for number in (status.revision, status.keys))
            size = f"{status.db_bytes / 1e6:.1f} MB"
            rest = (str(status.raft_term), f"{status.raft_index:,}", f"{rate:,.0f}", status.version)
            drawn.add_row("leader" if status.leads else "follower", *numbers, size, *rest)
        return drawn

    before, before_at = asker.status(), time.monotonic()
    with Live(table(before, 0.0), auto_refresh=False) as live:
        while not stopping.wait(LIVE_SECONDS) and process.poll() is None:
            now, now_at = asker.status(), time.monotonic()
            written = now.raft_index - before.raft_index if now and before else 0
            live.update(table(now, written / (now_at - before_at)), refresh=True)
            before, before_at = now, now_at
