"""Real etcd on the other end of our PeerNetwork: a cluster of two whose second member is a puppet, which does as told.

What real etcd commits proves that it took our answers, and what it forwards that it took our stream.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import uvloop

from etcdpy import errors
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.membership.member import cluster_id, member_id
from etcdpy.peer import client
from etcdpy.peer.tls import PeerTls, PeerTlsConfig
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.message import Message
from tests.support.certificates import TestAuthority
from tests.support.members import Member as Process
from tests.support.members import free_port
from tests.support.peers import Behind, Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from pathlib import Path

pytestmark = pytest.mark.reference

TOKEN: Final = "etcd-cluster"
ANSWERS: Final = {
    raft_pb2.MsgPreVote: raft_pb2.MsgPreVoteResp,
    raft_pb2.MsgVote: raft_pb2.MsgVoteResp,
    raft_pb2.MsgHeartbeat: raft_pb2.MsgHeartbeatResp,
}


class Puppet(Behind):
    """A follower that agrees to everything, or a leader that commits whatever it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.term = self.last_term = self.last_index = 0
        self.leads = False
        self.lagging = False
        self.seen: set[int] = set()
        self.network: Any = None

    def receive(self, message: Message) -> None:
        super().receive(message)
        self.seen.add(message.type)
        if message.term > self.term:
            self.term = message.term
        if message.type == raft_pb2.MsgApp:
            self._appended(message)
        elif message.type in ANSWERS:
            self.answer(message, ANSWERS[message.type])  # type: ignore[index]
        elif message.type == raft_pb2.MsgProp and self.leads:
            self.append([Entry(entry.data, None, self.term) for entry in message.entries], message.from_)
        elif message.type == raft_pb2.MsgAppResp and self.leads and message.index == self.last_index:
            self.send(message.from_, raft_pb2.MsgApp, index=self.last_index, log_term=self.term, commit=message.index)

    def _appended(self, message: Message) -> None:
        if self.lagging:
            self.answer(message, raft_pb2.MsgAppResp, index=message.index, reject=True, reject_hint=0)
            return
        last = message.index + len(message.entries)
        if message.entries:
            self.last_index, self.last_term = last, message.entries[-1].term
        self.answer(message, raft_pb2.MsgAppResp, index=last)

    def answer(self, message: Message, kind: int, **fields: Any) -> None:
        self.send(message.from_, kind, term=message.term, context=message.context, **fields)

    def send(self, to: int, kind: int, **fields: Any) -> None:
        fields.setdefault("term", self.term)
        self.network.send([Message(kind, to=to, from_=self.network._roads.own_id, **fields)])

    def append(self, entries: list[Entry], to: int) -> None:
        index, term = self.last_index, self.last_term
        for number, entry in enumerate(entries, 1):
            entry.index = index + number
        self.last_index, self.last_term = index + len(entries), self.term
        self.send(to, raft_pb2.MsgApp, index=index, log_term=term, entries=entries, commit=index)


class Pair:
    """The process and the puppet."""

    def __init__(self, directory: Path, tls: PeerTls | None, flags: Sequence[str]) -> None:
        ports = free_port(), free_port()
        scheme = "https" if tls else "http"
        urls = [f"{scheme}://127.0.0.1:{port}" for port in ports]
        self.ids = [member_id([url], TOKEN) for url in urls]
        self.urls = urls
        self.process = Process("etcd", directory, name="real", flags=flags)
        self.process.peer_flags = lambda: [  # type: ignore[method-assign]
            f"--listen-peer-urls={urls[0]}",
            f"--initial-advertise-peer-urls={urls[0]}",
            f"--initial-cluster=real={urls[0]},puppet={urls[1]}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
        ]
        self.member = Member(self.ids[1], cluster_id=cluster_id(self.ids), tls=tls, port=ports[1])
        self.member.behind = self.puppet = Puppet()

    def know(self) -> None:
        self.member.network.add_peer(self.ids[0], [self.urls[0]])

    async def put(self, key: str, value: str) -> dict[str, object]:
        encoded = [base64.b64encode(text.encode()).decode() for text in (key, value)]
        body = json.dumps({"key": encoded[0], "value": encoded[1]})
        answer = await asyncio.to_thread(self.process.http, "POST", "/v3/kv/put", body=body.encode())
        assert answer.status == 200, answer.body
        return answer.json()


@asynccontextmanager
async def running(directory: Path, tls: PeerTls | None = None, flags: Sequence[str] = ()) -> AsyncIterator[Pair]:
    """Both, before they know each other: the puppet answers over the pipeline until `know`."""
    pair = Pair(directory, tls, flags)
    async with pair.member as member:
        pair.puppet.network = member.network
        pair.process.launch()
        try:
            yield pair
        finally:
            pair.process.kill()


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 60))


@pytest.fixture(params=["plain", "mutual TLS"])
def tls_and_flags(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PeerTls | None, list[str]]:
    if request.param == "plain":
        return None, []
    authority = TestAuthority(tmp_path)
    leaf = authority.issue("peer", "member")
    config = PeerTlsConfig(
        cert_file=leaf.cert, key_file=leaf.key, trusted_ca_file=authority.path, client_cert_auth=True
    )
    flags = [f"--peer-cert-file={leaf.cert}", f"--peer-key-file={leaf.key}", f"--peer-trusted-ca-file={authority.path}"]
    return PeerTls(config), [*flags, "--peer-client-cert-auth"]


def test_real_etcd_leads_a_puppet_over_streams(tmp_path: Path, tls_and_flags: tuple[PeerTls | None, list[str]]) -> None:
    async def scenario() -> None:
        async with running(tmp_path, *tls_and_flags) as pair:
            pair.know()
            puppet = pair.puppet
            await puppet.wait(lambda: puppet.last_index >= 4)
            for number in range(20):
                await pair.put(f"k{number}", "v" * number * 1000)
            await puppet.wait(lambda: {raft_pb2.MsgVote, raft_pb2.MsgHeartbeat, raft_pb2.MsgApp} <= puppet.seen)
            appended = [entry.data for message in puppet.received for entry in message.entries]
            assert any(b"v" * 19_000 in data for data in appended)
            label = f"{pair.ids[0]:x}"
            metrics = pair.member.network.metrics
            assert metrics.received_bytes[label] > 190_000
            assert metrics.sent_bytes[label] > 0
            assert not metrics.sent_failures[label]
            assert pair.member.network.active_since(pair.ids[0]) is not None
            # It has dialed both of our streams, and read them without a complaint.
            peer = pair.member.network.peer(pair.ids[0])
            assert peer is not None
            assert all(writer.working for writer in peer.writers.values())
            assert "lost TCP streaming" not in pair.process.log_text()
            await peer.prober.probe()
            assert 0 < peer.prober.round_trip_seconds < 1
            assert abs(peer.prober.clock_difference_seconds) < 0.5

    run(scenario())


def test_real_etcd_takes_the_pipeline_while_it_has_no_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as pair:
            puppet = pair.puppet
            # We dial no stream of its, so its votes come by POST; it is a sender that we do not know, and is answered
            # by POST as well.
            await puppet.wait(lambda: puppet.last_index >= 4)
            assert (await pair.put("k", "v"))["header"]
            assert "error sender not found" not in pair.process.log_text()
            pair.know()
            await pair.member.behind.wait(lambda: pair.member.network.active_since(pair.ids[0]) is not None)
            assert (await pair.put("k", "w"))["header"]

    run(scenario())


def test_a_puppet_leads_real_etcd(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as pair:
            pair.know()
            puppet, real = pair.puppet, pair.ids[0]
            await puppet.wait(lambda: puppet.last_index >= 4)
            puppet.term += 1
            term = puppet.term
            last = {"log_term": puppet.last_term, "index": puppet.last_index}
            # As after a transfer: otherwise real etcd clings to the leader that it is.
            puppet.send(real, raft_pb2.MsgVote, context=b"CampaignTransfer", **last)
            await puppet.wait(lambda: any(found.type == raft_pb2.MsgVoteResp for found in puppet.received))
            puppet.leads = True
            puppet.append([Entry(b"", None, term)], real)
            beating = asyncio.create_task(_beat(puppet, real))
            # The put is forwarded to us, comes back in an append, and is committed by the next.
            for number in range(5):
                await pair.put(f"k{number}", "led by a puppet")
            beating.cancel()
            assert raft_pb2.MsgProp in puppet.seen
            assert raft_pb2.MsgHeartbeatResp in puppet.seen
            assert puppet.term == term
            assert "lost TCP streaming" not in pair.process.log_text()

    run(scenario())


async def _beat(puppet: Puppet, real: int) -> None:
    while True:
        puppet.send(real, raft_pb2.MsgHeartbeat, commit=0)
        await asyncio.sleep(0.05)


def test_real_etcd_sends_a_snapshot(tmp_path: Path) -> None:
    async def scenario() -> None:
        flags = ["--snapshot-count=10", "--snapshot-catchup-entries=5"]
        async with running(tmp_path, flags=flags) as pair:
            pair.know()
            puppet = pair.puppet
            await puppet.wait(lambda: puppet.last_index >= 4)
            for number in range(30):
                await pair.put(f"k{number}", "v" * 50_000)
            # A leader forgets what its followers have when it starts anew; the puppet says that it has lost everything.
            pair.process.kill()
            puppet.lagging = True
            pair.process.launch()
            await _catch_up(puppet, pair.ids[0])
            await asyncio.to_thread(pair.process.wait_ready)
            await pair.put("last", "v")
            message, content = puppet.snapshots[0]
            assert message.snapshot is not None
            assert message.snapshot.metadata.index > 20
            path = tmp_path / "received.db"
            path.write_bytes(content)
            keys = [value for _, value in BoltFile(path).scan(b"key")]
            assert sum(b"v" * 50_000 in value for value in keys) >= 20  # what it had committed when it was killed
            assert "sent database snapshot" in pair.process.log_text()

    run(scenario())


async def _catch_up(puppet: Puppet, real: int) -> None:
    await puppet.wait(lambda: puppet.snapshots, 20)
    puppet.lagging = False
    snapshot = puppet.snapshots[0][0].snapshot
    assert snapshot is not None
    puppet.send(real, raft_pb2.MsgAppResp, index=snapshot.metadata.index)


def test_questions_to_real_etcd(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as pair:
            pair.know()
            await pair.puppet.wait(lambda: pair.puppet.last_index >= 4)
            await pair.put("k", "v")
            opened, url = pair.member.network.connections, pair.urls[0]
            found = await client.get_members(opened, [url])
            assert found.cluster_id == cluster_id(pair.ids)
            assert {member.id for member in found.members} == set(pair.ids)
            assert {member.peer_urls for member in found.members} == {(each,) for each in pair.urls}
            assert (await client.get_version(opened, url, seconds=5)).server.startswith("3.")
            hashed = await client.hash_kv(opened, url, 0, cluster_id=found.cluster_id, seconds=5)
            assert hashed.revision == hashed.hash_revision == 2
            with pytest.raises(errors.FutureRevision):
                await client.hash_kv(opened, url, 99, cluster_id=found.cluster_id, seconds=5)
            with pytest.raises(errors.ClusterIdMismatch):
                await client.hash_kv(opened, url, 0, cluster_id=5, seconds=5)
            assert await client.downgrade_enabled(opened, url, seconds=5) is False
            with pytest.raises(errors.LeaseNotFound):
                await client.renew_lease(opened, url, 77, seconds=5)
            with pytest.raises(errors.LeaseNotFound):
                await client.lease_time_to_live(opened, url, 77, keys=True, seconds=5)
            with pytest.raises(errors.MemberNotLearner):
                await client.promote(opened, [url], pair.ids[0], seconds=5)
            with pytest.raises(errors.MemberNotFound):
                await client.promote(opened, [url], 5, seconds=5)

    run(scenario())


def test_real_etcd_refuses_a_stranger_in_our_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as pair:
            await pair.puppet.wait(lambda: pair.puppet.received)
            async with Member(9, cluster_id=0xBAD) as stranger:
                stranger.network.add_peer(pair.ids[0], [pair.urls[0]])
                stranger.network.send([Message(raft_pb2.MsgHeartbeat, to=pair.ids[0], from_=9)])
                await stranger.behind.wait(lambda: stranger.behind.lost and "ignored by remote peer" in caplog.text)
            assert "request cluster ID mismatch" in pair.process.log_text()

    run(scenario())
    assert "request sent was ignored by remote peer due to cluster ID mismatch" in caplog.text
