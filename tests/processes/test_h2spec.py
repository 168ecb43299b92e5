"""h2spec, the public conformance suite for HTTP/2 servers, on every shape of listener."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from etcdpy.transport.calls import Call, Kind, Method
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.options import TransportOptions
from tests.support.reference import reference_binary
from tests.support.transport import TransportThread

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference

NEEDS_A_BODY = {
    "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
    "Sends a PRIORITY frame on half-closed (remote) stream",
}
"""Generic tests that wait for a DATA frame: on a plaintext gRPC port, as on etcd's, a plain GET has none (415)."""


def echo(call: Call, body: bytes) -> None:
    call.finish(body)


async def handler(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, [("content-type", "text/plain")], b"hello " + request.path.encode())


class Tls:
    """A throw-away certificate."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "both.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        self.path.write_bytes(
            certificate.public_bytes(encoding)
            + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.refused: list[Exception] = []

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        context.set_alpn_protocols(["h2"])
        return context

    def check_peer(self, ssl_object: ssl.SSLObject) -> None:
        assert ssl_object.selected_alpn_protocol() in ("h2", None)

    def check_address(self, ssl_object: ssl.SSLObject, address: str) -> None:
        return None

    def log_refused(self, address: str, error: Exception) -> None:
        self.refused.append(error)


def run(port: int, tmp_path: Path, *arguments: str) -> tuple[set[str], set[str], int]:
    """Names of failed and of skipped tests, and how many passed."""
    report = tmp_path / "report.xml"
    command = [str(reference_binary("h2spec")), "-h", "127.0.0.1", "-p", str(port), "--strict", "-j", str(report)]
    subprocess.run([*command, *arguments], stdout=subprocess.DEVNULL, timeout=240, check=False)
    failed, skipped, passed = set(), set(), 0
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname") or ""
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is not None:
            skipped.add(name)
        else:
            passed += 1
    return failed, skipped, passed


@pytest.mark.parametrize("secure", [False, True], ids=["plaintext", "tls"])
def test_everything_passes(tmp_path: Path, *, secure: bool) -> None:
    methods = [Method("etcdserverpb.KV", "Put", Kind.UNARY, echo)]
    url = "https://127.0.0.1:0" if secure else "http://127.0.0.1:0"
    with TransportThread(
        methods,
        urls=[url],
        options=TransportOptions(max_concurrent_streams=100),
        tls=Tls(tmp_path) if secure else None,
        http=handler,
        http_on_plain_http2=True,
    ) as server:
        failed, skipped, passed = run(server.port, tmp_path, *(("-t", "-k") if secure else ()))
        assert not server.bugs
    assert (failed, skipped) == (set(), set())
    assert passed >= 146


def test_a_plaintext_grpc_port_as_etcd_has_it(tmp_path: Path) -> None:
    methods = [Method("etcdserverpb.KV", "Put", Kind.UNARY, echo)]
    with TransportThread(methods, http=handler) as server:
        failed, skipped, passed = run(server.port, tmp_path, "-o", "1")
        assert not server.bugs
    assert failed == NEEDS_A_BODY
    assert len(skipped) <= 5  # four that need a body, one that needs a stream limit
    assert passed >= 139
