"""Certificates for tests: a small authority that writes what a listener needs, `etcdpy pki` as it is typed, and TLS
handshakes in memory.
"""

from __future__ import annotations

import datetime
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki import keys
from pki.authority import Authority, Issued, Request, create_root
from pki.cli import pki
from pki.profiles import PROFILES

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from etcdpy.transport.tls import ServerTls


def run_pki(*arguments: str, typed: str | None = None) -> Result:
    """One command line of `etcdpy pki`."""
    return CliRunner().invoke(pki, list(arguments), input=typed, catch_exceptions=False)


def done_pki(*arguments: str, typed: str | None = None) -> str:
    """One that must do what it is asked for; what it prints."""
    result = run_pki(*arguments, typed=typed)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused_pki(*arguments: str) -> str:
    """One that must be refused with one line; the line."""
    result = run_pki(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def json_pki(*arguments: str) -> Any:
    """What a command prints with -w json, whatever its exit code."""
    return json.loads(run_pki(*arguments, "-w", "json").stdout)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class TestAuthority:
    """A CA in a directory; what it issues lies there in the classic layout."""

    __test__ = False

    def __init__(
        self,
        directory: Path,
        name: str = "ca",
        *,
        above: TestAuthority | None = None,
        now: datetime.datetime | None = None,
    ) -> None:
        self.directory = directory
        self.name = name
        request = Request(PROFILES["ca"], f"test {name}")
        made = create_root(request, now or utc_now()) if above is None else above.authority.issue(request, utc_now())
        self.authority: Authority = Authority(made.certificate, made.key)
        self.chain = b"" if above is None else self.pem
        write_pair(directory, name, made)

    @property
    def path(self) -> str:
        """The CA bundle."""
        return str(self.directory / f"{self.name}.pem")

    @property
    def pem(self) -> bytes:
        return self.authority.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        profile: str,
        name: str,
        *,
        dns: tuple[str, ...] = (),
        ip: tuple[str, ...] = (),
        cn: str | None = None,
        days: int | None = None,
        now: datetime.datetime | None = None,
    ) -> Leaf:
        if profile != "client" and not dns and not ip:
            dns, ip = ("localhost",), ("127.0.0.1",)
        request = Request(PROFILES[profile], cn or name, addresses=ip, dns_names=dns, days=days)
        made = self.authority.issue(request, now or utc_now())
        return write_pair(self.directory, name, made, self.chain)

    def revocation_list(self, *serials: int) -> x509.CertificateRevocationList:
        now = utc_now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.authority.certificate.subject)
            .last_update(now)
            .next_update(now + datetime.timedelta(days=1))
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.authority.key, hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate on disk."""

    cert: str
    key: str
    certificate: x509.Certificate

    @property
    def serial(self) -> int:
        return self.certificate.serial_number


def write_pair(directory: Path, name: str, made: Issued, chain: bytes = b"") -> Leaf:
    cert, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    cert.write_bytes(made.certificate.public_bytes(Encoding.PEM) + chain)
    key.write_bytes(keys.to_pem(made.key))
    key.chmod(0o600)
    return Leaf(str(cert), str(key), made.certificate)


def client(ca: str | None, leaf: Leaf | None = None) -> ssl.SSLContext:
    """A client's context; it verifies the server only if given a CA bundle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(ca)
    if leaf is not None:
        context.load_cert_chain(leaf.cert, leaf.key)
    return context


@dataclass(slots=True)
class Handshake:
    """Both ends of a handshake in memory, and what each raised."""

    server: ssl.SSLObject
    client: ssl.SSLObject
    server_error: OSError | None = None
    client_error: OSError | None = None


def shake_hands(
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    *,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> Handshake:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    pair = Handshake(
        server_context.wrap_bio(to_server, to_client, server_side=True),
        client_context.wrap_bio(to_client, to_server, server_hostname=name, session=session),
    )
    for _ in range(6):
        if pair.client_error is None:
            pair.client_error = _step(pair.client)
        if pair.server_error is None:
            pair.server_error = _step(pair.server)
    return pair


def feed(server_context: ssl.SSLContext, data: bytes, *, end: bool = False) -> Handshake:
    """A server's end that is sent these bytes instead of a handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    to_server.write(data)
    if end:
        to_server.write_eof()
    return Handshake(server, server, _step(server))


def _step(side: ssl.SSLObject) -> OSError | None:
    try:
        side.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
    except OSError as error:
        return error
    return None


def wait_for_files(tls: ServerTls) -> None:
    """Until a thread that reads large files is done."""
    thread = tls._context._thread
    if thread is not None:
        thread.join()


def nameless(authority: TestAuthority, directory: Path) -> tuple[Path, Path]:
    """A client's certificate without a common name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = utc_now()
    builder = x509.CertificateBuilder(
        authority.authority.certificate.subject,
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "proxies")]),
        key.public_key(),
        x509.random_serial_number(),
        now - datetime.timedelta(minutes=1),
        now + datetime.timedelta(days=1),
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    paths = directory / "nameless.pem", directory / "nameless-key.pem"
    paths[0].write_bytes(builder.sign(authority.authority.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    paths[1].write_bytes(keys.to_pem(key))
    return paths
