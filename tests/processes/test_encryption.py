"""Encryption at rest in whole processes: no byte of a data directory can be read, on every way there and back."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import rpc_pb2
from etcdpy.storage import data_keys
from tests.support.client import Client, prefix_end, wait_until
from tests.support.cluster import Cluster
from tests.support.encryption import find_on_disk, write_key_file
from tests.support.members import Member, NotReady
from tests.support.traffic import Writer
from tests.support.users import As

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

SECRET_KEY = b"secret-key-"
SECRET_VALUE = b"secret-value-"
USER = "alice-the-secret"
PASSWORD = "secret-password"
HASHES = [b"$2%c$%02d$" % (kind, cost) for kind in b"ab" for cost in (4, 10)]
"""How a hash of a password begins. Four of these bytes alone come up by chance in the megabytes that are searched."""
NEEDLES = [SECRET_KEY, SECRET_VALUE, USER.encode(), PASSWORD.encode(), *HASHES]
RATIO = 'etcdpy_encryption_done_ratio{database="%s"}'
COMPLETE_SECONDS_MAX = 60.0


def fill(client: Client, first: int, count: int, size: int = 40) -> None:
    for start in range(first, first + count, 20):
        puts = [
            rpc_pb2.RequestOp(
                request_put=rpc_pb2.PutRequest(
                    key=SECRET_KEY + b"%06d" % each, value=(SECRET_VALUE + b"%06d" % each).ljust(size, b"x")
                )
            )
            for each in range(start, min(start + 20, first + count))
        ]
        client.txn([], puts)


def found_keys(client: Client) -> int:
    answer = client.range(SECRET_KEY, prefix_end(SECRET_KEY))
    assert all(kv.value.startswith(SECRET_VALUE + kv.key[len(SECRET_KEY) :]) for kv in answer.kvs)
    return len(answer.kvs)


def wait_complete(member: Member, key_id: str) -> None:
    """Until both databases are encrypted under that key, and nothing else is left."""

    def complete() -> bool:
        found = data_keys.read(member.data_dir / "member" / "KEYS")
        return found is not None and found[0].complete and {each.wrapped_by for each in found[0].keys} == {key_id}

    wait_until(complete, COMPLETE_SECONDS_MAX)
    wait_until(lambda: member.metric(RATIO % "log") == member.metric(RATIO % "state") == 1)  # a moment after the file


def is_plaintext(member: Member) -> bool:
    return not (member.data_dir / "member" / "KEYS").exists()


def restart_with(member: Member, *flags: str) -> None:
    member.stop()
    member.flags = list(flags)
    member.start()


def test_a_new_member_with_users(tmp_path: Path) -> None:
    """Grep of all files while it runs, after kill -9, and after a start."""
    keys = write_key_file(tmp_path / "keys", "first")
    flags = [f"--encryption-key-file={keys}", "--snapshot-count=200", "--bcrypt-cost=4"]
    with Member("etcdpy", tmp_path, flags=flags) as member:
        with Client.of(member) as client:
            fill(client, 0, 1000)
            client.grant(100, 7)
            client.put(SECRET_KEY + b"leased", SECRET_VALUE + b"leased", lease=7)
            As(client).add_role(USER, (2, SECRET_KEY, prefix_end(SECRET_KEY)))
            As(client).add_user(USER, PASSWORD, USER)
        assert not find_on_disk(member.data_dir, NEEDLES)
        member.kill()
        assert not find_on_disk(member.data_dir, NEEDLES)
        member.start()
        with Client.of(member) as client:
            assert found_keys(client) == 1001
            assert As(client).must("UserGet", rpc_pb2.AuthUserGetRequest(name=USER)).roles == [USER]
            member.stop()
        assert not find_on_disk(member.data_dir, NEEDLES)
        assert PASSWORD not in member.log_text()


def test_three_members_there_and_back_under_a_writer(tmp_path: Path) -> None:
    """One by one to encryption, to another key without a restart, and to plaintext again; nothing is lost meanwhile."""
    with Cluster(["etcdpy"] * 3, tmp_path, flags=("--bcrypt-cost=4",)) as cluster:
        client = cluster.client(cluster.leader())
        fill(client, 0, 2000)
        As(client).add_user(USER, PASSWORD)
        for member in cluster.members:  # those that follow hear of the last commit with the next heartbeat

            def is_readable(member: Member = member) -> bool:
                return {needle for _, needle in find_on_disk(member.data_dir, NEEDLES)} >= set(NEEDLES[:3])

            wait_until(is_readable)
        with Writer(cluster, b"w/" + SECRET_KEY) as writer:
            for member in cluster.members:
                keys = write_key_file(tmp_path / f"keys-{member.name}", "first")
                restart_with(member, "--bcrypt-cost=4", f"--encryption-key-file={keys}")
                wait_complete(member, "first")
                if "until the member is started once more" in member.log_text():
                    restart_with(member, *member.flags)
                assert not find_on_disk(member.data_dir, NEEDLES)
            for member in cluster.members:
                write_key_file(tmp_path / f"keys-{member.name}", "second", "first")
            for member in cluster.members:
                wait_complete(member, "second")
                assert not find_on_disk(member.data_dir, NEEDLES)
                write_key_file(tmp_path / f"keys-{member.name}", "plaintext", "second")
            for member in cluster.members:
                wait_until(partial(is_plaintext, member), COMPLETE_SECONDS_MAX)
                restart_with(member, "--bcrypt-cost=4")
                assert find_on_disk(member.data_dir, [SECRET_VALUE])
            writer.wait(20)
        client = cluster.client(cluster.leader())
        revision = client.revision()
        for member in cluster.members:
            reader = cluster.client(member)
            assert found_keys(reader) == 2000
            stored = {kv.key for kv in reader.range(b"w/", b"w0").kvs}
            assert stored >= set(writer.acknowledged)
        assert len({cluster.hash_of(member, revision) for member in cluster.members}) == 1


def test_killed_while_it_re_encrypts(tmp_path: Path) -> None:
    """A little later each time, until it gets through; then nothing readable is left, and nothing was lost."""
    member = Member("etcdpy", tmp_path)
    with member:
        with Client.of(member) as client:
            fill(client, 0, 8000, size=1500)
        member.stop()
        keys = write_key_file(tmp_path / "keys", "first")
        member.flags = [f"--encryption-key-file={keys}"]
        draw = random.Random(5)
        for attempt in range(8):
            member.start()
            time.sleep(draw.uniform(0.0, 0.4) * (attempt + 1) / 4)
            member.kill()
            if attempt == 3:
                write_key_file(tmp_path / "keys", "second", "first")
        member.start()
        wait_complete(member, "second")
        with Client.of(member) as client:
            assert found_keys(client) == 8000
        member.stop()
        assert not find_on_disk(member.data_dir, NEEDLES)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((), 'is encrypted under the key "first"; start with --encryption-key-file and a file that holds it'),
        (("second",), 'needs the key "first", which'),
        (("first: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",), 'the key "first" in'),
    ],
)
def test_a_missing_or_wrong_key_ends_the_start_with_one_line(tmp_path: Path, ids: tuple[str, ...], words: str) -> None:
    keys = write_key_file(tmp_path / "keys", "first")
    member = Member("etcdpy", tmp_path, flags=[f"--encryption-key-file={keys}"])
    with member:
        member.stop()
        member.flags = []
        if ids:
            member.flags = [f"--encryption-key-file={write_key_file(tmp_path / 'keys', *ids)}"]
        before = len(member.log_text().splitlines())
        with pytest.raises(NotReady):
            member.start()
        errors = [line for line in member.log_text().splitlines()[before:] if '"level":"error"' in line]
        assert len(errors) == 1, errors
        assert words in errors[0].replace('\\"', '"')
        assert "Traceback" not in member.log_text()


def test_a_broken_key_file_changes_nothing(tmp_path: Path) -> None:
    keys = write_key_file(tmp_path / "keys", "first")
    with Member("etcdpy", tmp_path, flags=[f"--encryption-key-file={keys}"]) as member, Client.of(member) as client:
        keys.write_text("nonsense\n")
        wait_until(lambda: "cannot be used; going on with the keys before" in member.log_text(), 20)
        client.put(b"k", b"v")
        assert "nonsense" not in member.log_text()


def watch_files(cluster: Cluster, stop: threading.Event) -> Iterator[str]:
    """Names of temporary files, and of files in which something can be read."""
    while not stop.is_set():
        for member in cluster.members:
            for path in (member.data_dir / "member").glob("tmp-*"):
                try:
                    content = path.read_bytes() if path.is_file() else b""
                except OSError:
                    continue
                if content:
                    yield "temporary"
                    yield from (f"{path}: {needle!r}" for needle in NEEDLES[:2] if needle in content)
        time.sleep(0.005)


def test_snapshots_on_their_way(tmp_path: Path) -> None:
    """A follower that is behind the log gets the whole state: no byte of it lies readable on either side."""
    keys = write_key_file(tmp_path / "keys", "first")
    flags = (f"--encryption-key-file={keys}", "--snapshot-count=100", "--snapshot-catchup-entries=20")
    with Cluster(["etcdpy"] * 3, tmp_path, flags=flags) as cluster:
        follower = cluster.others(cluster.leader())[0]
        follower.kill()
        fill(cluster.client(cluster.leader()), 0, 12_000, size=1000)
        stop, seen = threading.Event(), set[str]()
        watcher = threading.Thread(target=lambda: seen.update(watch_files(cluster, stop)))
        watcher.start()
        try:
            cluster.restart(follower)
            wait_until(lambda: "applied snapshot" in follower.log_text(), 60)
        finally:
            stop.set()
            watcher.join()
        assert seen == {"temporary"}
        assert found_keys(cluster.client(follower)) == 12_000
        for member in cluster.members:
            assert not find_on_disk(member.data_dir, NEEDLES)
