"""Files are written whole or not at all, keys for their owner alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pki import files
from pki.errors import PkiError
from pki.files import NewFile, pair_paths, write_all
from tests.support.crashes import Crash, CrashAt

if TYPE_CHECKING:
    from pathlib import Path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_modes_do_not_follow_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            directory = tmp_path / f"{umask:o}" / "deep"
            write_all([NewFile(directory / "k", b"key", 0o600), NewFile(directory / "c", b"cert")], force=False)
        finally:
            os.umask(before)
        assert (directory / "k").stat().st_mode & 0o777 == 0o600
        assert (directory / "c").stat().st_mode & 0o777 == 0o644
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_key_is_never_readable_by_others_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_all([NewFile(tmp_path / "k", b"key", 0o600)], force=False)
    assert set(seen) == {0o600}


def test_what_exists_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"old")
    with pytest.raises(PkiError, match=r"/c already exists; --force replaces it"):
        write_all([NewFile(tmp_path / "k", b"new"), NewFile(tmp_path / "c", b"new")], force=False)
    assert (names(tmp_path), (tmp_path / "c").read_bytes()) == (["c"], b"old")
    write_all([NewFile(tmp_path / "k", b"new"), NewFile(tmp_path / "c", b"new")], force=True)
    assert (names(tmp_path), (tmp_path / "c").read_bytes()) == (["c", "k"], b"new")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = files._write

    def somebody_else_too(path: Path, new: NewFile) -> None:
        write(path, new)
        (tmp_path / "c").write_bytes(b"theirs")

    monkeypatch.setattr(files, "_write", somebody_else_too)
    with pytest.raises(PkiError, match="already exists"):
        write_all([NewFile(tmp_path / "c", b"ours")], force=False)
    assert (names(tmp_path), (tmp_path / "c").read_bytes()) == (["c"], b"theirs")


def test_what_root_replaces_stays_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _descriptor, user, group: given.append((user, group)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    own = os.getuid(), os.getgid()
    write_all([NewFile(tmp_path / "k", b"first", 0o600)], force=False)
    assert given == [], "nobody had it before"
    write_all([NewFile(tmp_path / "k", b"second", 0o600)], force=True)
    assert given == [own]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    write_all([NewFile(tmp_path / "k", b"third", 0o600)], force=True)
    assert given == [own], "only root can give files away"


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to("nowhere")
    with pytest.raises(PkiError, match="already exists"):
        write_all([NewFile(tmp_path / "c", b"x")], force=False)


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_crash_between_steps_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    write_all([NewFile(tmp_path / "k", b"old key", 0o600), NewFile(tmp_path / "c", b"old cert")], force=False)
    crash = CrashAt(nth)
    if step == "write":
        monkeypatch.setattr(files, "_write", crash(files._write))
    else:
        monkeypatch.setattr(os, step, crash(getattr(os, step)))
    with pytest.raises(Crash):
        write_all([NewFile(tmp_path / "k", b"new key", 0o600), NewFile(tmp_path / "c", b"new cert")], force=True)
    monkeypatch.undo()
    renamed = step == "replace" and nth == 2
    assert (tmp_path / "k").read_bytes() == (b"new key" if renamed else b"old key")
    assert (tmp_path / "c").read_bytes() == b"old cert"


def test_a_full_disk_changes_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "k"))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PkiError, match="No space left on device"):
        write_all([NewFile(tmp_path / "k", b"new")], force=True)
    assert (names(tmp_path), (tmp_path / "k").read_bytes()) == (["k"], b"old")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-rf", "a\0b"])
def test_names_that_are_no_file_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="cannot be a file name"):
        pair_paths(tmp_path, name)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "n").write_text("nothing")
    (tmp_path / "d").write_bytes(b"\x30\x03abc")
    for name, text in (
        ("nowhere", "no such file or directory"),
        ("k", "holds a private key and no certificate"),
        ("n", "holds no certificate"),
        ("d", "holds a certificate that cannot be read"),
    ):
        with pytest.raises(PkiError, match=text):
            files.read_certificates(tmp_path / name)
