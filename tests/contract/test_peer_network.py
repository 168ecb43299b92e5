"""Two PeerNetworks on loopback, plain and with mutual TLS: every road, every refusal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from etcdpy import errors, limits
from etcdpy.peer import client
from etcdpy.peer.connections import connections
from etcdpy.peer.tls import PeerTls, PeerTlsConfig
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.message import Message, encode_message
from tests.support.certificates import TestAuthority
from tests.support.peers import CLUSTER, Behind, Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

    from etcdpy.peer.connections import Answer

HEARTBEAT, VOTE, APP, SNAP = raft_pb2.MsgHeartbeat, raft_pb2.MsgVote, raft_pb2.MsgApp, raft_pb2.MsgSnap


@pytest.fixture(params=["plain", "mutual TLS"])
def make_tls(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], PeerTls | None]:
    if request.param == "plain":
        return lambda: None
    authority = TestAuthority(tmp_path)
    leaf = authority.issue("peer", "member")
    config = PeerTlsConfig(
        cert_file=leaf.cert, key_file=leaf.key, trusted_ca_file=authority.path, client_cert_auth=True
    )
    return lambda: PeerTls(config)


@asynccontextmanager
async def pair(make_tls: Callable[[], PeerTls | None], **options: Any) -> AsyncIterator[tuple[Member, Member]]:
    """Members 1 and 2, which know each other and have all four streams."""
    async with Member(1, tls=make_tls(), **options) as one, Member(2, tls=make_tls(), **options) as two:
        one.knows(two)
        two.knows(one)
        await one.wait_streams(two)
        await two.wait_streams(one)
        yield one, two


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work, 30))


def heartbeat(number: int, *, to: int = 2, from_: int = 1) -> Message:
    return Message(HEARTBEAT, to=to, from_=from_, term=7, commit=number)


def append(index: int, data: bytes = b"x", *, to: int = 2, from_: int = 1) -> Message:
    entry = Entry(data, term=7, index=index + 1)
    return Message(APP, to=to, from_=from_, term=7, log_term=7, index=index, entries=[entry], commit=index)


class Body:
    """A snapshot's state of so many bytes."""

    def __init__(self, size: int, *, fails: bool = False) -> None:
        self.size_bytes = size
        self.closed = 0
        self._fails = fails

    async def chunks(self) -> AsyncIterator[bytes]:
        left = self.size_bytes
        while left:
            if self._fails and left < self.size_bytes // 2:
                raise OSError("the disk is gone")
            taken = min(left, 100_000)
            yield b"s" * taken
            left -= taken
            await asyncio.sleep(0)

    def close(self) -> None:
        self.closed += 1


def snapshot(*, to: int = 2) -> Message:
    metadata = raft_pb2.SnapshotMetadata(index=9, term=7)
    return Message(SNAP, to=to, from_=1, term=7, snapshot=raft_pb2.Snapshot(metadata=metadata))


def test_streams_carry_messages_both_ways(make_tls: Callable[[], PeerTls | None]) -> None:
    async def scenario() -> None:
        async with pair(make_tls) as (one, two):
            one.network.send([heartbeat(1), append(4), append(5), heartbeat(2)])
            two.network.send([heartbeat(3, to=1, from_=2), append(8, b"y" * 3_000_000, to=1, from_=2)])
            await two.behind.wait(lambda: len(two.behind.received) == 4)
            await one.behind.wait(lambda: len(one.behind.received) == 2)
            by_type = {
                kind: [found for found in two.behind.received if found.type == kind] for kind in (APP, HEARTBEAT)
            }
            assert by_type == {APP: [append(4), append(5)], HEARTBEAT: [heartbeat(1), heartbeat(2)]}
            assert sorted(len(found.entries) for found in one.behind.received) == [0, 1]
            assert one.network.metrics.received_bytes["2"] >= 3_000_000
            assert one.network.metrics.sent_bytes["2"] > 0
            assert one.network.active_since(2) is not None
            assert one.network.metrics.active_peers["2"] == 1
            assert not one.behind.lost

    run(scenario())


def test_all_messages_of_one_call_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with pair(lambda: None) as (one, two):
            peer = one.network.peer(2)
            assert peer is not None
            answer = peer.writers["message"]._answer
            assert answer is not None
            writes: list[int] = []
            send = answer.send

            def counted(pieces: Sequence[bytes]) -> int:
                writes.append(len(pieces))
                return send(pieces)

            monkeypatch.setattr(answer, "send", counted)
            one.network.send([heartbeat(number) for number in range(500)])
            assert len(writes) == 1
            await two.behind.wait(lambda: len(two.behind.received) == 500)

    run(scenario())


def test_without_streams_messages_take_the_pipeline(make_tls: Callable[[], PeerTls | None]) -> None:
    async def scenario() -> None:
        async with Member(1, tls=make_tls()) as one, Member(2, tls=make_tls()) as two:
            one.knows(two)  # two does not know one, so it dials no stream of ours
            one.network.send([heartbeat(number) for number in range(10)])
            await two.behind.wait(lambda: len(two.behind.received) == 10)
            assert {message.commit for message in two.behind.received} == set(range(10))
            # ... and two has learnt from the requests how to answer one.
            two.network.send([heartbeat(5, to=1, from_=2)])
            await asyncio.sleep(0)

    run(scenario())


def test_the_pipeline_drops_and_reports_what_is_too_much() -> None:
    async def scenario() -> None:
        async with Member(1, dial_seconds=0.2) as one:
            one.network.add_peer(2, ["http://127.0.0.1:1"])
            one.network.send([heartbeat(number) for number in range(limits.PEER_PIPELINE_QUEUE_MESSAGES + 5)])
            assert one.behind.lost == [2]
            assert one.network.metrics.sent_failures["2"] == 5
            await one.behind.wait(lambda: len(one.behind.lost) == 1 + limits.PEER_PIPELINE_QUEUE_MESSAGES)

    run(scenario())


def test_a_stream_that_stands_still_holds_back_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_STREAM_QUEUE_MESSAGES", 10)

    async def scenario() -> None:
        async with pair(lambda: None) as (one, two):
            peer = one.network.peer(2)
            assert peer is not None
            answer = peer.writers["msgapp"]._answer
            assert answer is not None
            answer.pause_writing()
            one.network.send([append(index) for index in range(15)])
            assert one.behind.lost == [2]
            one.network.send([heartbeat(1)])  # another road
            await two.behind.wait(lambda: two.behind.received == [heartbeat(1)])
            answer.resume_writing()
            await two.behind.wait(lambda: len(two.behind.received) == 11)
            assert two.behind.received[1:] == [append(index) for index in range(10)]

    run(scenario())


def test_a_large_backlog_is_written_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with pair(lambda: None) as (one, two):
            peer = one.network.peer(2)
            assert peer is not None
            answer = peer.writers["msgapp"]._answer
            assert answer is not None
            writes: list[int] = []
            send = answer.send

            def counted(pieces: Sequence[bytes]) -> int:
                writes.append(sum(map(len, pieces)))
                return send(pieces)

            monkeypatch.setattr(answer, "send", counted)
            one.network.send([append(index, b"x" * 400_000) for index in range(40)])
            assert max(writes) < 2 * limits.PEER_STREAM_SLICE_BYTES
            await two.behind.wait(lambda: len(two.behind.received) == 40)
            assert [found.index for found in two.behind.received] == list(range(40))

    run(scenario())


def test_streams_come_back_after_a_restart(make_tls: Callable[[], PeerTls | None]) -> None:
    async def scenario() -> None:
        async with Member(1, tls=make_tls()) as one:
            async with Member(2, tls=make_tls()) as two:
                one.knows(two)
                two.knows(one)
                await one.wait_streams(two)
                port = int(two.url.rsplit(":", 1)[1])
            await one.behind.wait(lambda: one.network.active_since(2) is None)
            assert one.network.metrics.disconnected_peers["2"] >= 1
            assert one.behind.lost
            async with Member(2, tls=make_tls(), port=port) as again:
                again.knows(one)
                await one.wait_streams(again)
                await again.wait_streams(one)
                one.network.send([append(3)])
                await again.behind.wait(lambda: again.behind.received == [append(3)])

    run(scenario())


def test_a_stream_on_which_nothing_comes_is_dialed_again(caplog: pytest.LogCaptureFixture) -> None:
    """As when the other host has vanished: not even its link heartbeats come."""

    async def scenario() -> None:
        async with Member(1, read_seconds=0.3) as one, Member(2, read_seconds=60) as two:
            one.knows(two)
            two.knows(one)
            await two.wait_streams(one)
            first = [writer._answer for writer in two.network._peers[1].writers.values()]
            await two.behind.wait(
                lambda: all(
                    writer.working and writer._answer is not answer
                    for writer, answer in zip(two.network._peers[1].writers.values(), first, strict=True)
                )
            )

    run(scenario())
    assert any("read: i/o timeout" in str(vars(record).get("fields")) for record in caplog.records)


def test_link_heartbeats_keep_a_quiet_stream() -> None:
    async def scenario() -> None:
        async with pair(lambda: None, read_seconds=0.3) as (one, two):
            first = [writer._answer for writer in two.network._peers[1].writers.values()]
            await asyncio.sleep(1.0)
            assert [writer._answer for writer in two.network._peers[1].writers.values()] == first
            assert not one.behind.received

    run(scenario())


def test_a_member_is_tried_under_its_next_url() -> None:
    async def scenario() -> None:
        async with Member(1, dial_seconds=0.2) as one, Member(2) as two:
            one.network.add_peer(2, ["http://127.0.0.1:1", two.url])
            two.knows(one)
            await two.wait_streams(one)
            one.network.update_peer(2, [two.url])
            await one.wait_streams(two)

    run(scenario())


@pytest.mark.parametrize("size", [0, 1, 20_000_000])
def test_a_snapshot_arrives_whole(make_tls: Callable[[], PeerTls | None], size: int) -> None:
    async def scenario() -> None:
        async with pair(make_tls) as (one, two):
            body = Body(size)
            one.network.send_snapshot(snapshot(), body)
            await one.behind.wait(lambda: one.behind.snapshots_sent)
            assert one.behind.snapshots_sent == [(2, True)]
            message, content = two.behind.snapshots[0]
            assert (message, len(content), body.closed) == (snapshot(), size, 1)
            assert two.network.metrics.snapshot_receive_success["1"] == 1
            assert two.network.metrics.snapshot_receive_inflights["1"] == 0
            assert one.network.metrics.snapshot_send_success["2"] == 1

    run(scenario())


def test_heartbeats_pass_a_snapshot_that_is_not_taken(make_tls: Callable[[], PeerTls | None]) -> None:
    class Slow(Behind):
        async def receive_snapshot(self, message: Message, body: AsyncIterator[bytes]) -> None:
            self.gate = asyncio.Event()
            self.snapshots.append((message, b""))
            await self.gate.wait()
            async for _ in body:
                pass

    async def scenario() -> None:
        async with pair(make_tls) as (one, two):
            two.network._roads.receiver = slow = Slow()
            one.network.send_snapshot(snapshot(), Body(30_000_000))
            await slow.wait(lambda: slow.snapshots)
            one.network.send([heartbeat(1), append(2)])
            await slow.wait(lambda: len(slow.received) == 2)
            assert not one.behind.snapshots_sent
            slow.gate.set()
            await one.behind.wait(lambda: one.behind.snapshots_sent == [(2, True)])

    run(scenario())


def test_a_snapshot_that_fails_is_reported(make_tls: Callable[[], PeerTls | None]) -> None:
    async def scenario() -> None:
        async with pair(make_tls) as (one, two):
            two.behind.snapshot_error = OSError("no space left on device")
            one.network.send_snapshot(snapshot(), Body(1_000_000))
            await one.behind.wait(lambda: one.behind.snapshots_sent == [(2, False)])
            two.behind.snapshot_error = None
            broken = Body(10_000_000, fails=True)
            one.network.send_snapshot(snapshot(), broken)
            await one.behind.wait(lambda: len(one.behind.snapshots_sent) == 2)
            assert one.behind.snapshots_sent[1] == (2, False)
            assert not two.behind.snapshots
            assert broken.closed == 1
            assert one.network.metrics.snapshot_send_failures["2"] == 2
            stranger = Body(5)
            one.network.send_snapshot(snapshot(to=9), stranger)
            assert one.behind.snapshots_sent[2] == (9, False)
            assert stranger.closed == 1

    run(scenario())


def test_questions_and_answers(make_tls: Callable[[], PeerTls | None]) -> None:
    async def scenario() -> None:
        tls = make_tls()
        async with Member(1, tls=make_tls()) as one, connections(tls.client if tls else None) as opened:
            url = one.url
            found = await client.get_members(opened, ["http://127.0.0.1:1", url])
            assert (found.cluster_id, [member.id for member in found.members]) == (CLUSTER, [1])
            assert (await client.get_version(opened, url, seconds=5)).cluster == "3.7.0"
            assert (await client.promote(opened, [url], 5, token="t", seconds=5))[0].name == "one"
            assert one.behind.promoted == [(5, "t")]
            for member, error in ((404, errors.MemberNotFound), (412, errors.MemberNotLearner)):
                with pytest.raises(error):
                    await client.promote(opened, [url], member, seconds=5)
            with pytest.raises(errors.LearnerNotReady):
                await client.promote(opened, [url], 413, seconds=5)
            with pytest.raises(client.PeerUnreachable, match="Internal Server Error"):
                await client.promote(opened, [url], 500, seconds=5)
            assert await client.renew_lease(opened, url, 5, seconds=5) == 60
            with pytest.raises(errors.LeaseNotFound):
                await client.renew_lease(opened, url, 404, seconds=5)
            with pytest.raises(TimeoutError):
                await client.renew_lease(opened, url, 408, seconds=5)
            told = await client.lease_time_to_live(opened, url, 5, keys=True, seconds=5)
            assert (told.TTL, told.grantedTTL, list(told.keys)) == (5, 9, [b"k"])
            hashed = await client.hash_kv(opened, url, 8, cluster_id=CLUSTER, seconds=5)
            assert hashed == client.HashOfStore(7, 8, 2, 12)
            with pytest.raises(errors.Compacted):
                await client.hash_kv(opened, url, 1, cluster_id=CLUSTER, seconds=5)
            with pytest.raises(errors.FutureRevision):
                await client.hash_kv(opened, url, 99, cluster_id=CLUSTER, seconds=5)
            with pytest.raises(errors.ClusterIdMismatch):
                await client.hash_kv(opened, url, 8, cluster_id=1, seconds=5)
            assert await client.downgrade_enabled(opened, url, seconds=5) is True

    run(scenario())


# --- refusals ---

GOOD = {"X-Server-From": "2", "X-Server-Version": "3.7.3", "X-Min-Cluster-Version": "3.0.0", "X-Raft-To": "1"}


async def ask(one: Member, method: str, path: str, body: bytes = b"", **changed: str) -> Answer:
    headers = {**GOOD, "X-Etcd-Cluster-ID": f"{CLUSTER:x}", **{k.replace("_", "-"): v for k, v in changed.items()}}
    async with connections(None) as opened:
        return await opened.request(method, one.url, path, list(headers.items()), body, seconds=5)


@pytest.mark.parametrize(
    ("method", "path", "changed", "status", "text", "logged"),
    [
        ("GET", "/raft/stream/msgapp/2", {"X_Etcd_Cluster_ID": "bad"}, 412, "cluster ID mismatch", "request cluster"),
        ("GET", "/raft/stream/msgapp/2", {"X_Server_Version": "2.3.0"}, 412, "incompatible version", "failed version"),
        ("GET", "/raft/stream/msgapp/2", {"X_Server_Version": "?"}, 412, "incompatible version", "cannot be"),
        ("GET", "/raft/stream/msgapp/2", {"X_Min_Cluster_Version": "4.0.0"}, 412, "incompatible version", "too low"),
        ("GET", "/raft/stream/msgapp/2", {"X_Raft_To": "3"}, 412, "to field mismatch", "ID mismatch"),
        ("GET", "/raft/stream/msgapp/9", {}, 404, "error sender not found", "failed to find remote peer in cluster"),
        ("GET", "/raft/stream/msgapp/xyz", {}, 404, "invalid from", "failed to parse path into ID"),
        ("GET", "/raft/stream/msgapp/6", {}, 410, "removed member", "because it was removed"),
        ("GET", "/raft/stream/other/2", {}, 404, "invalid path", ""),
        ("POST", "/raft/stream/msgapp/2", {}, 405, "Method Not Allowed", ""),
        ("GET", "/raft", {}, 405, "Method Not Allowed", ""),
        ("POST", "/raft", {"X_Etcd_Cluster_ID": "bad"}, 412, "cluster ID mismatch", "request cluster ID mismatch"),
        ("POST", "/raft/snapshot", {"X_Etcd_Cluster_ID": "1"}, 412, "cluster ID mismatch", "request cluster"),
        ("GET", "/raft/snapshot", {}, 405, "Method Not Allowed", ""),
        ("POST", "/raft/snapshot", {}, 400, "failed to decode raft message (unexpected EOF)", "failed to decode"),
        ("GET", "/elsewhere", {}, 404, "404 page not found", ""),
        ("POST", "/members", {}, 405, "Method Not Allowed", ""),
        ("POST", "/members/promote/x", {}, 404, "member x not found in cluster", ""),
        ("POST", "/leases", {"Content_Type": "x"}, 200, "", ""),
    ],
)  # fmt: skip
def test_refusals_are_etcds(
    method: str, path: str, changed: dict[str, str], status: int, text: str, logged: str, caplog: Any
) -> None:
    async def scenario() -> None:
        async with Member(1) as one:
            one.network.add_peer(2, ["http://127.0.0.1:1"])
            one.behind.removed.add(6)
            answer = await ask(one, method, path, b"", **changed)
            assert answer.status == status
            assert status == 200 or answer.text == text
            assert not one.behind.received

    run(scenario())
    told = [f"{record.message} {getattr(record, 'fields', '')}" for record in caplog.records]
    assert not logged or any(logged in line for line in told), told


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        (Message(HEARTBEAT, to=1, from_=6), 403, '{"message": "cannot process message from removed member"}'),
        (Message(HEARTBEAT, to=3, from_=2), 403, '{"message": "cannot process message to mismatch member"}'),
        (None, 400, "error unmarshalling raft message"),
        (Message(SNAP, to=1, from_=2), 400, "wrong raft message type"),
        (Message(HEARTBEAT, to=1, from_=2), 204, ""),
    ],
)
def test_messages_for_others_are_refused(message: Message | None, status: int, text: str) -> None:
    async def scenario() -> None:
        async with Member(1) as one:
            one.behind.removed.add(6)
            body = b"\xff" if message is None else b"".join(encode_message(message))
            answer = await ask(one, "POST", "/raft", body)
            assert (answer.status, answer.text) == (status, text)
            assert one.behind.received == ([message] if status == 204 else [])

    run(scenario())


def test_a_removed_member_is_told_so() -> None:
    async def scenario() -> None:
        async with Member(1) as one, Member(2) as two:
            one.behind.removed.add(2)
            two.knows(one)
            await two.behind.wait(lambda: two.behind.told_removed)
            two.behind.told_removed = 0
            two.network.send([heartbeat(1, to=1, from_=2)])
            await two.behind.wait(lambda: two.behind.told_removed)
            assert not one.behind.received

    run(scenario())


def test_a_member_that_comes_in_at_the_end_is_not_dialed() -> None:
    """What was committed is applied until the process ends, additions of members too."""

    async def scenario() -> None:
        async with Member(1) as one:
            await one.network.stop()
            one.network.add_peer(2, ["http://127.0.0.1:1"])
            assert one.network.peer(2) is None

    run(scenario())


def test_another_cluster_hears_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Member(1) as one, Member(2, cluster_id=0xC2) as two:
            one.knows(two)
            two.knows(one)
            two.network.send([heartbeat(1, to=1, from_=2)])
            await two.behind.wait(lambda: two.behind.lost and "ignored by remote peer" in caplog.text)
            assert not one.behind.received
            assert one.network.active_since(2) is None

    run(scenario())
    assert "request sent was ignored by remote peer due to cluster ID mismatch" in caplog.text
    assert "request sent was ignored due to cluster ID mismatch" in caplog.text


def test_strangers_that_name_themselves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_REMOTES_MAX", 2)

    async def scenario() -> None:
        async with Member(1) as one:
            for stranger in ("a", "b", "c"):
                await ask(one, "GET", f"/raft/stream/message/{stranger}", X_PeerURLs="http://127.0.0.1:1")
            await ask(one, "GET", "/raft/stream/message/d", X_PeerURLs="gopher://x")
            assert sorted(one.network._remotes) == [0xA, 0xB]
            one.network.add_peer(0xA, ["http://127.0.0.1:1"])
            assert sorted(one.network._remotes) == [0xB]

    run(scenario())
