"""`--auto-tls`: made once, used again, renewed when it cannot serve."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from etcdpy.transport import tls_selfsigned
from etcdpy.transport.tls import ServerTls, ServerTlsConfig, TlsConfigError, ensure_self_signed
from tests.support.certificates import client, shake_hands

DAY = 86_400


def certificate_of(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_a_fresh_pair_serves_and_names_its_hosts(tmp_path: Path) -> None:
    made = ensure_self_signed(tmp_path / "fixtures" / "client", ["127.0.0.1:2379", "localhost:2379", "[::1]:2379"], 1)
    assert made.created
    assert made.cert_file == str(tmp_path / "fixtures" / "client" / "cert.pem")
    assert made.key_file == str(tmp_path / "fixtures" / "client" / "key.pem")
    certificate = certificate_of(made.cert_file)
    assert certificate.subject.rfc4514_string() == "O=etcd"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    tls = ServerTls(ServerTlsConfig(made.cert_file, made.key_file))
    verified = shake_hands(tls.context(), client(made.cert_file), name="127.0.0.1")
    assert (verified.client_error, verified.server_error) == (None, None)


def test_permissions(tmp_path: Path) -> None:
    made = ensure_self_signed(tmp_path / "fixtures", ["localhost"], 1)
    assert Path(made.key_file).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "fixtures").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "fixtures").iterdir()) == ["cert.pem", "key.pem"]


def test_a_restart_uses_it_again_until_it_expires(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "etcdpy.transport.tls")
    now = time.time()
    first = ensure_self_signed(tmp_path, ["localhost"], 2, now=lambda: now)
    assert first.not_after == pytest.approx(now + 2 * 365 * DAY, abs=1)
    again = ensure_self_signed(tmp_path, ["localhost"], 2, now=lambda: now + 729 * DAY)
    assert (again.created, again.not_after) == (False, first.not_after)
    renewed = ensure_self_signed(tmp_path, ["localhost"], 2, now=lambda: now + 731 * DAY)
    assert renewed.created
    assert renewed.not_after > first.not_after
    assert [record.getMessage() for record in caplog.records] == ["automatically generate certificates"] * 2
    assert "expired at" in str(vars(caplog.records[-1])["fields"]["reason"])


def test_a_crash_between_key_and_certificate_mends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_self_signed(tmp_path, ["localhost"], 1)
    old_certificate = Path(first.cert_file).read_bytes()
    late = time.time() + 400 * DAY
    replace = tls_selfsigned._replace

    def crash_at_the_certificate(path: Path, content: bytes, mode: int) -> None:
        if path.name == "cert.pem":
            raise KeyboardInterrupt
        replace(path, content, mode)

    monkeypatch.setattr(tls_selfsigned, "_replace", crash_at_the_certificate)
    with pytest.raises(KeyboardInterrupt):
        ensure_self_signed(tmp_path, ["localhost"], 1, now=lambda: late)
    assert Path(first.cert_file).read_bytes() == old_certificate
    monkeypatch.undo()
    mended = ensure_self_signed(tmp_path, ["localhost"], 1)
    assert mended.created
    ServerTls(ServerTlsConfig(mended.cert_file, mended.key_file))


def test_a_validity_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlsConfigError, match="selfSignedCertValidity is invalid,it should be greater than 0"):
        ensure_self_signed(tmp_path, [], 0)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TlsConfigError, match="auto-tls: cannot write to"):
        ensure_self_signed(tmp_path / "file" / "client", [], 1)


def test_peers_may_also_be_clients(tmp_path: Path) -> None:
    made = ensure_self_signed(tmp_path, ["localhost"], 1, client_usage=True)
    tls = ServerTls(ServerTlsConfig(made.cert_file, made.key_file, made.cert_file))
    mine = client(made.cert_file)
    mine.load_cert_chain(made.cert_file, made.key_file)
    pair = shake_hands(tls.context(), mine)
    assert pair.server_error is None
    assert pair.server.version() == "TLSv1.3"
    assert isinstance(pair.server, ssl.SSLObject)
