"""A full disk, a read-only one, clocks that go back: nothing acknowledged is lost, nothing ends with a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, prefix_end, refusal_of
from tests.support.members import Member, NotReady
from tests.support.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.client import Refusal


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    yield from SmallDisk.mounted(tmp_path / "disk", 24)


def fill(member: Member, value_bytes: int = 100_000, puts_max: int = 2000) -> tuple[dict[bytes, int], Refusal | None]:
    """Put until it is refused or the server is gone; what was acknowledged, and the refusal."""
    stored: dict[bytes, int] = {}
    with Client.of(member) as client:
        for number in range(puts_max):
            key = b"/fill/%05d" % number
            try:
                stored[key] = client.put(key, os.urandom(value_bytes)).header.revision
            except grpc.RpcError as error:
                return stored, refusal_of(error)
    return stored, None


def assert_kept(member: Member, stored: dict[bytes, int]) -> None:
    with Client.of(member) as client:
        answer = client.range(b"/fill/", prefix_end(b"/fill/"), keys_only=True)
        kept = {kv.key: kv.mod_revision for kv in answer.kvs}
        client.put(b"/after", b"writable again")
    assert {key: kept.get(key) for key in stored} == stored


def assert_no_crash(member: Member) -> None:
    """It runs on, or it ended by itself and said why; a traceback or a signal is a crash."""
    assert "Traceback" not in member.log_text(), member.log_tail()
    if not member.running:
        assert member.wait_ended() == 1, member.log_tail()
        assert '"level":"fatal"' in member.log_text(), member.log_tail()


def test_a_full_disk(small_disk: SmallDisk) -> None:
    member = Member("etcdpy", small_disk.directory, flags=["--log-level=info"])
    # The log goes elsewhere: a full disk must not be noticed by the log first.
    member.log_path = small_disk.directory.parent / "member.log"
    try:
        member.start()
        stored, refusal = fill(member)
        assert refusal is not None, "24 MB took 200 MB"
        assert len(stored) > 20
        time.sleep(0.5)
        assert_no_crash(member)
        assert "space" in member.log_text() + refusal.text, (refusal, member.log_tail())
        if member.running:
            with Client.of(member) as client:  # reads go on
                assert client.range(b"/fill/", prefix_end(b"/fill/"), count_only=True).count >= len(stored)
        member.kill()
        small_disk.remount("size=96m")
        member.start()
        assert_kept(member, stored)
    finally:
        member.kill()


def test_a_file_size_limit(tmp_path: Path) -> None:
    """The disk's error comes for a single file (EFBIG), and needs no root to provoke."""
    member = Member("etcdpy", tmp_path, file_size_bytes_max=6_000_000)
    try:
        member.start()
        stored, refusal = fill(member, value_bytes=500_000, puts_max=100)
        if refusal is not None:
            time.sleep(0.3)
            assert_no_crash(member)
        member.kill()
        member.file_size_bytes_max = None
        member.start()
        assert_kept(member, stored)
    finally:
        member.kill()


def refused_start(member: Member) -> str:
    """Start what must not come up; its log."""
    with pytest.raises(NotReady):
        member.start(ready_seconds_max=10)
    assert not member.running, f"it neither serves nor ends:\n{member.log_tail()}"
    assert member.wait_ended() == 1, member.log_tail()
    text = member.log_text()
    assert "Traceback" not in text, text
    return text


def test_a_read_only_disk(small_disk: SmallDisk) -> None:
    member = Member("etcdpy", small_disk.directory)
    member.log_path = small_disk.directory.parent / "member.log"
    with member, Client.of(member) as client:
        client.put(b"k", b"v")
    small_disk.remount("ro")
    assert str(member.data_dir) in refused_start(member)
    small_disk.remount("rw")
    with member, Client.of(member) as client:
        assert client.range(b"k").kvs[0].value == b"v"


def test_a_file_where_the_data_directory_should_be(tmp_path: Path) -> None:
    member = Member("etcdpy", tmp_path)
    member.data_dir.write_text("not a directory")
    assert str(member.data_dir) in refused_start(member)


class TestClocks:
    def test_the_wall_clock_goes_back_an_hour(self, tmp_path: Path) -> None:
        """Leases, watches and writes do not notice."""
        patch = tmp_path / "patch"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(
            "import time\n"
            "begun, real, real_ns = time.monotonic(), time.time, time.time_ns\n"
            "back = lambda: 3600 if time.monotonic() - begun > 2.5 else 0\n"
            "time.time = lambda: real() - back()\n"
            "time.time_ns = lambda: real_ns() - back() * 10**9\n"
        )
        member = Member("etcdpy", tmp_path, environment={"PYTHONPATH": str(patch)})
        with member, Client.of(member) as client, client.watching() as watch:
            lease = client.grant(3).ID
            client.put(b"leased", b"v", lease=lease)
            watch.create(b"", b"\0")
            watch.next()
            for number in range(40):
                client.put(b"k", b"%d" % number)
                assert client.keep_alive(lease)[0].TTL == 3
                time.sleep(0.1)
            assert len(watch.events(40)) == 40
            (expired,) = watch.events(1, seconds_max=8)  # three seconds after the last keepalive, not an hour
            assert expired.kv.key == b"leased"

    def test_the_monotonic_clock_begins_anew_after_a_reboot(self, tmp_path: Path) -> None:
        """A lease granted late in the uptime of one boot must not live for ever in the next."""
        unshare = shutil.which("unshare")
        probe = [str(unshare), "-T", "--monotonic", "1000000", "true"]
        if unshare is None or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
            pytest.skip("no time namespaces here")
        member = Member("etcdpy", tmp_path, wrapper=probe[:-1])
        with member, Client.of(member) as client:
            lease = client.grant(300).ID
            client.put(b"leased", lease=lease)
        member.wrapper = []
        with member, Client.of(member) as client:
            left = client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=lease))
            assert 0 < left.TTL <= 300 + 2
            assert client.keep_alive(lease)[0].TTL == 300


def test_no_optimised_python(tmp_path: Path) -> None:
    """Assertions guard what only a bug can cause; without them it must not run."""
    done = subprocess.run(
        [sys.executable, "-O", "-m", "etcdpy", f"--data-dir={tmp_path / 'd'}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
