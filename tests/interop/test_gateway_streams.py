"""Streams of the JSON API on a running member: answers as they happen, both directions at once, and how they end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import time
from base64 import b64encode
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import TestAuthority
from tests.support.client import Client, wait_until
from tests.support.members import Member, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHERS = "etcd_debugging_mvcc_watcher_total"


def creating(key: bytes) -> bytes:
    return json.dumps({"create_request": {"key": b64encode(key).decode()}}).encode()


@contextmanager
def asking(member: Member, path: str, body: bytes) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)) as connection:
        connection.request("POST", path, body)
        yield connection.getresponse()


def line(answer: http.client.HTTPResponse) -> Any:
    return json.loads(answer.readline())


def test_events_come_as_they_happen(member: Member, client: Client, prefix: bytes) -> None:
    with asking(member, "/v3/watch", creating(prefix)) as answer:
        assert line(answer)["result"]["created"]
        for number in range(3):
            revision = client.put(prefix, b"%d" % number).header.revision
            event = line(answer)["result"]["events"][0]
            assert event["kv"]["mod_revision"] == str(revision)
        client.delete(prefix)
        assert line(answer)["result"]["events"][0]["type"] == "DELETE"


def test_a_watcher_goes_with_its_client(member: Member, client: Client, prefix: bytes) -> None:
    before = member.metric(WATCHERS)
    with asking(member, "/v3/watch", creating(prefix)) as answer:
        assert line(answer)["result"]["created"]
        assert member.metric(WATCHERS) == before + 1
    wait_until(lambda: member.metric(WATCHERS) == before)


def test_a_waiter_for_a_lock_goes_with_its_client(member: Member, client: Client, prefix: bytes) -> None:
    name = b64encode(prefix).decode()
    leases = [client.grant(60).ID for _ in range(2)]
    requests = [json.dumps({"name": name, "lease": lease}).encode() for lease in leases]
    with asking(member, "/v3/lock/lock", requests[0]) as answer:
        held = json.loads(answer.read())
    with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)) as connection:
        connection.request("POST", "/v3/lock/lock", requests[1])
        wait_until(lambda: client.range(prefix + b"/", prefix + b"0").count == 2)
    wait_until(lambda: [b64encode(kv.key).decode() for kv in client.range(prefix, prefix + b"0").kvs] == [held["key"]])


class TestOurs:
    """What real etcd's gateway does not do, or does otherwise."""

    @pytest.fixture
    def kind(self) -> str:
        return "etcdpy"

    def test_requests_while_answers_come(self, tmp_path: Path) -> None:
        with Member("etcdpy", tmp_path) as member, socket.create_connection(("127.0.0.1", member.client_port)) as sock:
            lines = sock.makefile("rb")
            sock.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            for key in (b"a", b"b", b"c"):
                text = creating(key)
                sock.sendall(b"%x\r\n%b\r\n" % (len(text), text))
                while not (received := lines.readline()).startswith(b"{"):
                    assert received
                assert json.loads(received)["result"]["created"]
            assert member.metric(WATCHERS) == 3
            sock.close()
            lines.close()
            wait_until(lambda: member.metric(WATCHERS) == 0)

    def test_a_member_that_stops_ends_its_streams(self, tmp_path: Path) -> None:
        with Member("etcdpy", tmp_path) as member, asking(member, "/v3/watch", creating(b"a")) as answer:
            assert line(answer)["result"]["created"]
            began = time.monotonic()
            assert member.process is not None
            member.process.send_signal(signal.SIGTERM)
            assert line(answer) == {"error": {"code": 14, "message": "etcdserver: server stopped"}}
            assert answer.read() == b""
            assert member.wait_ended() == 0
            assert time.monotonic() - began < 4, "an open stream held the end up"

    def test_off(self, tmp_path: Path) -> None:
        with Member("etcdpy", tmp_path, flags=["--enable-grpc-gateway=false"]) as member:
            answer = member.http("POST", "/v3/kv/range", body=b"{}")
            assert (answer.status, answer.body) == (404, b"404 page not found\n")

    def test_origins_and_hosts(self, tmp_path: Path) -> None:
        flags = ["--cors=http://good.example:80", "--host-whitelist=127.0.0.1,good.example"]
        with Member("etcdpy", tmp_path, flags=flags) as member:

            def ask(headers: dict[str, str]) -> tuple[int, str | None]:
                with closing(http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=10)) as connection:
                    connection.request("POST", "/v3/maintenance/status", b"", headers)
                    answer = connection.getresponse()
                    return answer.status, answer.getheader("access-control-allow-origin")

            assert ask({"Origin": "http://good.example:80"}) == (200, "http://good.example:80")
            assert ask({"Origin": "http://evil.example"}) == (200, None)
            assert ask({"Host": "good.example"}) == (200, None)
            assert ask({"Host": "evil.example"})[0] == 421

    def test_over_http2(self, tmp_path: Path) -> None:
        """curl speaks HTTP/2 over TLS; its body stays open while the answers come."""
        authority = TestAuthority(tmp_path)
        server, user = authority.issue("server", "server"), authority.issue("client", "client")
        names = (authority.path, server.cert, server.key, user.cert, user.key)
        files = TlsFiles(*map(Path, names))
        with Member("etcdpy", tmp_path, tls=files) as member:
            command = ["curl", "-sN", "--http2", "-X", "POST", "-T", ".", "-w", "%{http_version}"]
            command += ["--cacert", str(files.ca), "--cert", str(files.client_cert), "--key", str(files.client_key)]
            command += ["-H", "Grpc-Timeout: 2S", f"{member.client_url}/v3/watch"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
                assert curl.stdin is not None
                assert curl.stdout is not None
                for key in (b"a", b"b"):
                    curl.stdin.write(creating(key))
                    curl.stdin.flush()
                    assert json.loads(curl.stdout.readline())["result"]["created"]
                curl.stdin.close()
                assert curl.stdout.read() == b'{"error":{"code":4,"message":"context deadline exceeded"}}\n2'
