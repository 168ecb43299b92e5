"""Backend files: any buckets come back; any damage is refused or harmless, and never more than an error."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.interchange import bolt_format as bolt
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.mvcc.store import Store
from tests.support.backend_file import Buckets, MemoryView, export_file, ingest_file, read_file, write_file
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from pathlib import Path

sizes = st.integers(0, 64) | st.sampled_from([4000, 4080, 16_352, 16_384, 20_000, 70_000])
values = st.binary(max_size=8) | sizes.map(bytes)
keys = st.binary(min_size=1, max_size=20) | st.sampled_from([b"k" * 4096, b"l" * 5000])
contents = st.dictionaries(keys, values, max_size=60)


@given(st.dictionaries(st.binary(min_size=1, max_size=8), contents, max_size=5))
def test_any_buckets_come_back(tmp_path_factory: pytest.TempPathFactory, buckets: Buckets) -> None:
    assert read_file(write_file(tmp_path_factory.getbasetemp() / "any.db", buckets)) == buckets


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with deletions, a compaction, members and leases, of some thirty pages."""
    draw = Random(1)
    store = Store(MemoryBackend())
    for number in range(400):
        store.put(b"key %d" % draw.randrange(50), draw.randbytes(draw.randrange(300)))
        if number % 20 == 0:
            store.delete_range(b"key 1", b"key 2")
    store.compact(100)
    backend = store.backend
    assert isinstance(backend, MemoryBackend)
    return export_file(MemoryView(backend), tmp_path_factory.mktemp("whole") / "db")


def attempt(path: Path) -> None:
    """Take the file in, and open a store over it when that works."""
    try:
        _, backend = ingest_file(path)
    except DamagedFileError as error:
        text = str(error)
        assert text.startswith(f"{path}: ")
        assert "\n" not in text
        return
    Store.open(backend)


def with_good_checksums(data: bytearray) -> None:
    """Damage to meta pages that their checksums do not show, as a hostile sender would do it."""
    for start in (0, bolt.PAGE_BYTES):
        body = data[start + bolt.HEADER_BYTES :][: bolt.META.size - 8]
        end = start + bolt.HEADER_BYTES + bolt.META.size
        data[end - 8 : end] = bolt.fnv1a_64(bytes(body)).to_bytes(8, "little")


@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_damaged_bytes_are_refused_or_harmless(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]], hostile: bool
) -> None:
    data = bytearray(whole.read_bytes())
    for where, byte in damage:
        data[int(where * len(data))] = byte
    if hostile:
        with_good_checksums(data)
    path = tmp_path_factory.getbasetemp() / "damaged.db"
    path.write_bytes(data)
    attempt(path)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 95), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_headers_are_refused_or_harmless(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int, int]]
) -> None:
    """The same where it hurts: the first bytes of pages, which say how they hang together."""
    data = bytearray(whole.read_bytes())
    pages = len(data) // bolt.PAGE_BYTES
    for page, offset, byte in damage:
        data[page % pages * bolt.PAGE_BYTES + offset] = byte
    with_good_checksums(data)
    path = tmp_path_factory.getbasetemp() / "damaged.db"
    path.write_bytes(data)
    attempt(path)


@given(st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused(whole: Path, tmp_path_factory: pytest.TempPathFactory, where: float) -> None:
    data = whole.read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.db"
    path.write_bytes(data[: int(where * len(data))])
    with pytest.raises(DamagedFileError):
        ingest_file(path)


@given(st.binary(max_size=2000), st.booleans())
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, with_meta: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.db"
    metas = [bolt.meta_page(bolt.Meta(bolt.PAGE_BYTES, 3, 4, number), 2) for number in range(2)]
    front = b"".join(metas).ljust(3 * bolt.PAGE_BYTES, b"\0") if with_meta else b""
    path.write_bytes((front + noise).ljust(4 * bolt.PAGE_BYTES, b"\0"))
    with pytest.raises(DamagedFileError):
        ingest_file(path)
