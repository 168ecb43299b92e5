"""The operator's key file: what is taken, what is refused, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.storage import key_file
from etcdpy.storage.errors import EncryptionError
from tests.support.encryption import LINES, write_key_file

if TYPE_CHECKING:
    from pathlib import Path

SECRET = LINES["first"].partition(": ")[2]


def test_the_first_key_writes_and_all_read(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{LINES['second']}\n  {LINES['first']}  \n")
    path.chmod(0o600)
    found = key_file.load(path)
    assert (found.writing, list(found.keys)) == ("second", ["second", "first"])
    assert found.keys["first"] == bytes(32)
    assert SECRET not in repr(found)
    assert "\\x01" not in repr(found)


def test_plaintext_first(tmp_path: Path) -> None:
    found = key_file.load(write_key_file(tmp_path / "keys", "plaintext", "first"))
    assert (found.writing, list(found.keys)) == (None, ["first"])


def test_a_new_line_is_a_key(tmp_path: Path) -> None:
    lines = key_file.new_line("2026-11") + key_file.new_line("a.B_c")
    found = key_file.parse(tmp_path / "keys", lines.encode())
    assert found.writing == "2026-11"
    assert len(found.keys["2026-11"]) == 32
    assert found.keys["2026-11"] != found.keys["a.B_c"]


@pytest.mark.parametrize("key_id", ["", "plaintext", "a b", "a:b", "x" * 65, "ä"])
def test_ids_that_cannot_be(key_id: str) -> None:
    with pytest.raises(EncryptionError, match="cannot be a key's id"):
        key_file.new_line(key_id)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        ("# only\n", "holds no key"),
        (SECRET, "line 1: not an id"),
        (f"a b: {SECRET}", "line 1: not an id"),
        (f"\na: {SECRET}x", "line 2: the key is not base64"),
        ("a: AAAA", "line 1: the key has 3 bytes instead of 32"),
        (f"a: {SECRET}\na: {SECRET}", 'line 2: the id "a" is there twice'),
        (f"a: {SECRET}\nplaintext", "line 2: `plaintext` may only be the first"),
        ("plaintext\nplaintext", "line 2: `plaintext` may only be the first"),
        (f"plaintext: {SECRET}", "line 1: not an id"),
        ("x" * (limits.KEY_FILE_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_what_cannot_be_used_is_named_and_never_shown(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(EncryptionError) as caught:
        key_file.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o610, 0o601])
def test_nobody_else_may_read_it(tmp_path: Path, mode: int) -> None:
    path = write_key_file(tmp_path / "keys", "first")
    path.chmod(mode)
    with pytest.raises(EncryptionError, match=rf"open to others \(mode {mode:04o}\); chmod 0600 it"):
        key_file.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncryptionError, match=r"none: No such file or directory; mend --encryption-key-file"):
        key_file.load(tmp_path / "none")
    with pytest.raises(EncryptionError, match="is not a regular file"):
        key_file.load(tmp_path)


def test_the_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_file.key_file_path("", environ) is None
    assert key_file.key_file_path("", {}) is None
    path = write_key_file(tmp_path / key_file.CREDENTIAL, "first")
    assert key_file.key_file_path("", environ) == path
    assert str(key_file.key_file_path("/other", environ)) == "/other"
    # systemd's access list shows as the group's bits.
    path.chmod(0o440)
    with pytest.raises(EncryptionError, match="open to others"):
        key_file.load(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert key_file.load(path).writing == "first"
    path.chmod(0o444)
    with pytest.raises(EncryptionError, match="open to others"):
        key_file.load(path)
