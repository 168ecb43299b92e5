"""A put that was answered survives `kill -9`, fifty times in a row, under load."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, prefix_end
from tests.support.members import Kind, Member

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 4
IN_FLIGHT = 16


@dataclass
class Acknowledged:
    """What one cycle's writers were told is stored: key to (value, revision); and the pairs put in one transaction."""

    stored: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Asked for, whether answered or not: each must be there whole or not at all."""


def put(key: bytes, value: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))


def write_until_it_dies(endpoint: str, prefix: bytes, told: Acknowledged) -> None:
    """Keep IN_FLIGHT requests under way, every third a transaction of two keys, until the server is gone."""
    with Client(endpoint) as client:
        waiting: list[tuple[list[bytes], bytes, Any]] = []
        call: Any
        number = 0
        try:
            while True:
                while len(waiting) < IN_FLIGHT:
                    number += 1
                    value = b"%s%d" % (prefix, number) * (1 + number % 40)
                    keys = [b"%s%06d" % (prefix, number)]
                    if number % 3:
                        call = client.kv.Put.future(rpc_pb2.PutRequest(key=keys[0], value=value), timeout=20)
                    else:
                        keys.append(keys[0] + b"-twin")
                        told.pairs.append((keys[0], keys[1]))
                        transaction = rpc_pb2.TxnRequest(success=[put(key, value) for key in keys])
                        call = client.kv.Txn.future(transaction, timeout=20)
                    waiting.append((keys, value, call))
                keys, value, call = waiting.pop(0)
                revision = call.result().header.revision
                for key in keys:
                    told.stored[key] = (value, revision)
        except grpc.RpcError:
            # The server is gone. What it had answered by then counts all the same.
            for keys, value, call in waiting:
                if call.done() and not call.exception():
                    for key in keys:
                        told.stored[key] = (value, call.result().header.revision)


def load_and_kill(member: Member, prefix: bytes, seconds: float) -> Acknowledged:
    told = [Acknowledged() for _ in range(WRITERS)]
    writers = [
        threading.Thread(target=write_until_it_dies, args=(member.endpoint, b"%s%d/" % (prefix, index), told[index]))
        for index in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    member.kill()
    for writer in writers:
        writer.join()
    whole = Acknowledged()
    for part in told:
        whole.stored.update(part.stored)
        whole.pairs.extend(part.pairs)
    return whole


def verify(client: Client, prefix: bytes, told: Acknowledged) -> int:
    """Everything acknowledged is there as it was acknowledged; returns the store's revision."""
    found: dict[bytes, tuple[bytes, int]] = {}
    start, end, revision = prefix, prefix_end(prefix), 0
    while True:  # in pages: a cycle's keys may be more than one message carries
        answer = client.range(start, end, limit=2000, revision=revision)
        revision = revision or answer.header.revision
        found.update((kv.key, (kv.value, kv.mod_revision)) for kv in answer.kvs)
        if not answer.more:
            break
        start = answer.kvs[-1].key + b"\0"
    lost = {key: want for key, want in told.stored.items() if found.get(key) != want}
    assert not lost, f"{len(lost)} of {len(told.stored)} acknowledged keys lost, such as {next(iter(lost.items()))}"
    halves = [pair for pair in told.pairs if (pair[0] in found) != (pair[1] in found)]
    assert not halves, f"half a transaction was kept: {halves[:3]}"
    newest = max((acknowledged for _, acknowledged in told.stored.values()), default=0)
    assert answer.header.revision >= newest, "the store stands before a revision that it acknowledged"
    return answer.header.revision


@pytest.mark.parametrize(("kind", "cycles"), [pytest.param("etcd", 3, marks=pytest.mark.reference), ("etcdpy", 50)])
def test_acknowledged_writes_survive(tmp_path: Path, kind: Kind, cycles: int) -> None:
    random = Random("kill -9")
    member = Member(kind, tmp_path)
    everything: list[tuple[bytes, Acknowledged]] = []
    acknowledged, revision = 0, 0
    begun = time.monotonic()
    try:
        for cycle in range(cycles):
            member.start()
            if everything:
                with Client.of(member) as client:
                    now = verify(client, *everything[-1])
                assert now >= revision, "the revision went back"
                revision = now
            prefix = b"/cycle%02d/" % cycle
            told = load_and_kill(member, prefix, random.uniform(0.1, 0.4))
            everything.append((prefix, told))
            acknowledged += len(told.stored)
        member.start()
        with Client.of(member) as client:
            for prefix, told in everything:
                verify(client, prefix, told)
            assert client.range(b"/cycle", prefix_end(b"/cycle"), count_only=True).count >= acknowledged
    finally:
        member.kill()
    took = time.monotonic() - begun
    print(f"{kind}: {cycles} cycles, {acknowledged} acknowledged keys, {took / cycles:.2f} s a cycle")
    assert acknowledged > cycles * 20, "the load never got going, so the test showed nothing"
