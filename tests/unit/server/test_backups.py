"""States that clients save: read while they are made, bounded, and nothing is left where it goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.errors import StatusError, Timeout, TooManyRequests
from etcdpy.histogram import SNAPSHOT_SECONDS, Histogram
from etcdpy.server import snapshot_files, state_file
from etcdpy.server.backups import Backups
from tests.support.snapshots import (
    World,
    exhausted,
    make_large,
    no_room,
    play,
    unreadable,
)

if TYPE_CHECKING:
    from pathlib import Path


def backups_of(world: World) -> Backups:
    return Backups(world.engine, world.workers, Histogram(SNAPSHOT_SECONDS), world.spawn)


def test_backups_are_bounded_and_give_their_files_back(tmp_path: Path) -> None:
    async def scene(leader: World, _follower: World) -> None:
        backups = backups_of(leader)
        async with AsyncExitStack() as stack:
            for _ in range(limits.SNAPSHOTS_SAVED_AT_ONCE):
                await stack.enter_async_context(backups.backup())
            assert len(leader.leftovers()) == limits.SNAPSHOTS_SAVED_AT_ONCE
            with pytest.raises(TooManyRequests):
                await stack.enter_async_context(backups.backup())
        async with backups.backup() as file:
            content = b"".join([piece async for piece in file.pieces()])
            assert len(content) == file.size_bytes
            leader.store.put(b"later", b"is not part of it")
        assert b"not flushed" in content
        assert b"is not part of it" not in content
        assert not leader.engine._holds, "nobody goes on from a backup"

    play(tmp_path, scene)


def test_a_backup_that_is_cancelled_frees_its_file(tmp_path: Path) -> None:
    async def scene(leader: World, _follower: World) -> None:
        backups = backups_of(leader)
        begun = asyncio.Event()

        async def save() -> None:
            async with backups.backup() as file:
                async for _ in file.pieces():
                    begun.set()
                    await asyncio.sleep(60)

        task = leader.spawn(save())
        await begun.wait()
        assert len(leader.leftovers()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        leader.tasks.remove(task)
        async with backups.backup():
            pass
        await leader.settle()

    play(tmp_path, scene)


def test_a_backup_is_read_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps up needs no disk."""
    monkeypatch.setattr(limits, "SNAPSHOT_SLICE_SECONDS", 1e-5)
    monkeypatch.setattr(limits, "SNAPSHOT_RECENT_BYTES", 500_000)
    monkeypatch.setattr(snapshot_files, "write_all", no_room)

    async def scene(leader: World, _follower: World) -> None:
        make_large(leader)
        async with backups_of(leader).backup() as file:
            taking = file.pieces()
            parts = [await anext(taking)]
            assert leader.engine._open_views, "it is being made"
            parts += [piece async for piece in taking]
            assert sum(map(len, parts)) == file.size_bytes
            assert await file.sha256() == hashlib.sha256(b"".join(parts)).digest()

    play(tmp_path, scene)


@pytest.mark.parametrize("recent_bytes", [0, 1_000_000])
def test_a_slow_reader_takes_a_backup_from_the_disk(
    tmp_path: Path, recent_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is let go before."""
    monkeypatch.setattr(limits, "SNAPSHOT_RECENT_BYTES", recent_bytes)
    monkeypatch.setattr(limits, "SNAPSHOT_SLICE_SECONDS", 1e-5)

    async def scene(leader: World, _follower: World) -> None:
        make_large(leader)
        async with backups_of(leader).backup() as file:
            taking = file.pieces()
            parts = [await anext(taking) for _ in range(3)]
            await leader.settle()
            assert not leader.engine._open_views
            parts += [piece async for piece in taking]
            assert sum(map(len, parts)) == file.size_bytes
            assert await file.sha256() == hashlib.sha256(b"".join(parts)).digest()

    play(tmp_path, scene)


@pytest.mark.parametrize("reason", ["replaced", "disk full", "state unreadable"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "in the middle"])
def test_a_backup_that_cannot_be_made_says_so(
    tmp_path: Path, reason: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        "replaced": Timeout.message,
        "disk full": "etcdserver: failed to make the snapshot: No space left on device",
        "state unreadable": "etcdserver: failed to make the snapshot: the state cannot be read",
    }

    async def scene(leader: World, _follower: World) -> None:
        make_large(leader)
        monkeypatch.setattr(limits, "SNAPSHOT_RECENT_BYTES", 0)
        backups = backups_of(leader)

        def spoil() -> None:
            if reason == "disk full":
                monkeypatch.setattr(snapshot_files if late else state_file, "check_room", no_room)
            elif reason == "state unreadable":
                spoiled = state_file if late else leader.engine
                monkeypatch.setattr(spoiled, "write_steps" if late else "frozen_view", unreadable)
            elif late:
                backups.let_go_of_state()

        async def save() -> None:
            async with backups.backup() as file:
                if late:
                    spoil()
                    await asyncio.sleep(0.1)  # not keeping up, so that the disk is needed
                await exhausted(file.pieces())

        async def fail_to_save() -> None:
            with pytest.raises(Timeout if reason == "replaced" else StatusError) as raised:
                await save()
            assert raised.value.message == expected[reason]

        if not late:
            spoil()
        leader.spawn(fail_to_save())
        await asyncio.sleep(0)
        if not late:
            backups.let_go_of_state()
        await leader.settle()

    play(tmp_path, scene)
