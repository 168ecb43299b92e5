"""URLs of listeners and members."""

from __future__ import annotations

import pytest

from etcdpy.server.urls import UrlError, check_bindable, check_reachable, parse_initial_cluster, parse_url


@pytest.mark.parametrize(
    ("text", "scheme", "address"),
    [
        ("http://localhost:2379", "http", "localhost:2379"),
        (" HTTPS://10.0.0.1:1 ", "https", "10.0.0.1:1"),
        ("http://[::1]:2379", "http", "[::1]:2379"),
        ("http://:2379", "http", ":2379"),
        ("unix:///run/etcd.sock", "unix", "/run/etcd.sock"),
        ("unixs://localhost:12345", "unixs", "localhost:12345"),
        ("unix:/run/etcd.sock", "unix", "/run/etcd.sock"),
    ],
)
def test_parts(text: str, scheme: str, address: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.address) == (scheme, address)
    assert url.secure == (scheme in ("https", "unixs"))
    assert str(parse_url(str(url))) == str(url)


@pytest.mark.parametrize(
    "text",
    [
        "", "foo", "localhost:2379", "127.0.0.1:2379", "ftp://a:1", "http://a", "http://a:", "http://a:b", "http://a:99999",
        "http://a:1/", "http://a:1/x", "http://a:1?x", "http://[::1:1", "http://::1:1", "unix://", "http://a\n:1",
        "http:///x:1",
    ],
)  # fmt: skip
def test_no_urls(text: str) -> None:
    with pytest.raises(UrlError):
        parse_url(text)


@pytest.mark.parametrize("text", ["http://example.com:1", "http://:1", "http://[fe80::1%eth0]:1", "http://1.2.3:1"])
def test_names_are_not_bound(text: str) -> None:
    with pytest.raises(UrlError, match="expected IP in URL for binding"):
        check_bindable([parse_url(text)])


def test_what_is_bound() -> None:
    check_bindable(
        [parse_url(text) for text in ("http://localhost:1", "http://0.0.0.0:1", "http://[::]:1", "unix://a:1")]
    )


def test_a_member_must_be_reachable() -> None:
    check_reachable([parse_url("http://name:1"), parse_url("unix:///a")])
    with pytest.raises(UrlError, match=r"unexpected empty host \(http://:1\)"):
        check_reachable([parse_url("http://:1")])


def test_initial_cluster() -> None:
    found = parse_initial_cluster("a=http://h:2,b=http://g:1,,a=http://h:1")
    assert {name: [str(url) for url in urls] for name, urls in found.items()} == {
        "a": ["http://h:1", "http://h:2"],
        "b": ["http://g:1"],
    }
    with pytest.raises(UrlError):
        parse_initial_cluster("a")
