"""Our certificates between Go's TLS and ours: real etcd and etcdctl take them, and etcdctl meets our listener."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest
from click.testing import CliRunner

from etcdpy.transport.tls import ServerTls, ServerTlsConfig, ensure_self_signed
from pki.cli import pki
from tests.support.members import Member, TlsFiles, free_port
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference


def make(directory: Path, *arguments: str) -> None:
    result = CliRunner().invoke(pki, [arguments[0], "--dir", str(directory), *arguments[1:]], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def certificates(directory: Path, key_type: str = "ecdsa-p256", profile: str = "server") -> TlsFiles:
    """A CA, an intermediate below it that signs, a server and a client."""
    kind = ("--key-type", key_type)
    make(directory, "init", *kind)
    make(directory, "issue", "--profile", "ca", "site", *kind)
    host = ("--ip", "127.0.0.1", "--dns", "localhost")
    make(directory, "issue", "--ca", "site", "--profile", profile, "m1", *host, *kind)
    make(directory, "issue", "--ca", "site", "--profile", "client", "root", *kind)
    return TlsFiles(
        directory / "ca.pem",
        directory / "m1.pem",
        directory / "m1-key.pem",
        directory / "root.pem",
        directory / "root-key.pem",
    )


def etcdctl(endpoint: str, *arguments: str, seconds: int = 1) -> subprocess.CompletedProcess[str]:
    command = [str(reference_binary("etcdctl")), f"--endpoints={endpoint}", f"--command-timeout={seconds}s"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def identity(tls: TlsFiles) -> list[str]:
    return [f"--cacert={tls.ca}", f"--cert={tls.client_cert}", f"--key={tls.client_key}"]


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "rsa-2048", "ed25519"])
def test_real_etcd_and_etcdctl_take_our_certificates(tmp_path: Path, key_type: str) -> None:
    tls = certificates(tmp_path / "pki", key_type)
    with Member("etcd", tmp_path, tls=tls) as member:
        put = etcdctl(member.client_url, *identity(tls), "put", "key", "value", seconds=5)
        assert (put.returncode, put.stdout) == (0, "OK\n"), put.stderr
        stranger = tmp_path / "stranger"
        make(stranger, "init")
        make(stranger, "issue", "--profile", "client", "root")
        theirs = [f"--cacert={tls.ca}", f"--cert={stranger}/root.pem", f"--key={stranger}/root-key.pem"]
        assert etcdctl(member.client_url, *theirs, "get", "key").returncode != 0
        assert etcdctl(member.client_url, *identity(tls)[:1], "get", "key").returncode != 0


@pytest.mark.parametrize(("profile", "works"), [("server", False), ("peer", True)])
def test_the_gateway_of_real_etcd_needs_client_auth_of_the_server(tmp_path: Path, profile: str, works: bool) -> None:
    """Why `pki/profiles.py` says what it says."""
    tls = certificates(tmp_path / "pki", profile=profile)
    with Member("etcd", tmp_path, tls=tls) as member:
        answer = member.http("POST", "/v3/kv/range", body=b'{"key": "YQ=="}', seconds_max=20)
        assert (answer.status == 200) is works, answer


# --- etcdctl against our TLS: only the handshake, there is no etcd behind it ---


class Door:
    """A port with our TLS on it, which notes what became of each connection."""

    def __init__(self, tls: ServerTls) -> None:
        self.tls = tls
        self.port = free_port()
        self.protocols: list[str | None] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = self.tls.context().wrap_bio(incoming, outgoing, server_side=True)
        address = "{}:{}".format(*writer.get_extra_info("peername"))
        try:
            await self._shake_hands(connection, incoming, outgoing, reader, writer)
            self.tls.check_peer(connection)
            self.protocols.append(connection.selected_alpn_protocol())
        except OSError as error:
            self.tls.log_refused(address, error)
        finally:
            writer.close()

    async def _shake_hands(
        self,
        connection: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                received = await reader.read(65_536)
                if received:
                    incoming.write(received)
                else:
                    incoming.write_eof()
            except OSError:
                writer.write(outgoing.read())
                raise
            else:
                writer.write(outgoing.read())
                return


@pytest.fixture
def tls_files(tmp_path: Path) -> TlsFiles:
    return certificates(tmp_path / "pki")


def open_door(tls: TlsFiles, **options: Any) -> Door:
    return Door(ServerTls(ServerTlsConfig(str(tls.server_cert), str(tls.server_key), str(tls.ca), **options)))


@pytest.mark.parametrize("options", [{}, {"max_version": "TLS1.2"}])
def test_go_reaches_http_2_through_our_tls(tls_files: TlsFiles, options: dict[str, Any]) -> None:
    with open_door(tls_files, **options) as door:
        etcdctl(f"https://127.0.0.1:{door.port}", *identity(tls_files), "get", "key")
    assert "h2" in door.protocols


@pytest.mark.parametrize(
    ("arguments", "scheme", "reason"),
    [
        (["--cacert={ca}"], "https", "tls: client didn't provide a certificate; "),
        (["--cacert={ca}", "--cert={server}", "--key={server_key}"], "https", "incompatible key usage"),
        (["--cacert={stranger}", "--cert={client}", "--key={client_key}"], "https", "remote error: tls: "),
        ([], "http", "plain HTTP/2 (gRPC without TLS) to a TLS port"),
    ],
)
def test_go_refused_is_explained(
    tls_files: TlsFiles, caplog: pytest.LogCaptureFixture, arguments: list[str], scheme: str, reason: str
) -> None:
    stranger = tls_files.ca.parent / "stranger"
    make(stranger, "init")
    known = {
        "stranger": stranger / "ca.pem",
        "ca": tls_files.ca,
        "server": tls_files.server_cert,
        "server_key": tls_files.server_key,
        "client": tls_files.client_cert,
        "client_key": tls_files.client_key,
    }
    caplog.set_level(logging.DEBUG, "etcdpy.transport.tls")
    with open_door(tls_files) as door:
        given = [argument.format(**known) for argument in arguments]
        assert etcdctl(f"{scheme}://127.0.0.1:{door.port}", *given, "get", "key").returncode != 0
    texts = [str(vars(record)["fields"]["error"]) for record in caplog.records]
    assert any(reason in text for text in texts), texts


def test_go_accepts_auto_tls_as_its_own_authority(tmp_path: Path) -> None:
    made = ensure_self_signed(tmp_path, ["127.0.0.1:2379"], 1)
    with Door(ServerTls(ServerTlsConfig(made.cert_file, made.key_file))) as door:
        etcdctl(f"https://127.0.0.1:{door.port}", f"--cacert={made.cert_file}", "get", "key")
    assert "h2" in door.protocols


def test_openssl_agrees_with_show(tls_files: TlsFiles) -> None:
    """OpenSSL's own tool, in strict mode, finds the same chain as `pki show`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command here")
    chain = ["openssl", "verify", "-x509_strict", "-CAfile", str(tls_files.ca)]
    chain += ["-untrusted", str(tls_files.server_cert)]
    for purpose, cert in (("sslserver", tls_files.server_cert), ("sslclient", tls_files.client_cert)):
        done = subprocess.run(
            [*chain, "-purpose", purpose, str(cert)], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(CliRunner().invoke(pki, ["show", "-w", "json", str(tls_files.server_cert)]).stdout)
    assert [row["chain"] for row in rows] == ["chains to ca.pem"] * 2
