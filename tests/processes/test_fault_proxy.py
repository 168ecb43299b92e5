"""The fault proxy does to connections what it says, and tells apart who made them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster import listener
from tests.support.fault_proxy import FaultProxy, process_of_connection

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo:
    """A server that gives back what it gets."""

    def __init__(self) -> None:
        self.socket = listener()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            while data := connection.recv(65_536):
                connection.sendall(data)


@pytest.fixture
def proxied() -> Iterator[tuple[FaultProxy, int]]:
    """A proxy before an echo that counts as member `b`; this process is member `a`."""
    echo, front = Echo(), listener()
    with FaultProxy(lambda: {"a": os.getpid()}) as proxy:
        proxy.add("b", front, echo.socket.getsockname()[1])
        yield proxy, front.getsockname()[1]
    echo.socket.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (data := connection.recv(65_536)):
        received += data
    return received


def silent(connection: socket.socket, seconds: float = 0.2) -> bool:
    connection.settimeout(seconds)
    try:
        return not connection.recv(1) and False
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)


def test_everything_passes_and_ends_are_handed_on(proxied: tuple[FaultProxy, int]) -> None:
    data = os.urandom(3_000_000)
    with connect(proxied[1]) as connection:
        sending = threading.Thread(target=connection.sendall, args=(data,))
        sending.start()
        assert receive(connection, len(data)) == data
        sending.join()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_a_stalled_way_keeps_what_it_is_given(proxied: tuple[FaultProxy, int], way: tuple[str, str]) -> None:
    proxy, port = proxied
    with connect(port) as connection:
        connection.sendall(b"one")
        assert receive(connection, 3) == b"one"
        proxy.stall(*way)
        connection.sendall(b"two")
        assert silent(connection)
        proxy.heal()
        assert receive(connection, 3) == b"two"
        proxy.stall("a", "c")
        connection.sendall(b"three")
        assert receive(connection, 5) == b"three"


def test_who_is_isolated_hears_nothing_of_resets(proxied: tuple[FaultProxy, int]) -> None:
    proxy, port = proxied
    with connect(port) as connection:
        connection.sendall(b"one")
        assert receive(connection, 3) == b"one"
        proxy.isolate(["b"], ["a", "c"])
        connection.shutdown(socket.SHUT_WR)
        assert silent(connection)
        proxy.heal()
        assert connection.recv(1) == b""


def test_cut_resets_and_refuses(proxied: tuple[FaultProxy, int]) -> None:
    proxy, port = proxied
    with connect(port) as connection:
        connection.sendall(b"one")
        assert receive(connection, 3) == b"one"
        proxy.cut("a", "b")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionError), connect(port) as connection:
        connection.recv(1)
    proxy.heal()
    with connect(port) as connection:
        connection.sendall(b"two")
        assert receive(connection, 3) == b"two"


def test_a_slow_link_takes_its_time(proxied: tuple[FaultProxy, int]) -> None:
    proxy, port = proxied
    proxy.slow("a", "b", delay_seconds=0.2)
    with connect(port) as connection:
        begun = time.monotonic()
        connection.sendall(b"one")
        assert receive(connection, 3) == b"one"
        assert 0.2 <= time.monotonic() - begun < 1
        proxy.slow("a", "b", bytes_per_second=1_000_000)
        begun = time.monotonic()
        connection.sendall(bytes(300_000))
        assert len(receive(connection, 300_000)) == 300_000
        assert 0.3 <= time.monotonic() - begun < 2


def test_the_caller_is_found_by_its_process() -> None:
    program = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with listener() as front:
        command = [sys.executable, "-c", program, str(front.getsockname()[1])]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        connection, (_, caller) = front.accept()
        with connection:
            processes = {"us": os.getpid(), "child": child.pid}
            assert process_of_connection(caller, processes) == "child"
            assert process_of_connection(caller, {"us": os.getpid()}) == ""
        child.communicate()
