"""Log lines, their outputs, and what happens when an output fails."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from etcdpy import limits
from etcdpy.server import log_outputs, logs
from etcdpy.server.config import default
from etcdpy.server.log_outputs import JournalOutput, RotatingOutput
from etcdpy.server.notes import ConfigError, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG = logs.get("test")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The root logger as it was before."""
    logs.close()
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("etcdpy").level, logging.raiseExceptions)
    yield
    logs.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("etcdpy").setLevel(before[2])
    logging.raiseExceptions = before[3]
    logging.captureWarnings(False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def to_file(path: Path, **fields: Any) -> None:
    logs.setup(default(log_outputs=(str(path),), **fields))


def test_a_line_is_what_zap_writes(tmp_path: Path) -> None:
    to_file(tmp_path / "log")
    LOG.info('hello "you"\n', local_member_id="8e9e", took=1.5, urls=("a", "b"), key=b"a\xff\n", none=None)
    text = (tmp_path / "log").read_text()
    assert text.count("\n") == 1
    assert re.match(
        r'\{"level":"info","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","caller":"server/test_logs\.py:\d+","msg":',
        text,
    )
    (line,) = lines(tmp_path / "log")
    assert line["msg"] == 'hello "you"\n'
    assert line["local-member-id"] == "8e9e"
    assert (line["took"], line["urls"], line["none"]) == (1.5, ["a", "b"], None)
    assert line["key"] == "a\\xff\n"


def test_levels_by_name_and_by_configuration(tmp_path: Path) -> None:
    for level, seen in (("debug", 4), ("info", 3), ("warn", 2), ("ERROR", 1), ("fatal", 0)):
        path = tmp_path / level
        to_file(path, log_level=level)
        LOG.debug("m")
        LOG.info("m")
        LOG.warn("m")
        LOG.error("m")
        assert len(lines(path)) == seen
    assert [line["level"] for line in lines(tmp_path / "debug")] == ["debug", "info", "warn", "error"]


def test_rooms_below_log_through_the_standard_library(tmp_path: Path) -> None:
    to_file(tmp_path / "log")
    logging.getLogger("etcdpy.transport.tls").warning("refused %s", "x", extra={"fields": {"remote-addr": "1.2.3.4"}})
    logging.getLogger("asyncio").error("other people's errors")
    logging.getLogger("asyncio").info("are no less")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("etcdpy.x").exception("a bug")
    first, second, third = lines(tmp_path / "log")
    assert (first["msg"], first["remote-addr"]) == ("refused x", "1.2.3.4")
    assert second["level"] == "error"
    assert third["error"] == "ValueError: boom"
    assert "Traceback" in third["stacktrace"]


def test_long_bytes_are_cut(tmp_path: Path) -> None:
    to_file(tmp_path / "log")
    LOG.info("m", key=b"k" * 10_000)
    assert lines(tmp_path / "log")[0]["key"] == "k" * limits.LOG_BYTES_FIELD_MAX + "..."


def test_what_json_does_not_know(tmp_path: Path) -> None:
    to_file(tmp_path / "log")
    LOG.info("m", problem=ValueError("x"), names={"b", "a"}, odd="\udc80")
    line = lines(tmp_path / "log")[0]
    assert (line["problem"], line["names"]) == ("x", ["a", "b"])


def test_console(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup(default(log_outputs=("stdout",), log_format="console"))
    LOG.warn("two\nlines", number=1, text="x")
    LOG.info("bare")
    first, second = capfd.readouterr().out.splitlines()
    stamp, level, caller, message, fields = first.split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert level == "warn"
    assert caller.startswith("server/test_logs.py:")
    assert (message, fields) == ("two\\nlines", '{"number": 1, "text": "x"}')
    assert second.split("\t")[3:] == ["bare"]


def test_several_outputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup(default(log_outputs=("stderr", str(tmp_path / "log"))))
    LOG.info("both")
    assert '"msg":"both"' in capfd.readouterr().err
    assert lines(tmp_path / "log")[0]["msg"] == "both"
    logs.setup(default(log_outputs=("stderr", "/dev/null")))
    LOG.info("nobody")
    assert capfd.readouterr().err == ""


def test_a_file_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    to_file(path)
    LOG.info("one")
    path.rename(tmp_path / "log.1")
    LOG.info("two")
    assert [lines(tmp_path / name)[0]["msg"] for name in ("log.1", "log")] == ["one", "two"]
    assert path.stat().st_mode & 0o007 == 0


def test_an_output_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--log-outputs: open .*: no such file or directory"):
        to_file(tmp_path / "no" / "log")


def test_a_full_disk_loses_lines_and_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup(default(log_outputs=("/dev/full",)))
    log_outputs.failures.said = float("-inf")
    before = logs.dropped_lines()
    for _ in range(3):
        LOG.info("lost")
    assert logs.dropped_lines() == before + 3
    assert capfd.readouterr().err.count("log output /dev/full failed") == 1


def test_a_closed_pipe_is_no_reason_to_stop() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = log_outputs.StreamOutput(writer, "pipe")
    handler.setFormatter(logs.JsonFormatter())
    before = logs.dropped_lines()
    handler.emit(logging.makeLogRecord({"msg": "x", "levelno": logging.INFO}))
    os.close(writer)
    assert logs.dropped_lines() == before + 1


def test_a_flood_is_sampled(tmp_path: Path) -> None:
    sampler = logs.Sampler()

    def passed(message: str, times: int, second: float) -> int:
        record = logging.makeLogRecord({"msg": message, "levelno": logging.INFO, "created": second})
        return sum(sampler.filter(record) for _ in range(times))

    assert passed("a", 1000, 5.0) == limits.LOG_LINES_PER_SECOND_BURST + 9
    assert passed("b", 1, 5.5) == 1
    assert passed("a", 50, 5.9) == 0
    assert passed("a", 50, 6.0) == 50


class TestRotation:
    ROTATION: Final = {"maxsize": 1, "maxage": 0, "maxbackups": 0, "localtime": False, "compress": False}

    @staticmethod
    def rotating(path: Path, clock: list[float], **changes: int | bool) -> RotatingOutput:
        output = RotatingOutput(str(path), {**TestRotation.ROTATION, **changes}, wall=lambda: clock[0])
        output.setFormatter(logging.Formatter("%(message)s"))
        return output

    @staticmethod
    def write(output: RotatingOutput, text: str) -> None:
        output.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))

    def test_a_full_file_makes_way(self, tmp_path: Path) -> None:
        clock = [1_700_000_000.25]
        output = self.rotating(tmp_path / "etcd.log", clock)
        self.write(output, "x" * 900_000)
        self.write(output, "y" * 90_000)
        self.write(output, "z" * 90_000)
        output.close()
        aside = tmp_path / "etcd-2023-11-14T22-13-20.250.log"
        assert aside.stat().st_size == 990_002
        assert (tmp_path / "etcd.log").read_text() == "z" * 90_000 + "\n"

    def test_what_was_written_before_counts(self, tmp_path: Path) -> None:
        (tmp_path / "etcd.log").write_text("x" * 999_999)
        output = self.rotating(tmp_path / "etcd.log", [1_700_000_000.0])
        self.write(output, "y")
        output.close()
        assert (tmp_path / "etcd.log").read_text() == "y\n"

    def test_old_and_surplus_files_go_and_the_rest_is_compressed(self, tmp_path: Path) -> None:
        clock = [1_700_000_000.0]
        names = [f"etcd-2023-11-{day:02d}T00-00-00.000.log" for day in (1, 2, 3, 4)]
        for name in [*names, "etcd-notes.log", "other.log"]:
            (tmp_path / name).write_text(name)
        os.utime(tmp_path / names[1], (1, 1))
        output = self.rotating(tmp_path / "etcd.log", clock, maxbackups=3, maxage=1, compress=True)
        for name in names[2:]:
            os.utime(tmp_path / name, (clock[0], clock[0]))
        output.tidy()
        output.close()
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == sorted(["etcd.log", "etcd-notes.log", "other.log", *(f"{name}.gz" for name in names[2:])])
        assert gzip.decompress((tmp_path / f"{names[2]}.gz").read_bytes()).decode() == names[2]

    def test_through_the_configuration(self, tmp_path: Path) -> None:
        path = tmp_path / "made" / "etcd.log"
        to_file(path, enable_log_rotation=True)
        LOG.info("x")
        assert lines(path)[0]["msg"] == "x"

    def test_a_failed_rotation_loses_a_line_at_most(self, tmp_path: Path) -> None:
        path = tmp_path / "etcd.log"
        output = self.rotating(path, [1_700_000_000.0])
        self.write(output, "x" * 999_990)
        path.unlink()  # so that it cannot be moved aside
        before = logs.dropped_lines()
        self.write(output, "y" * 20)
        assert logs.dropped_lines() == before + 1
        self.write(output, "z")
        output.close()
        assert path.read_text().endswith("z\n")


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    address = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(address)
        journal.settimeout(5)
        output = JournalOutput(address)
        output.setFormatter(logs.JsonFormatter())
        output.emit(logging.makeLogRecord({"msg": "boom", "levelno": logging.ERROR}))
        entry = journal.recv(10_000)
        output.close()
    head, _, rest = entry.partition(b"MESSAGE\n")
    assert head.splitlines() == [b"PRIORITY=3", b"SYSLOG_IDENTIFIER=etcdpy"]
    length = int.from_bytes(rest[:8], "little")
    assert json.loads(rest[8 : 8 + length])["msg"] == "boom"


def test_notes_of_the_configuration(tmp_path: Path) -> None:
    to_file(tmp_path / "log")
    logs.write_notes(LOG, (Note("info", "a"), Note("warn", "b", {"environment-variable": "X"})))
    first, second = lines(tmp_path / "log")
    assert (first["level"], first["msg"]) == ("info", "a")
    assert (second["level"], second["environment-variable"]) == ("warn", "X")
