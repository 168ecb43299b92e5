"""Talking to systemd."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

import pytest

from etcdpy.server import notify

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_state_reaches_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@etcdpy-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        for send, text in (
            (notify.ready, b"READY=1"),
            (notify.watchdog, b"WATCHDOG=1"),
            (notify.stopping, b"STOPPING=1"),
            (lambda: notify.status("leads\nnow"), b"STATUS=leads now"),
        ):
            assert send()
            assert manager.recv(100) == text


@pytest.mark.parametrize("address", ["", "/", "@", "relative", "/no/such/socket", "/" + "x" * 200, "@a\0b"])
def test_nothing_there_is_no_error(address: str) -> None:
    assert not notify.notify("READY=1", {"NOTIFY_SOCKET": address})
    assert not notify.notify("READY=1", {})


def test_a_manager_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        sent = [notify.notify("WATCHDOG=1", {"NOTIFY_SOCKET": name}) for _ in range(2000)]
    assert sent[0]
    assert not sent[-1]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], seconds: float | None) -> None:
    assert notify.watchdog_interval_seconds(environ, pid=7) == seconds
