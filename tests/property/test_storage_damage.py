"""A data directory cut or damaged anywhere recovers a whole prefix of batches, or refuses to start and says why.

It never serves anything that was not written: every entry and record that opens is checked against what it must be.
"""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy import limits
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import StorageError
from tests.support.storage import begin_install, check_prefix, copy_dir, fill, flush, new_engine, write_batch

if TYPE_CHECKING:
    from pathlib import Path

VALUE_BYTES = 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member that was killed: tables, write-ahead files of several 32 KiB blocks, segments, batches of many sizes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(limits, "LOG_SEGMENT_BYTES", 40 * 1024)
        return killed(tmp_path_factory.mktemp("whole") / "data")


def killed(path: Path) -> Path:
    draw = random.Random(1)
    engine = new_engine(path, snapshot_count=400, catchup_entries=100)
    for _ in range(30):
        write_batch(engine, draw.randrange(1, 40), size=VALUE_BYTES)
    engine.close()
    engine = new_engine(path, snapshot_count=400, catchup_entries=100)
    for number in range(60):
        write_batch(engine, draw.randrange(1, 20), size=VALUE_BYTES, apply=number % 3 != 0)
    flush(engine)
    copy = copy_dir(path, path.parent / "killed")
    engine.close()
    return copy


def attempt(path: Path) -> tuple[int, int] | None:
    """Open and check; None when refused. The member works on afterwards."""
    try:
        engine = Engine.open(path)
    except StorageError as error:
        message = str(error)
        assert "\n" not in message
        assert str(path) in message
        return None
    try:
        try:
            found = check_tail(engine)
        except StorageError:
            return None  # damage inside a table, found by the scan that restoring the index is
        write_batch(engine, 3, size=VALUE_BYTES, apply=False)
        return found
    finally:
        engine.close()


def check_tail(engine: Engine) -> tuple[int, int]:
    return check_prefix(engine, size=VALUE_BYTES)


def data_files(path: Path) -> list[Path]:
    return sorted(
        file
        for room in ("log", "state", "state.*")
        for file in (path / "member").glob(f"{room}/*")
        if not file.name.startswith("LO")
    )


def damaged(whole: Path, target: Path, file: Path, position: int, how: str, seed: int) -> None:
    shutil.rmtree(target, ignore_errors=True)
    copy_dir(whole, target)
    victim = target / file.relative_to(whole)
    content = bytearray(victim.read_bytes())
    if how == "cut":
        del content[position:]
    elif how == "flip":
        content[position] ^= 1 << seed % 8
    elif how == "zeros":
        content[position : position + 1 + seed % 70_000] = bytes(len(content[position : position + 1 + seed % 70_000]))
    elif how == "noise":
        end = min(len(content), position + 1 + seed % 200)
        content[position:end] = random.Random(seed).randbytes(end - position)
    elif how == "gone":
        victim.unlink()
        return
    victim.write_bytes(content)


def test_undamaged(whole: Path, tmp_path: Path) -> None:
    copy_dir(whole, tmp_path / "data")
    found = attempt(tmp_path / "data")
    assert found is not None, "refused although whole"
    assert found[0] == found[1] > 700


@given(st.data())
def test_damage_anywhere(whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(data_files(whole)), label="file")
    position = data.draw(st.integers(0, max(file.stat().st_size - 1, 0)), label="position")
    how = data.draw(st.sampled_from(["cut", "flip", "zeros", "noise", "gone"]), label="how")
    seed = data.draw(st.integers(0, 1 << 20), label="seed")
    target = tmp_path_factory.getbasetemp() / "damaged"
    damaged(whole, target, file, position, how, seed)
    attempt(target)


@pytest.fixture(scope="module")
def installing(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same member, killed when it had received the state as of entry 2000, and when the log had taken it over."""
    path = tmp_path_factory.mktemp("installing") / "data"
    engine = new_engine(path, snapshot_count=400, catchup_entries=100)
    for _ in range(40):
        write_batch(engine, 20, size=VALUE_BYTES)
    flush(engine)
    new_state = fill(engine.new_state(), RECEIVED, size=VALUE_BYTES, term=2)
    copies = [copy_dir(path, path.parent / "received")]
    installation = begin_install(engine, new_state)
    installation.run()
    copies.append(copy_dir(path, path.parent / "installed"))
    engine._installed(installation)
    engine.close()
    return copies


RECEIVED = 2000


@given(st.data())
def test_damage_anywhere_while_a_received_state_is_installed(
    installing: list[Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """All of the old state or all of the new one, or refused."""
    done = data.draw(st.booleans(), label="done")
    path = installing[done]
    file = data.draw(st.sampled_from(data_files(path)), label="file")
    position = data.draw(st.integers(0, max(file.stat().st_size - 1, 0)), label="position")
    how = data.draw(st.sampled_from(["cut", "flip", "zeros", "noise", "gone"]), label="how")
    seed = data.draw(st.integers(0, 1 << 20), label="seed")
    target = tmp_path_factory.getbasetemp() / "damaged"
    damaged(path, target, file, position, how, seed)
    found = attempt(target)
    room = file.parent.name
    if room == "state" if done else room.startswith("state."):
        assert found == ((RECEIVED, RECEIVED) if done else (800, 800)), "what does not count is not looked at"
    elif found is not None and room != "log":
        assert (found == (RECEIVED, RECEIVED)) == done


def test_an_undamaged_install(installing: list[Path], tmp_path: Path) -> None:
    for path, expected in zip(installing, (800, RECEIVED), strict=True):
        copy_dir(path, tmp_path / path.name)
        assert attempt(tmp_path / path.name) == (expected, expected)


def test_a_cut_tail_of_the_log_keeps_each_whole_batch(tmp_path: Path) -> None:
    """The disk writes whole sectors, so a loss of power cuts between two: the state is behind, so the log's end may go
    missing batch by batch. What is cut elsewhere is damage."""
    path = tmp_path / "data"
    engine = new_engine(path)
    sizes = []
    (log_file,) = segment_files(path)
    for _ in range(4):
        write_batch(engine, 3, size=VALUE_BYTES, apply=False)
        sizes.append((len(log_file.read_bytes().rstrip(b"\0")), engine.log.last_index()))
    copy = copy_dir(path, tmp_path / "copy")
    engine.close()
    content = log_file.read_bytes()
    opened = 0
    for size in range(sizes[0][0], sizes[-1][0] + 512, 8):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        copy_dir(copy, tmp_path / "cut")
        (cut,) = segment_files(tmp_path / "cut")
        cut.write_bytes(content[:size].ljust(len(content), b"\0"))
        expected = max(last for end, last in sizes if end <= size)
        found = attempt(tmp_path / "cut")
        assert found in (None, (0, expected))
        assert found is not None or size % 512
        opened += found is not None
    assert opened > 5


def segment_files(path: Path) -> list[Path]:
    return sorted((path / "member" / "log").glob("*.segment"))


def test_a_hole_of_zeros_is_noticed(tmp_path: Path) -> None:
    """LevelDB alone skips it in silence: what follows would stand on a hole."""
    path = tmp_path / "data"
    engine = new_engine(path)
    for _ in range(150):
        write_batch(engine, 5, size=VALUE_BYTES)
    copies = {room: copy_dir(path, tmp_path / room) for room in ("log", "state")}
    engine.close()
    for room, copy in copies.items():
        (file,) = (copy / "member" / room).glob("*.log" if room == "state" else "*.segment")
        content = bytearray(file.read_bytes())
        assert len(content) > 3 * 32768
        content[32768 : 2 * 32768] = bytes(32768)
        file.write_bytes(content)
        with pytest.raises(StorageError, match=room):
            Engine.open(copy)


def test_a_damaged_footer_is_named(whole: Path, tmp_path: Path) -> None:
    """LevelDB takes a footer's numbers for true and asks for that much memory, which ends the process."""
    copy_dir(whole, tmp_path / "data")
    table = max((tmp_path / "data" / "member" / "state").glob("*.ldb"))
    content = table.read_bytes()
    for footer, words in (
        (b"\xff" * 9 + b"\x7f" + content[-38:], "points outside"),
        (b"\xff" * 40 + content[-8:], "points outside"),
        (content[-48:-8] + b"x" * 8, "damaged or cut"),
    ):
        table.write_bytes(content[:-48] + footer)
        with pytest.raises(StorageError, match=words) as caught:
            Engine.open(tmp_path / "data")
        assert table.name in str(caught.value)
    table.write_bytes(content[:20])
    with pytest.raises(StorageError, match="the table is cut: 20 bytes"):
        Engine.open(tmp_path / "data")
