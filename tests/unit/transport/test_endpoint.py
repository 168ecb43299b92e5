"""URLs to listen on."""

from __future__ import annotations

import pytest

from etcdpy.transport.connection import looks_like_http1
from etcdpy.transport.listener import Endpoint


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:2379", Endpoint("127.0.0.1", 2379, "", secure=False)),
        ("https://[::1]:2379", Endpoint("::1", 2379, "", secure=True)),
        ("http://localhost:0", Endpoint("localhost", 0, "", secure=False)),
        ("unix:///run/etcd.sock", Endpoint("", 0, "/run/etcd.sock", secure=False)),
        ("unixs://here.sock", Endpoint("", 0, "here.sock", secure=True)),
        ("unix://localhost:2379", Endpoint("", 0, "localhost:2379", secure=False)),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint


@pytest.mark.parametrize("url", ["127.0.0.1:2379", "http://127.0.0.1", "ftp://a:1", "unix://", "http://a:99999"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"listen|path|Port"):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    ("start", "verdict"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"GET / HT", True),
        (b"INVALID CONNECTION PREFACE\r\n\r\n", False),
        (b"\x16\x03\x01\r\n", False),
    ],
)
def test_what_is_no_http_gets_no_answer(start: bytes, verdict: bool) -> None:
    assert looks_like_http1(start) is verdict
