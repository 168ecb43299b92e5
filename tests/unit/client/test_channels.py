from __future__ import annotations

from pathlib import Path

import pytest

from etcdpy.client.channels import TlsFiles, open_channel, target_of


@pytest.mark.parametrize(
    ("endpoint", "target", "secure"),
    [
        ("10.0.0.1:2379", "10.0.0.1:2379", None),
        ("localhost:2379", "localhost:2379", None),
        ("http://10.0.0.1:2379", "10.0.0.1:2379", False),
        ("https://etcd.example:2379/", "etcd.example:2379", True),
        ("https://[::1]:2379", "[::1]:2379", True),
        ("unix:///run/etcd.sock", "unix:/run/etcd.sock", False),
        ("unixs:///run/etcd.sock", "unix:/run/etcd.sock", True),
        ("unix:local.sock", "unix:local.sock", False),
        ("unix://local.sock", "unix:local.sock", False),
    ],
)
def test_endpoints_are_understood(endpoint: str, target: str, secure: bool | None) -> None:
    assert target_of(endpoint) == (target, secure)


def test_a_missing_tls_file_is_named() -> None:
    tls = TlsFiles(trusted_ca=Path("/nowhere/ca.pem"))
    with pytest.raises(FileNotFoundError, match=r"/nowhere/ca\.pem"):
        open_channel("127.0.0.1:1", tls)


def test_http_ignores_tls_files_as_etcd_does() -> None:
    open_channel("http://127.0.0.1:1", TlsFiles(trusted_ca=Path("/nowhere/ca.pem"))).close()
