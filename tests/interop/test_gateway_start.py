"""`gateway start` of both kinds in front of the same members: who gets the connections, and what is refused."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from etcdpy.duration import format_duration
from etcdpy.proxy.flags import GATEWAY, Flag
from tests.support.client import Client
from tests.support.members import command_of, free_port
from tests.support.proxies import Proxy
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.members import Kind, Member


class Named:
    """An endpoint that says its name to whoever connects, and counts them."""

    def __init__(self, name: bytes, port: int = 0) -> None:
        self.name = name
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self.socket.getsockname()[1])
        self.endpoint = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self.socket.accept()
                with accepted, contextlib.suppress(OSError):
                    accepted.sendall(self.name)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join()


@contextlib.contextmanager
def named(*names: bytes) -> Iterator[list[Named]]:
    found = [Named(name) for name in names]
    try:
        yield found
    finally:
        for each in found:
            with contextlib.suppress(OSError):
                each.close()


def answer(port: int) -> bytes:
    """What the endpoint behind the gateway says; nothing where there is none."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        return connection.makefile("rb").read()


def test_clients_take_turns_and_an_endpoint_that_is_down_is_left_out(kind: Kind, tmp_path: Path) -> None:
    with (
        named(b"a", b"b", b"c") as ends,
        Proxy(kind, "gateway", tmp_path, [end.endpoint for end in ends], ["--retry-delay=200ms"]) as proxy,
    ):
        answers = Counter(answer(proxy.port) for _ in range(9))
        assert len(answers) == 3, answers
        assert max(answers.values()) <= 4  # the probe that waited for the gateway took a turn too
        ends[1].close()
        assert sorted({answer(proxy.port) for _ in range(6)}) == [b"a", b"c"]
        assert '"deactivated endpoint"' in proxy.log_text()
        assert f'"address":"{ends[1].endpoint}"' in proxy.log_text()
        ends[1] = Named(b"again", ends[1].port)
        deadline = time.monotonic() + 10
        while answer(proxy.port) != b"again":
            assert time.monotonic() < deadline, proxy.log_text()
        assert '"activated"' in proxy.log_text()


def test_without_an_endpoint_a_client_is_sent_away(kind: Kind, tmp_path: Path) -> None:
    with Proxy(kind, "gateway", tmp_path, [f"http://127.0.0.1:{free_port()}"]) as proxy:
        assert answer(proxy.port) == b""


def test_grpc_passes(kind: Kind, member: Member, tmp_path: Path, prefix: bytes) -> None:
    with (
        Proxy(kind, "gateway", tmp_path, [member.client_url]) as proxy,
        Client(proxy.endpoint) as client,
    ):
        client.put(prefix + b"k", b"v" * 1_000_000)
        assert client.range(prefix + b"k").kvs[0].value == b"v" * 1_000_000


def outcome(kind: Kind, flags: Sequence[str], what: str = "gateway") -> tuple[int, str]:
    command = [*command_of(kind), what, "start", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    told = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("{")]
    return done.returncode, told[0] if told else ""


@pytest.mark.reference
@pytest.mark.parametrize(
    "flags",
    [
        ["--listen-addr=nowhere"],
        ["--endpoints=nowhere"],
        ["--endpoints=127.0.0.1:23790"],
        ["--endpoints=http://localhost:23790", "--listen-addr=localhost:23790"],
        ["--endpoints=no-such-host.invalid:1"],
        ["--retry-delay=soon"],
        ["--no-such-flag"],
    ],
)
def test_what_is_refused(flags: list[str]) -> None:
    def comparable(told: tuple[int, str]) -> tuple[int, str]:
        # An address of a name that has several may be either one; etcd ends some of its lines where its log begins.
        return told[0], re.sub(r"->.*:23790\)", "->x)", told[1]).partition('{"level"')[0]

    assert comparable(outcome("etcdpy", flags)) == comparable(outcome("etcd", flags))


def flags_of_help(text: str) -> dict[str, tuple[str, str]]:
    """Name -> (type, default) as cobra prints them."""
    pattern = r"^ +(?:-\w, )?--([\w-]+)(?: (string|strings|duration|int|uint|uint32))? {2,}(.*)$"
    found = {}
    for name, kind, rest in re.findall(pattern, text, re.MULTILINE):
        default = re.search(r'\(default ("?)([^()]*?)\1\)$', rest)
        found[name] = (kind or "bool", default[2] if default else "")
    del found["help"]
    return found


def shown_default(flag: Flag) -> str:
    """The default as pflag prints it: none where it is the type's own."""
    if not flag.default:
        return ""
    if flag.kind == "duration":
        return format_duration(flag.default)
    return f"[{','.join(flag.default)}]" if flag.kind == "strings" else str(flag.default)


def assert_same_flags(what: str, flags: Sequence[Flag]) -> None:
    command = [str(reference_binary("etcd")), what, "start", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert {flag.name: (flag.kind, shown_default(flag)) for flag in flags} == flags_of_help(told)


@pytest.mark.reference
def test_the_flags_are_etcds() -> None:
    assert_same_flags("gateway", GATEWAY)
