"""Encrypted files: temporary ones that are written anywhere, and backups that open whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.storage import key_file, sealed_file
from etcdpy.storage.errors import DamagedError, EncryptionError
from etcdpy.storage.key_file import MasterKeys
from etcdpy.storage.sealed_file import SealedFile, is_sealed_backup, open_backup, seal_backup
from tests.support.encryption import LINES

CHUNK = 64
FIRST = key_file.parse(Path("keys"), LINES["first"].encode())
SECOND = key_file.parse(Path("keys"), f"{LINES['second']}\n{LINES['first']}".encode())


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(sealed_file, "STORED_CHUNK_BYTES", CHUNK + 28)


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 500)), max_size=12), st.integers(1, 200))
def test_a_temporary_file_is_what_was_written(writes: list[tuple[bytes, int]], step: int) -> None:
    with tempfile.TemporaryFile() as file:
        sealed, expected = SealedFile(file.fileno()), bytearray()
        for data, position in writes:
            start = min(position, len(expected))  # without holes, as files are made here
            sealed.write(data, start)
            expected[start : start + len(data)] = data
        sealed.flush()
        assert sealed.size_bytes == len(expected)
        pieces = [sealed.read(position, step) for position in range(0, len(expected) + step, step)]
        assert b"".join(pieces) == expected
        stored = os.pread(file.fileno(), 1 << 20, 0)
        assert not any(part in stored for part in (expected[at : at + 12] for at in range(0, len(expected) - 12, 12)))


def test_a_changed_temporary_file_is_noticed() -> None:
    with tempfile.TemporaryFile() as file:
        sealed = SealedFile(file.fileno())
        sealed.write(bytes(3 * CHUNK), 0)
        sealed.flush()
        first = os.pread(file.fileno(), CHUNK + 28, 0)
        os.pwrite(file.fileno(), first, CHUNK + 28)
        assert sealed.read(0, CHUNK) == bytes(CHUNK)
        with pytest.raises(DamagedError, match="chunk 1 of a temporary file fails its check"):
            sealed.read(CHUNK, 1)


def sealed_backup(content: bytes, masters: MasterKeys = FIRST) -> bytes:
    target = io.BytesIO()
    seal_backup(io.BytesIO(content), target, masters)
    return target.getvalue()


def opened_backup(stored: bytes, masters: MasterKeys = FIRST) -> bytes:
    target = io.BytesIO()
    open_backup("b.sealed", io.BytesIO(stored), target, masters)
    return target.getvalue()


@given(st.integers(0, 5 * CHUNK), st.sampled_from([FIRST, SECOND]))
def test_a_backup_opens(size: int, masters: MasterKeys) -> None:
    content = os.urandom(size)
    stored = sealed_backup(content, masters)
    assert opened_backup(stored, SECOND) == content
    assert is_sealed_backup(stored)
    assert size < 16 or content[:16] not in stored


@given(st.data(), st.integers(0, 4 * CHUNK))
def test_a_touched_backup_is_refused(data: st.DataObject, size: int) -> None:
    stored = bytearray(sealed_backup(bytes(size)))
    kind = data.draw(st.sampled_from(["change", "cut", "longer"]))
    if kind == "change":
        stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del stored[data.draw(st.integers(0, len(stored) - 1)) :]
    else:
        stored += data.draw(st.binary(min_size=1, max_size=2 * CHUNK))
    with pytest.raises((DamagedError, EncryptionError)):
        opened_backup(bytes(stored))


def test_chunks_cannot_change_places_or_end_early() -> None:
    stored = sealed_backup(bytes(range(192)))
    head = len(stored) - 3 * (CHUNK + 16)
    chunks = [stored[head + at : head + at + CHUNK + 16] for at in range(0, 3 * (CHUNK + 16), CHUNK + 16)]
    for order in ([1, 0, 2], [0, 1], [0, 2], [0, 1, 2, 2]):
        with pytest.raises(DamagedError, match=r"b\.sealed: chunk \d fails its check: damaged or cut"):
            opened_backup(stored[:head] + b"".join(chunks[number] for number in order))


def test_a_backup_names_the_key_that_it_needs() -> None:
    stored = sealed_backup(b"content", SECOND)
    with pytest.raises(EncryptionError, match=r'b\.sealed needs the key "second", which keys does not hold'):
        opened_backup(stored)
    wrong = MasterKeys(Path("keys"), "second", {"second": bytes(32)})
    with pytest.raises(EncryptionError, match='the key "second" in keys is not the one'):
        opened_backup(stored, wrong)
    with pytest.raises(EncryptionError, match="says `plaintext`"):
        sealed_backup(b"content", MasterKeys(Path("keys"), None, {}))
