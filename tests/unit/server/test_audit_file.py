"""The file of the audit log: its mode, its rotation, and a disk that does not keep up."""

from __future__ import annotations

import json
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy import limits
from etcdpy.server.audit_file import AuditFile, stamp
from etcdpy.server.notes import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_are_written_in_order_to_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text("before\n")
    path.chmod(0o644)
    file = AuditFile(path, 0)
    for number in range(1000):
        file.write(str(number))
    file.close()
    assert path.read_text().splitlines() == ["before", *map(str, range(1000))]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.dropped == 0


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--audit-log-file: open .*/no/audit.log: no such file or directory"):
        AuditFile(tmp_path / "no" / "audit.log", 0)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic links"):
        AuditFile(tmp_path / "link", 0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_large_file_makes_way_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUDIT_BATCH_LINES", 1)
    path = tmp_path / "audit.log"
    file = AuditFile(path, 100)
    for number in range(50):
        file.write(f"{number:09d}")
    file.close()
    old = sorted(each for each in tmp_path.iterdir() if each != path)
    assert len(old) >= 4
    assert all(each.name.startswith("audit.log.20") for each in old)
    every = [line for each in (*old, path) for line in each.read_text().splitlines()]
    assert every == [f"{number:09d}" for number in range(50)]
    assert all(each.stat().st_size <= 100 and stat.S_IMODE(each.stat().st_mode) == 0o600 for each in (*old, path))


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.log", tmp_path / "moved"
    file = AuditFile(path, 0)
    path.rename(moved)
    file.write("after")
    file.close()
    assert (path.read_text(), moved.read_text()) == ("after\n", "")


def test_what_the_disk_does_not_take_in_time_is_dropped_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AUDIT_LINES_WAITING_MAX", 3)
    disk, busy = threading.Event(), threading.Event()
    write = os.write

    def slow_write(fd: int, data: Any) -> int:
        busy.set()
        disk.wait(10)
        return write(fd, data)

    path = tmp_path / "audit.log"
    file = AuditFile(path, 0)
    monkeypatch.setattr(os, "write", slow_write)
    file.write("first")
    assert busy.wait(10)
    for number in range(10):
        file.write(str(number))
    assert file.dropped == 7
    disk.set()
    file.close()
    lines = path.read_text().splitlines()
    assert lines[:4] == ["first", "0", "1", "2"]
    assert json.loads(lines[4])["dropped"] == 7
    assert file.dropped == 7


def test_a_full_disk_drops_lines_and_the_next_line_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUDIT_BATCH_LINES", 1)
    write = os.write
    writes = 0

    def torn_write(fd: int, data: Any) -> int:
        nonlocal writes
        writes += 1
        if writes == 1:
            return write(fd, data[:3])
        if writes == 2:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    path = tmp_path / "audit.log"
    file = AuditFile(path, 0)
    monkeypatch.setattr(os, "write", torn_write)
    file.write("torn line")
    file.write("whole line")
    file.close()
    lines = path.read_text().splitlines()
    assert lines[:2] == ["tor", "whole line"]
    assert json.loads(lines[2])["dropped"] == 1
    assert file.dropped == 1


def test_stamps() -> None:
    assert stamp(1_800_000_000.25) == "2027-01-15T08:00:00.250000Z"
