"""Export reads a frozen view of the real storage while writes go on; ingest fills a new state of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.backend import AUTH_BUCKET, LEASE_BUCKET, META_BUCKET
from etcdpy.interchange.export import export_steps
from etcdpy.interchange.ingest import SnapshotContent, ingest_steps
from etcdpy.lease.lessor import Lessor
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.store import Store
from etcdpy.raft.types import ConfState
from tests.support.storage import flush, new_engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_from_a_view_into_a_new_state(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    lessor = Lessor(engine.state, minimum_ttl=1)
    lessor.grant(3, 100, 0.0)
    store = Store.open(engine.state, lessor)
    for number in range(2000):
        store.put(b"key %d" % (number % 300), b"v" * number, lease=3 if number == 1999 else 0)
        if number == 1500:
            flush(engine)  # the later ones are in the overlay
    store.delete_range(b"key 1", b"key 2")
    engine.set_applied(42, 7)
    expected = finish(store.hash_kv_steps())
    view = engine.frozen_view()
    path = tmp_path / "db"
    with path.open("wb") as file:
        for number, _ in enumerate(export_steps(view, file)):
            store.put(b"later %d" % number, b"not in it")
            flush(engine)
        assert number > 2
    view.close()

    new_state = engine.new_state()
    handed: list[bytes] = []

    def put_many(keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        handed.extend(keys)
        new_state.put_many(keys, values)

    content = finish(ingest_steps(path, put_many))
    assert content == SnapshotContent(42, 7, ConfState((1,)))
    new_state.finish(content.index, content.term, content.conf_state)()
    received = Store.open(new_state.backend)
    assert finish(received.hash_kv_steps()) == expected
    assert dict(received.leased_keys()) == {}  # key 199 hung on it and was deleted
    # In order, so that LevelDB lays its tables side by side: one key out of place has it write all the others again.
    buckets = [key for key in handed if not key.startswith(META_BUCKET)]
    assert buckets == sorted(buckets)
    assert buckets[0].startswith(LEASE_BUCKET)
    assert buckets[-1].startswith(AUTH_BUCKET)
    restored = Lessor(new_state.backend, minimum_ttl=1)
    restored.restore()
    assert restored.leases() == [3]
    new_state.discard()
    engine.close()
