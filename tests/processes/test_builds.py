"""Two builds of one program. `make test` runs members as a wheel has them, compiled. Here run the sources, as they do
where nothing can be compiled, and what the build shows only from inside: hostile inputs, a simulation step by step."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.processes.test_kill9 import load_and_kill, verify
from tests.support.built import ROOT, built_package, is_compiled, reason_not_to_compile
from tests.support.client import Client, Refusal, outcome, prefix_end, wait_until
from tests.support.cluster import Cluster
from tests.support.members import BUILT_VARIABLE, Member, command_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)  # the first test compiles: a minute of one core, more where both are busy

FUZZ_SECONDS = 2


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members started here run the sources."""
    monkeypatch.delenv(BUILT_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def package() -> Iterator[Path]:
    """The build; members started meanwhile run it."""
    reason = reason_not_to_compile()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must compile: {reason}")
    if reason:
        pytest.skip(f"not compiled here: {reason}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BUILT_VARIABLE, str(built := built_package()))
        yield built


@pytest.fixture
def member(sources: None, tmp_path: Path) -> Iterator[Member]:
    with Member("etcdpy", tmp_path) as running:
        yield running


def test_it_is_compiled_and_says_so(package: Path) -> None:
    assert is_compiled(package)
    said = subprocess.run([*command_of("etcdpy"), "--version"], capture_output=True, text=True, check=True).stdout
    assert "(compiled with mypyc)" in said
    pure = subprocess.run([sys.executable, "-m", "etcdpy", "--version"], capture_output=True, text=True, check=True)
    assert said.replace(" (compiled with mypyc)", "") == pure.stdout


def test_requests_of_every_kind(member: Member) -> None:
    with Client.of(member) as client, client.watching() as stream:
        stream.create(b"k", b"l", prev_kv=True)
        assert stream.next().created
        lease = client.grant(2).ID
        first = client.put(b"k1", b"one", lease=lease).header.revision
        client.put(b"k2", bytes(1_400_000))  # over many frames
        guard = kv_pb2.KeyValue(key=b"k1")
        compare = rpc_pb2.Compare(key=guard.key, target=rpc_pb2.Compare.VERSION, version=1)
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k3", value=b"three", prev_kv=True))
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k", range_end=b"l", keys_only=True))
        answer = client.txn([compare], [put, read])
        assert answer.succeeded
        assert [kv.key for kv in answer.responses[1].response_range.kvs] == [b"k1", b"k2", b"k3"]
        assert client.delete(b"k2", prev_kv=True).prev_kvs[0].value == bytes(1_400_000)
        assert [event.kv.key for event in stream.events(4)] == [b"k1", b"k2", b"k3", b"k2"]
        assert client.keep_alive(lease)[0].TTL == 2
        assert client.range(b"k", b"l", revision=first).count == 1
        (ended,) = stream.events(1, seconds_max=10)
        assert (ended.type, ended.kv.key, ended.prev_kv.value) == (kv_pb2.Event.DELETE, b"k1", b"one")
        client.compact(client.revision())
        assert outcome(client.kv.Range, rpc_pb2.RangeRequest(key=b"k", revision=first)) == Refusal(
            "OutOfRange", "etcdserver: mvcc: required revision has been compacted"
        )
        chunks = client.range_stream(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
        assert [kv.key for chunk in chunks for kv in chunk.kvs] == [b"k3"]
        assert outcome(client.kv.Put, rpc_pb2.PutRequest()) == Refusal(
            "InvalidArgument", "etcdserver: key is not provided"
        )
        broken = client.channel.unary_unary(
            "/etcdserverpb.KV/Put", request_serializer=bytes, response_deserializer=bytes
        )
        answer_to_garbage = outcome(broken, b"\x0a\xff\xff")
        assert isinstance(answer_to_garbage, Refusal)
        assert answer_to_garbage.code == "Internal"
        assert client.put(b"k9").header.revision > first, "it goes on after all that"
    assert '"level":"error"' not in member.log_text(), member.log_tail()


def test_acknowledged_writes_survive_kill_9(member: Member) -> None:
    for cycle in range(3):
        prefix = b"/cycle%d/" % cycle
        told = load_and_kill(member, prefix, 0.4)
        assert len(told.stored) > 20
        member.start()
        with Client.of(member) as client:
            verify(client, prefix, told)


def test_a_cluster_outlives_its_leader(sources: None, tmp_path: Path) -> None:
    with Cluster(["etcdpy"] * 3, tmp_path) as cluster:
        for number, each in enumerate(cluster.members * 50):
            cluster.client(each).put(b"/a/%03d" % number, b"v" * number)
        leader = cluster.leader()
        leader.kill()
        left = cluster.others(leader)
        cluster.leader(left)
        for number, each in enumerate(left * 50):
            cluster.client(each).put(b"/b/%03d" % number)
        cluster.restart(leader)
        revision = cluster.assert_equal(cluster.members)
        assert revision >= 1 + 150 + 100
        wait_until(lambda: cluster.client(leader).range(b"/", prefix_end(b"/"), serializable=True).count == 250)


def run_on(package: Path, *arguments: str) -> str:
    """What a module prints on the build (its tests are those here). Fails where it fails."""
    command = [sys.executable, "-P", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("surface", ["http2", "grpc", "http1-client", "peer-streams"])
def test_hostile_inputs_find_nothing(package: Path, surface: str) -> None:
    """The seeds are drawn; a failure names each."""
    run_on(package, "-m", "tests.fuzz", "--surface", surface, "--soak", str(FUZZ_SECONDS))


def test_a_simulated_cluster_takes_the_same_steps(package: Path) -> None:
    where = run_on(package, "-c", "import etcdpy.raft.core as m; print(m.__file__)")
    assert where.startswith(str(package)), "the build is what is imported"
    assert not where.endswith(".py\n")
    command = ("-m", "tests.simulation", "--seed", "both builds", "--trace")
    steps = run_on(package, *command)
    assert len(steps.splitlines()) > 1000
    assert steps == run_on(ROOT, *command)
