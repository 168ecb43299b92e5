"""The raft log's database against a dict, through restarts and losses of power."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdpy import limits
from etcdpy.storage.log_database import LogDatabase, create_log, open_log

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

SECTOR_BYTES = 512
KEYS = [index.to_bytes(8, "big") for index in range(12)] + [b"meta/start", b"meta/hard_state"]

changes = st.lists(
    st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=30) | st.builds(bytes, st.integers(0, 2500))),
    max_size=6,
)
steps = st.lists(
    st.tuples(st.sampled_from(["sync", "sync", "no sync", "reopen", "renew"]), changes), min_size=1, max_size=25
)
Model = dict[bytes, bytes]
Script = list[tuple[str, list[tuple[bytes, bytes | None]]]]


@pytest.fixture(autouse=True, scope="module")
def _small_segments() -> object:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(limits, "LOG_SEGMENT_BYTES", 4096)
        yield


def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "database"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path / "log"


def apply(log: LogDatabase, model: Model, what: list[tuple[bytes, bytes | None]], *, sync: bool) -> None:
    batch = log.write_batch(sync=sync)
    for key, value in what:
        if value is None:
            batch.delete(key)
            model.pop(key, None)
        else:
            batch.put(key, value)
            model[key] = value
    batch.write()


def contents(log: LogDatabase) -> Model:
    return dict(log.iterator())


@given(steps)
def test_it_is_a_map(tmp_path_factory: pytest.TempPathFactory, script: Script) -> None:
    path = fresh(tmp_path_factory)
    log, model = create_log(path), Model()
    try:
        for how, what in script:
            if how == "reopen":
                log.close()
                log = open_log(path)
            elif how == "renew":
                first = log.begin_renewal()
                while not log.renew(first, 100):
                    pass
                assert len(os.listdir(path)) <= 20
            else:
                apply(log, model, what, sync=how == "sync")
            assert contents(log) == model
            assert list(log.iterator(include_value=False)) == sorted(model)
    finally:
        log.close()


@settings(max_examples=300)
@given(steps, st.randoms(use_true_random=False))
def test_a_loss_of_power_leaves_a_prefix_with_all_that_was_synced(
    tmp_path_factory: pytest.TempPathFactory, script: Script, random: Random
) -> None:
    """Of what was written after the last sync, each sector is on the disk or is not."""
    path = fresh(tmp_path_factory)
    log, model = create_log(path), Model()
    log.put(b"meta/identity", b"x", sync=True)
    model[b"meta/identity"] = b"x"
    possible, synced = [dict(model)], {file.name: file.read_bytes() for file in path.iterdir()}
    for how, what in script:
        before = log._durable
        apply(log, model, what, sync=how == "sync")
        possible.append(dict(model))
        if how == "sync":
            possible = possible[-1:]
        if log._durable != before:
            if log._preparation is not None:
                log._preparation.segment()
            covered = log._current.end if how == "sync" else 0
            written = {file.name: file.read_bytes() for file in path.iterdir()}
            name = log._current.path.name
            synced = dict(written)
            if not covered:  # it began a segment: all before it are durable, what is in it is not
                possible = possible[-2:]
                synced[name] = written[name][:64] + bytes(len(written[name]) - 64)
    log.close()
    lose_power(path, synced, random)
    for _ in range(2):
        log = open_log(path)
        found = contents(log)
        assert found in possible
        apply(log, found, [(KEYS[0], b"goes on")], sync=True)
        assert contents(log) == found
        possible = [found]
        log.close()


def lose_power(path: Path, synced: dict[str, bytes], random: Random) -> None:
    """Every sector that a sync covers is as it was then; of the others, some."""
    for file in path.iterdir():
        now = file.read_bytes()
        before = synced.get(file.name, now).ljust(len(now), b"\0")
        sectors = [
            (before if random.random() < 0.5 else now)[start : start + SECTOR_BYTES]
            for start in range(0, len(now), SECTOR_BYTES)
        ]
        file.write_bytes(b"".join(sectors))
