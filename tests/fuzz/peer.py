"""What members say to each other: the two streams, raft's messages against a node in every role, snapshots' bodies."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from etcdpy.mvcc.store import Store
from etcdpy.peer.codec import AppDecoder, AppEncoder, MalformedFrame, MessageDecoder, MessageEncoder, frame_message
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import LogLost, MalformedMessage
from etcdpy.raft.message import Message, decode_message, encode_message
from tests.fuzz.damage import cut, mutate
from tests.fuzz.harness import STALL_SECONDS, Watch, Wrong
from tests.support.backend_file import MemoryView, export_file
from tests.support.memory_backend import MemoryBackend
from tests.support.nodes import Loop, make_node

if TYPE_CHECKING:
    from random import Random

_TYPES: Final = sorted(raft_pb2.MessageType.values())
_NUMBERS: Final = (0, 0, 1, 1, 2, 3, 4, 5, 7, 100, 2**31, 2**62, 2**63, 2**64 - 1)


def any_raft_message(draw: Random, to: int = 1) -> Message:
    """A message that an honest encoder can write, whatever it says."""
    entries = []
    first = draw.choice((1, 2, 3, 4, 5, draw.choice(_NUMBERS)))
    for number in range(draw.choice((0, 0, 1, 2, 5))):
        data = _change(draw) if draw.random() < 0.2 else draw.randbytes(draw.choice((0, 5, 40)))
        entries.append(
            Entry(data, term=draw.choice((1, 1, 2, 3)), index=first + number, type=draw.choice((0, 0, 0, 1, 2)))
        )
    made = Message(
        draw.choice(_TYPES) if draw.random() < 0.97 else draw.choice((99, 2**31)),
        to=to if draw.random() < 0.95 else draw.choice(_NUMBERS),
        from_=draw.choice((1, 2, 2, 2, 3, 3, 4, draw.choice(_NUMBERS))),
        term=draw.choice((0, 1, 1, 2, 3, 3, 4, draw.choice(_NUMBERS))),
        log_term=draw.choice((0, 1, 1, 2, 3)),
        index=max(first - 1, 0) if draw.random() < 0.8 else draw.choice(_NUMBERS),
        entries=entries,
        commit=draw.choice((0, 1, 2, 3, draw.choice(_NUMBERS))),
        vote=draw.choice((0, 0, 1)),
        reject=draw.random() < 0.3,
        reject_hint=draw.choice((0, 0, 1, draw.choice(_NUMBERS))),
        context=draw.choice((b"", b"", b"CampaignTransfer", draw.randbytes(8))),
    )
    if draw.random() < 0.15:
        conf_state = raft_pb2.ConfState(voters=[draw.choice((1, 2, 3, 4, 2**63)) for _ in range(draw.randint(0, 4))])
        metadata = raft_pb2.SnapshotMetadata(
            conf_state=conf_state, index=draw.choice(_NUMBERS), term=draw.choice((0, 1, 2, 3))
        )
        made.snapshot = raft_pb2.Snapshot(metadata=metadata)
    return made


def _change(draw: Random) -> bytes:
    kind = draw.choice((0, 1, 2, 3))
    change = raft_pb2.ConfChange(type=kind, node_id=draw.choice((0, 1, 2, 3, 9)))  # type: ignore[arg-type]
    return change.SerializeToString()


class Streams:
    """The msgapp and the message stream, cut anywhere."""

    name = "peer-streams"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        watch.inputs += 1
        app = draw.random() < 0.6
        pieces: list[bytes] = []
        messages = [any_raft_message(draw) for _ in range(draw.randint(1, 6))]
        decoder: AppDecoder | MessageDecoder
        if app:
            AppEncoder().encode(_appends(draw, messages), pieces)
            decoder = AppDecoder(1, 2)
        else:
            MessageEncoder().encode(messages, pieces)
            decoder = MessageDecoder()
        data = b"".join(pieces)
        if draw.random() < 0.05:
            data = _flood(draw, app)
        elif draw.random() < 0.8:
            data = mutate(draw, data, pieces)
        held = 0
        for piece in cut(draw, data):
            try:
                with watch.turn():
                    found = decoder.feed(piece)
            except MalformedFrame:
                return
            held += len(found)
        if held > len(data):
            raise Wrong("more messages than bytes")


def _appends(draw: Random, messages: list[Message]) -> list[Message]:
    """Appends of which some follow the one before."""
    index, made = 1, []
    for message in messages:
        message.type = raft_pb2.MsgApp
        message.snapshot = None
        if draw.random() < 0.7:
            message.term = message.log_term = 3
            message.index = index
        index = message.index + len(message.entries)
        made.append(message)
    return made


def _flood(draw: Random, app: bool) -> bytes:
    """Much out of little: entries without a byte, messages of nothing but unknown or repeated fields."""
    kind = draw.randrange(4)
    if app and kind == 0:
        return b"\x01" + pack(">Q", 2**63) + bytes(8) * 6000
    field = draw.choice((b"\x08\x01", b"\xf8\x01\x01", b"\x3a\x00", b"\x62\x00", b"\xfa\x01\x00", b"\x4a\x00"))
    body = field * (40_000 // len(field))
    return (b"\x02" if app else b"") + pack(">Q", len(body)) + body


class RaftMessages:
    """Messages for a node of three in any role: at most a named refusal, and the node works on.

    A leader that counts on entries which this log lost ends the member, as it ends etcd's: what it acknowledged is
    gone.
    """

    name = "raft-messages"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        loop = Loop()
        world = make_node(loop, 1, (1, 2, 3))
        world.node.drive()
        loop.run()
        role = draw.randrange(3)
        if role:
            world.raw.campaign()
            world.node.drive()
            loop.run()
        if role == 2:
            for other in (2, 3):
                world.node.receive(Message(raft_pb2.MsgVoteResp, to=1, from_=other, term=world.raw.term))
            loop.run()
        for _ in range(draw.randint(1, 8)):
            watch.inputs += 1
            _one_message(draw, watch, world)
        for bug in (*world.observer.bugs, *world.observer.failures):
            if not isinstance(bug, LogLost):
                raise bug


def _one_message(draw: Random, watch: Watch, world: Any) -> None:
    data = b"".join(encode_message(any_raft_message(draw)))
    if draw.random() < 0.3:
        data = mutate(draw, data)
    with watch.turn():
        try:
            message = decode_message(data)
        except MalformedMessage:
            return
        world.node.receive(message)
        world.loop.run()
    if draw.random() < 0.3:
        world.loop.now += 0.1
        world.node.tick()
        world.loop.run()
    for _, _, done in world.observer.installs:
        done(None)
    world.observer.installs.clear()


@cache
def backend_bytes() -> bytes:
    """A small backend file: keys, deletions, a compaction."""
    store = Store(MemoryBackend())
    for number in range(60):
        store.put(b"key %d" % (number % 20), b"value %d" % number)
    store.delete_range(b"key 1", b"key 2")
    store.compact(20)
    backend = store.backend
    assert isinstance(backend, MemoryBackend)
    with tempfile.TemporaryDirectory() as directory:
        return export_file(MemoryView(backend, applied_index=70), Path(directory) / "db").read_bytes()


def framed_snapshot(draw: Random, to: int) -> bytes:
    """The body of a POST with a snapshot: the message, then a backend file that may be damaged."""
    message = any_raft_message(draw, to)
    if draw.random() < 0.9:
        message.type, message.from_, message.term = raft_pb2.MsgSnap, 2, 9
        message.entries = []
        metadata = raft_pb2.SnapshotMetadata(conf_state=raft_pb2.ConfState(voters=[to, 2]), index=70, term=2)
        message.snapshot = raft_pb2.Snapshot(metadata=metadata)
    state = backend_bytes()
    if draw.random() < 0.8:
        state = mutate(draw, state)
    return b"".join(frame_message(message)) + state
