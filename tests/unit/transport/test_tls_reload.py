"""Files that change under a running listener: taken at the next handshake, or refused with the last good ones kept."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from etcdpy import limits
from etcdpy.transport import tls_files
from etcdpy.transport.tls import LoadedCertificate, ServerTls, ServerTlsConfig, certificate_expiry
from tests.support.certificates import Leaf, TestAuthority, client, shake_hands, wait_for_files

LOGGER = "etcdpy.transport.tls"


class Listener:
    """A listener whose files the tests replace."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = TestAuthority(directory)
        self.server = self.ca.issue("server", "server")
        self.alice = self.ca.issue("client", "alice")
        self.crl = directory / "crl"
        self.crl.write_bytes(self.ca.revocation_list(7).public_bytes(Encoding.DER))
        config = ServerTlsConfig(self.server.cert, self.server.key, self.ca.path, crl_file=str(self.crl))
        self.later_ns = 10**9  # added to the file clock: the files count as settled
        self.tls = ServerTls(config, wall_ns=lambda: _now_ns() + self.later_ns)

    def served(self) -> int:
        """The serial of the certificate that the next client is shown."""
        pair = shake_hands(self.tls.context(), client(None, self.alice))
        assert pair.server_error is None
        der = pair.client.getpeercert(True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def lets_in(self, leaf: Leaf) -> bool:
        pair = shake_hands(self.tls.context(), client(None, leaf))
        if pair.server_error is not None:
            return False
        try:
            self.tls.check_peer(pair.server)
        except ssl.SSLError:
            return False
        return True


def _now_ns() -> int:
    import time

    return time.time_ns()


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    return Listener(tmp_path)


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)


def test_large_files_are_read_by_a_thread(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []
    real = tls_files.parse_revocation_list

    def parse(path: str, content: bytes) -> tls_files.RevocationList:
        readers.append(threading.current_thread())
        return real(path, content)

    monkeypatch.setattr("etcdpy.transport.tls.parse_revocation_list", parse)
    assert listener.lets_in(listener.alice)
    alice = x509.load_pem_x509_certificate(Path(listener.alice.cert).read_bytes()).serial_number
    revoked = listener.ca.revocation_list(alice, *range(10**20, 10**20 + 1000)).public_bytes(Encoding.DER)
    assert len(revoked) > limits.TLS_ON_LOOP_BYTES_MAX
    replace(str(listener.crl), revoked, in_place=False)
    listener.tls.context()
    wait_for_files(listener.tls)
    assert not listener.lets_in(listener.alice)
    assert readers
    assert threading.main_thread() not in readers
    listener.crl.write_bytes(listener.ca.revocation_list(7).public_bytes(Encoding.DER))
    assert listener.lets_in(listener.alice)
    assert readers[-1] is threading.main_thread()


def replace(path: str, content: bytes, *, in_place: bool) -> None:
    if in_place:
        Path(path).write_bytes(content)
    else:
        beside = Path(path + ".new")
        beside.write_bytes(content)
        beside.rename(path)


def errors(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if record.levelno == logging.ERROR]


def test_nothing_changed_means_the_same_context(listener: Listener) -> None:
    assert listener.tls.context() is listener.tls.context()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_new_pair_serves_the_next_handshake(listener: Listener, in_place: bool) -> None:
    assert listener.served() == listener.server.serial
    fresh = listener.ca.issue("server", "fresh")
    replace(listener.server.key, Path(fresh.key).read_bytes(), in_place=in_place)
    replace(listener.server.cert, Path(fresh.cert).read_bytes(), in_place=in_place)
    assert listener.served() == fresh.serial


def test_a_pair_behind_a_moved_symbolic_link(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: the link to the directory is what moves."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    authorities = [TestAuthority(tmp_path / name) for name in ("one", "two")]
    leaves = [authority.issue("server", "server") for authority in authorities]
    link = tmp_path / "data"
    link.symlink_to("one")
    tls = ServerTls(ServerTlsConfig(str(link / "server.pem"), str(link / "server-key.pem")))
    link_new = tmp_path / "data.new"
    link_new.symlink_to("two")
    link_new.rename(link)
    tls.context()
    assert tls.certificates()[0].not_after == leaves[1].certificate.not_valid_after_utc.timestamp()
    pair = shake_hands(tls.context(), client(authorities[1].path))
    assert pair.client_error is None


@pytest.mark.parametrize("in_place", [True, False])
def test_a_new_ca_bundle(listener: Listener, in_place: bool, tmp_path: Path) -> None:
    """Real etcd reads the bundle once, at its start."""
    other = TestAuthority(tmp_path, "other-ca")
    bob = other.issue("client", "bob")
    assert (listener.lets_in(listener.alice), listener.lets_in(bob)) == (True, False)
    replace(listener.ca.path, listener.ca.pem + other.pem, in_place=in_place)
    assert (listener.lets_in(listener.alice), listener.lets_in(bob)) == (True, True)
    replace(listener.ca.path, other.pem, in_place=in_place)
    assert (listener.lets_in(listener.alice), listener.lets_in(bob)) == (False, True)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_new_revocation_list(listener: Listener, in_place: bool) -> None:
    assert listener.lets_in(listener.alice)
    revoked = listener.ca.revocation_list(listener.alice.serial).public_bytes(Encoding.DER)
    replace(str(listener.crl), revoked, in_place=in_place)
    assert not listener.lets_in(listener.alice)


def test_a_half_written_set_keeps_the_last_good_one(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    fresh = listener.ca.issue("server", "fresh")
    whole = Path(fresh.cert).read_bytes()
    replace(listener.server.cert, whole[: len(whole) // 2], in_place=True)
    assert listener.served() == listener.server.serial
    assert listener.served() == listener.server.serial
    assert [fields["error"] for fields in errors(caplog)] == [
        f"{listener.server.cert}: cut short (a PEM block has no end)"
    ]
    replace(listener.server.cert, whole, in_place=True)
    assert listener.served() == listener.server.serial  # the key is still the old one
    assert errors(caplog)[-1]["error"] == (
        f"{listener.server.key}: the key does not belong to the certificate in {listener.server.cert}"
    )
    replace(listener.server.key, Path(fresh.key).read_bytes(), in_place=True)
    assert listener.served() == fresh.serial
    assert len(errors(caplog)) == 2
    assert caplog.records[-1].getMessage() == "reloaded TLS files"


def test_every_cut_of_every_file_keeps_serving(listener: Listener) -> None:
    """A prefix either is refused or holds whole certificates; whatever was good stays."""
    for path in (listener.server.cert, listener.server.key, listener.ca.path, str(listener.crl)):
        whole = Path(path).read_bytes()
        for size in range(0, len(whole), 97):
            replace(path, whole[:size], in_place=True)
            assert listener.served() == listener.server.serial
        replace(path, whole, in_place=True)
    assert listener.lets_in(listener.alice)


def test_a_missing_file_is_told_once_and_taken_up_when_it_returns(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Path(listener.ca.path).read_bytes()
    os.unlink(listener.ca.path)
    assert listener.lets_in(listener.alice)
    assert listener.lets_in(listener.alice)
    assert [fields["error"] for fields in errors(caplog)] == [f"{listener.ca.path}: no such file or directory"]
    Path(listener.ca.path).write_bytes(whole)
    assert listener.lets_in(listener.alice)
    os.unlink(listener.ca.path)
    listener.tls.context()
    assert len(errors(caplog)) == 2


def test_a_revocation_counts_while_the_pair_is_broken(listener: Listener) -> None:
    """The three sets stand apart: a good CRL is not held up by a bad key."""
    Path(listener.server.key).write_bytes(b"nonsense")
    listener.crl.write_bytes(listener.ca.revocation_list(listener.alice.serial).public_bytes(Encoding.DER))
    assert not listener.lets_in(listener.alice)


def test_a_second_write_within_one_tick_of_the_file_clock(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same stamps, size and inode: only a file that has settled is taken at its signature's word."""
    monkeypatch.setattr(tls_files, "_signature", lambda _path: (1, 1, 1, 1, 1))
    listener.later_ns = -_now_ns() + limits.TLS_UNSETTLED_NS // 2
    files = tls_files.FileSet([str(listener.crl)], lambda contents: contents[0], lambda: listener.later_ns + _now_ns())
    listener.crl.write_bytes(b"second")
    assert files.refresh()
    assert files.value == b"second"
    settled = tls_files.FileSet([str(listener.crl)], lambda contents: contents[0], _now_ns)
    listener.crl.write_bytes(b"third!")
    assert not settled.refresh()


def test_no_key_material_in_any_message(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    secret = Path(listener.server.key).read_text().splitlines()[1]
    broken = Path(listener.server.key).read_bytes().replace(b"M", b"N", 3)
    for content in (b"", broken, broken[:80], Path(listener.server.cert).read_bytes()):
        Path(listener.server.key).write_bytes(content)
        listener.tls.context()
    assert errors(caplog)
    assert secret[4:] not in caplog.text
    assert "PRIVATE KEY" not in repr(listener.tls._pair.value)


def test_an_encrypted_key_is_refused_without_asking(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    from pki import keys

    key = keys.from_pem(Path(listener.server.key).read_bytes(), None, "key")
    Path(listener.server.key).write_bytes(keys.to_pem(key, b"correct horse"))
    assert listener.served() == listener.server.serial
    assert errors(caplog)[0]["error"].endswith("the key is encrypted; a server cannot ask for the passphrase")


def test_certificate_and_key_in_one_file(tmp_path: Path) -> None:
    ca = TestAuthority(tmp_path)
    leaf = ca.issue("server", "server")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(leaf.key).read_bytes() + Path(leaf.cert).read_bytes())
    tls = ServerTls(ServerTlsConfig(str(both), str(both)))
    assert shake_hands(tls.context(), client(ca.path)).client_error is None


def test_every_certificate_in_use_is_listed_with_its_end(listener: Listener, tmp_path: Path) -> None:
    def ends(certificate: x509.Certificate) -> float:
        return certificate.not_valid_after_utc.timestamp()

    assert listener.tls.certificates() == [
        LoadedCertificate(listener.server.cert, "server", "CN=server", ends(listener.server.certificate)),
        LoadedCertificate(listener.ca.path, "trusted-ca", "CN=test ca", ends(listener.ca.authority.certificate)),
    ]
    below = TestAuthority(tmp_path, "below", above=listener.ca)
    fresh = below.issue("server", "fresh", days=3)
    replace(listener.server.key, Path(fresh.key).read_bytes(), in_place=False)
    replace(listener.server.cert, Path(fresh.cert).read_bytes(), in_place=False)
    roles = [(row.role, row.not_after) for row in listener.tls.certificates()][:2]
    assert roles == [("server", ends(fresh.certificate)), ("server-chain", ends(below.authority.certificate))]
    (row,) = certificate_expiry(listener.alice.cert, "client")
    assert (row.role, row.subject) == ("client", "CN=alice")
