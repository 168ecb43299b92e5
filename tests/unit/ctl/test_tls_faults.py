"""TLS that fails is explained by file, name and date: each fault is planted, and named."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import pytest

from etcdpy.ctl.members import member_list
from etcdpy.ctl.options import Options, read_options
from etcdpy.ctl.tls_faults import explain
from tests.support.certificates import Leaf, TestAuthority, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

YEAR = datetime.timedelta(days=365)
ENDED = datetime.timedelta(days=1, minutes=2)


def options(ca: str = "", leaf: Leaf | None = None, key: str = "") -> Options:
    given = {"ETCDCTL_CACERT": ca, "ETCDCTL_CERT": leaf.cert if leaf else "", "ETCDCTL_KEY": leaf.key if leaf else ""}
    return read_options(click.Context(member_list), {**given, **({"ETCDCTL_KEY": key} if key else {})})


@contextmanager
def listening(context: ssl.SSLContext | None, answer: bytes = b"\0" * 9) -> Iterator[str]:
    """A server that reads something and answers something; over TLS with a context. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain:
                    plain.settimeout(2)
                    try:
                        if context is None:
                            plain.recv(100)
                            plain.sendall(answer)
                            continue
                        with context.wrap_socket(plain, server_side=True) as secured:
                            secured.recv(100)
                            secured.sendall(answer)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def server(leaf: Leaf, clients: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.cert, leaf.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("other"), "other")


def told(given: Options, context: ssl.SSLContext | None, **changes: bytes) -> str:
    with listening(context, **changes) as address:
        return "\n".join(explain(given, address)).replace(address, "ADDRESS")


def date(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def test_what_is_well_needs_no_word(authority: TestAuthority) -> None:
    leaf, client = authority.issue("server", "m1"), authority.issue("client", "root")
    assert told(options(authority.path, client), server(leaf, authority.path)) == ""
    assert told(options(), None) == ""
    assert explain(options(authority.path), "127.0.0.1:1") == []
    assert explain(options(authority.path), "unixs:absent.sock") == []


def test_a_server_certificate_that_has_expired(authority: TestAuthority) -> None:
    leaf = authority.issue("server", "old", days=1, now=utc_now() - ENDED)
    end = date(leaf.certificate.not_valid_after_utc)
    assert told(options(authority.path), server(leaf)) == f"ADDRESS: its certificate CN=old expired at {end}"


def test_a_server_certificate_of_tomorrow(authority: TestAuthority) -> None:
    leaf = authority.issue("server", "new", days=30, now=utc_now() + YEAR)
    begin = date(leaf.certificate.not_valid_before_utc)
    text = f"ADDRESS: its certificate CN=new is not valid before {begin}: is a clock wrong?"
    assert told(options(authority.path), server(leaf)) == text


def test_another_authority(authority: TestAuthority, other: TestAuthority) -> None:
    leaf = authority.issue("server", "m1")
    text = f"was signed by CN=test ca, which is not in {other.path}: there is CN=test other"
    assert told(options(other.path), server(leaf)) == f"ADDRESS: its certificate CN=m1 {text}"


def test_an_authority_that_was_made_anew(authority: TestAuthority, tmp_path: Path) -> None:
    again = TestAuthority(tmp_path)
    text = f"was not signed by {again.path}: there is CN=test ca in it, with another key. Was the CA made anew?"
    assert (
        told(options(again.path), server(authority.issue("server", "m1"))) == f"ADDRESS: its certificate CN=m1 {text}"
    )


def test_a_name_that_is_missing(authority: TestAuthority) -> None:
    leaf = authority.issue("server", "m1", dns=("m1.example.com",), ip=("10.0.0.1",))
    text = "does not name 127.0.0.1: it names m1.example.com, 10.0.0.1"
    assert told(options(authority.path), server(leaf)) == f"ADDRESS: its certificate CN=m1 {text}"


def test_a_client_certificate_that_is_missing(authority: TestAuthority) -> None:
    text = "ADDRESS wants a client certificate: name one by --cert and --key"
    assert told(options(authority.path), server(authority.issue("server", "m1"), authority.path)) == text


def test_a_client_certificate_that_is_refused(authority: TestAuthority, other: TestAuthority) -> None:
    client = other.issue("client", "guest")
    found = told(options(authority.path, client), server(authority.issue("server", "m1"), authority.path))
    assert found.startswith(
        f"ADDRESS refused the client certificate {client.cert} (CN=guest, signed by CN=test other):"
    )
    assert "unknown ca" in found


def test_files_of_our_own_at_fault(authority: TestAuthority, tmp_path: Path) -> None:
    context = server(authority.issue("server", "m1"))
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert told(options(str(empty)), context) == f"{empty} holds no certificate"
    old = authority.issue("client", "old", days=1, now=utc_now() - ENDED)
    end = date(old.certificate.not_valid_after_utc)
    found = told(options(authority.path, old), context)
    assert found == f"{old.cert}: the client certificate CN=old expired at {end}"
    one, two = authority.issue("client", "one"), authority.issue("client", "two")
    found = told(options(authority.path, one, two.key), context)
    assert found == f"{two.key} is not the key of {one.cert}, or cannot be read without a password"
    wrong = authority.issue("server", "m2")
    assert "is no certificate for clients" in told(options(authority.path, wrong), context)


def test_tls_on_one_side_alone(authority: TestAuthority) -> None:
    found = told(options(), server(authority.issue("server", "m1"), authority.path))
    assert found == "ADDRESS speaks TLS: write https://ADDRESS, and name its CA by --cacert"
    found = told(options(authority.path), None, answer=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert found == "ADDRESS speaks no TLS: write http://ADDRESS"
