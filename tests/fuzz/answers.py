"""What other members, a discovery service and a name server answer to this member's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy.errors import EtcdError
from etcdpy.peer import client
from etcdpy.peer.connections import Answer, PeerUnreachable
from etcdpy.peer.prober import parse_timestamp
from etcdpy.proto import lease_pb2, rpc_pb2
from etcdpy.server.discovery import Discovery, DiscoveryError, Entry
from etcdpy.server.initial_cluster import parse
from etcdpy.server.notes import ConfigError
from etcdpy.server.urls import UrlError
from etcdpy.transport.chunked import ChunkDecoder, MalformedChunk
from tests.fuzz.damage import cut, mutate
from tests.fuzz.files import START_STALL_SECONDS
from tests.fuzz.harness import STALL_SECONDS, Watch
from tests.fuzz.http1 import any_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from random import Random

_IDS: Final = (0, 1, -1, 2**64, 2**64 - 1, 1.5, "1", None, True, [1], 10**400)
_URLS: Final = ("http://127.0.0.1:1", "", "http://[::1", "\ud800", "x" * 3000, None, 7)


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits. What still waits would be for ever."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    work.close()
    raise AssertionError("the fake never makes anybody wait")


class _Fixed:
    """Connections on which every question gets the same answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def request(self, *_arguments: object, **_options: object) -> Answer:
        return self._answer


class PeerAnswers:
    """Members' answers to a member."""

    name = "peer-answers"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        headers = {"x-etcd-cluster-id": draw.choice(("c1", "", "zz", "f" * 17))}
        status = draw.choice((200, 200, 200, 200, 400, 404, 408, 412, 500))
        connections: Any = _Fixed(Answer(status, headers, self._body(draw)))
        question = draw.choice(_QUESTIONS)
        with watch.input():
            try:
                finish(question(connections))
            except (PeerUnreachable, EtcdError, TimeoutError):
                return

    def _body(self, draw: Random) -> bytes:
        kind = draw.randrange(4)
        if kind == 0:
            ttl = rpc_pb2.LeaseKeepAliveResponse(ID=draw.choice((0, 1, -1)), TTL=draw.choice((0, 5, -1, 2**62)))
            told = lease_pb2.LeaseInternalResponse(
                LeaseTimeToLiveResponse=rpc_pb2.LeaseTimeToLiveResponse(TTL=5, keys=[b"a"] * draw.randint(0, 5))
            )
            return mutate(draw, draw.choice((ttl, told)).SerializeToString())
        member = {
            "id": draw.choice(_IDS), "name": draw.choice(("m", 5, None)), "peerURLs": [draw.choice(_URLS)],
            "clientURLs": draw.choice(([], None, "x", [draw.choice(_URLS)])),
            "isLearner": draw.choice((True, "y", None)),
        }  # fmt: skip
        version: dict[str, object] = {
            "etcdserver": draw.choice(("3.7.0", "x", 3, None)),
            "etcdcluster": draw.choice(("3.7.0", [], "9" * 500)),
        }
        hashed = {"hash": draw.choice(_IDS), "header": draw.choice(({}, {"revision": draw.choice(_IDS)}, 1))}
        return any_json(draw, draw.choice(([member], member, version, hashed, "true", [])))


_QUESTIONS: Final[tuple[Callable[[Any], Coroutine[Any, Any, Any]], ...]] = (
    lambda to: client.get_members(to, ["http://h:1"], log=False),
    lambda to: client.get_version(to, "http://h:1", seconds=1),
    lambda to: client.promote(to, ["http://h:1"], 5, seconds=1),
    lambda to: client.renew_lease(to, "http://h:1", 5, seconds=1),
    lambda to: client.lease_time_to_live(to, "http://h:1", 5, keys=True, seconds=1),
    lambda to: client.hash_kv(to, "http://h:1", 5, cluster_id=1, seconds=1),
    lambda to: client.downgrade_enabled(to, "http://h:1", seconds=1),
)


class _Registry:
    """A discovery service that says anything."""

    def __init__(self, draw: Random) -> None:
        self._draw = draw

    def _text(self, honest: str) -> str:
        draw = self._draw
        return mutate(draw, honest.encode()).decode("utf-8", "replace").strip() if draw.random() < 0.4 else honest

    async def get(self, _key: str) -> str | None:
        return self._draw.choice((self._text("3"), "1", "2", None, "\u00b2", "0" * 50, "9" * 5000, "-1", ""))

    async def list(self, prefix: str) -> list[Entry]:
        draw = self._draw
        return [
            Entry(
                self._text(f"{prefix}/{draw.choice(('ab', '1', '2'))}"),
                self._text(f"m{number}=http://h:{number}"),
                number,
            )
            for number in range(draw.choice((1, 2, 3, 500)))
        ]

    async def put(self, _key: str, _value: str) -> None:
        pass


class _Impatient(Exception):
    """A look at the registry too many."""


class DiscoveryAnswers:
    """The registry of v3 discovery, and what is made of what it tells."""

    name = "discovery"
    stall_seconds = START_STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        with watch.input():
            try:
                found = finish(Discovery(_Registry(draw), "tok", 0xAB, sleep=_give_up).join("me=http://me:1"))
                parse(found)
            except (DiscoveryError, ConfigError, UrlError, _Impatient):
                return


def _give_up(_seconds: float) -> Awaitable[None]:
    raise _Impatient


class Chunks:
    """The chunked coding and the time stamps of members' answers."""

    name = "chunks"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        watch.inputs += 1
        body = b"".join(b"%x\r\n%b\r\n" % (size, bytes(size)) for size in (1, 20, 300)) + b"0\r\n\r\n"
        decoder = ChunkDecoder()
        for piece in cut(draw, mutate(draw, body)):
            try:
                with watch.turn():
                    decoder.feed(piece)
            except MalformedChunk:
                break
        text = mutate(draw, b"2026-11-21T08:56:24.123456789Z").decode("latin-1")
        try:
            with watch.turn():
                parse_timestamp(text)
        except ValueError:
            return


__all__ = ["Chunks", "DiscoveryAnswers", "PeerAnswers"]
