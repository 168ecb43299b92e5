"""Files that we write are read back, and files that are not whole are refused with the place named."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from etcdpy.interchange import bolt_format as bolt
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.interchange.bolt_writer import layout_steps, write_steps
from etcdpy.limits import BOLT_LEAF_BYTES, BOLT_RESIDENT_BYTES, INTERCHANGE_SLICE_BYTES
from etcdpy.mvcc.fetch import finish
from etcdpy.storage.mapped import resident_file_bytes
from etcdpy.storage.sealed_file import SealedFile
from tests.support.backend_file import Buckets, read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path

PAGE = bolt.PAGE_BYTES


def test_fnv_is_the_published_one() -> None:
    assert bolt.fnv1a_64(b"") == 0xCBF29CE484222325
    assert bolt.fnv1a_64(b"foobar") == 0x85944171F73967E8


@pytest.mark.parametrize(
    "buckets",
    [
        {},
        {b"empty": {}},
        {b"a": {b"k": b"v"}, b"b": {}, b"c": {b"k": b""}},
        {b"key": {b"%05d" % number: b"v" * (number % 300) for number in range(5000)}},
        {b"key": {b"large": b"x" * 1_500_000, b"m": b"small", b"z": b"y" * 17_000}},
        {b"key": {b"k" * 3000 + b"%04d" % number: b"v" for number in range(200)}},
        {b"bucket %03d" % number: {b"key": b"%d" % number} for number in range(700)},
    ],
    ids=["none", "empty", "three", "levels", "large values", "large keys", "many buckets"],
)
def test_what_is_written_is_read_back(tmp_path: Path, buckets: Buckets) -> None:
    path = write_file(tmp_path / "db", buckets)
    assert read_file(path) == buckets
    assert path.stat().st_size % PAGE == 0
    with (tmp_path / "sealed").open("w+b") as file:
        sealed = SealedFile(file.fileno())
        sealed.write(path.read_bytes(), 0)
        sealed.flush()
        with BoltFile(tmp_path / "sealed", sealed) as found:
            assert {name: dict(found.scan(name)) for name in found.buckets()} == buckets


def test_what_lies_encrypted_and_was_cut_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "db", {b"key": {b"%05d" % number: bytes(100) for number in range(2000)}})
    with (tmp_path / "sealed").open("w+b") as file:
        sealed = SealedFile(file.fileno())
        sealed.write(path.read_bytes()[:-PAGE], 0)
        with pytest.raises(bolt.DamagedFileError, match="it was cut"):
            BoltFile(tmp_path / "sealed", sealed)


def test_a_tree_of_several_levels_keeps_its_order(tmp_path: Path) -> None:
    items = {b"%07d" % number: bytes(100) for number in range(40_000)}
    path = write_file(tmp_path / "db", {b"key": items})
    with BoltFile(path) as file:
        assert list(file.scan(b"key")) == list(items.items())
        assert sum(1 for _ in file.leaves(b"key")) > 200
        assert list(file.scan(b"none")) == []


def test_reading_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_file(tmp_path / "db", {b"key": {b"%05d" % number: bytes(10_000) for number in range(6000)}})
    before = resident_file_bytes()
    with BoltFile(path) as file:
        largest = max(resident_file_bytes() - before for number, _ in enumerate(file.leaves(b"key")) if not number % 50)
    assert largest < BOLT_RESIDENT_BYTES * 3 // 2
    assert path.stat().st_size > BOLT_RESIDENT_BYTES * 3


def test_writing_goes_in_slices(tmp_path: Path) -> None:
    items = [(b"%05d" % number, bytes(1000)) for number in range(3000)]
    small = [(b"%05d" % number, b"") for number in range(3000)]
    for content, slices in ((items, 3_000_000 // INTERCHANGE_SLICE_BYTES), (small, 3000 * 21 // BOLT_LEAF_BYTES)):
        planning = layout_steps([(b"key", content)])
        assert sum(1 for _ in planning) >= slices // 2
        layout = finish(layout_steps([(b"key", content)]))
        with (tmp_path / "db").open("wb") as file:
            progress = list(write_steps(file, [(b"key", content)], layout))
        assert len(progress) >= slices
        assert all(after - before <= INTERCHANGE_SLICE_BYTES * 2 for before, after in pairwise(progress))


def test_a_file_that_was_not_finished_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    buckets = [(b"key", [(b"%05d" % number, bytes(1000)) for number in range(3000)])]
    with path.open("wb") as file:
        steps = write_steps(file, buckets, finish(layout_steps(buckets)))
        next(steps)
        steps.close()
    with pytest.raises(bolt.DamagedFileError, match="it was cut"):
        BoltFile(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    draw = Random(1)
    items = {b"%05d" % number: draw.randbytes(90) for number in range(1000)}
    return write_file(tmp_path / "db", {b"key": items, b"meta": {b"a": b"b"}})


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def refusal(path: Path) -> str:
    with pytest.raises(bolt.DamagedFileError) as refused:
        read_file(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "anew from its source" in text
    assert "\n" not in text
    return text


def test_the_newer_valid_meta_page_counts(path: Path) -> None:
    whole = read_file(path)
    with BoltFile(path) as file:
        assert file.meta.transaction == 1
        older = file.meta._replace(transaction=0)
    overwrite(path, PAGE + 40, b"\xff")  # in the newer one: the older is taken
    assert read_file(path) == whole
    overwrite(path, 0, bolt.meta_page(older, 2))
    overwrite(path, PAGE, bolt.meta_page(older._replace(transaction=3), 2))
    overwrite(path, 40, b"\xff")  # in the first: the second is found, although nothing tells the size of pages
    with BoltFile(path) as file:
        assert file.meta.transaction == 3
    overwrite(path, PAGE + 40, b"\xff")
    assert "both are unusable (the checksum does not match)" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [(0, 1, "not a bbolt file"), (1, 3, "file format 3"), (2, 5000, "pages of 5000 bytes"), (2, 1 << 20, "pages of")],
)
def test_meta_pages_of_another_kind_are_refused(path: Path, field: int, value: int, reason: str) -> None:
    page = path.read_bytes()[:PAGE]
    fields = list(bolt.META.unpack_from(page, bolt.HEADER_BYTES))
    fields[field] = value
    body = bolt.META.pack(*fields)[:-8]
    damaged = page[: bolt.HEADER_BYTES] + body + bolt.fnv1a_64(body).to_bytes(8, "little")
    overwrite(path, 0, damaged)
    overwrite(path, PAGE, damaged)
    assert reason in refusal(path)


@pytest.mark.parametrize("size", [0, 50, 100, PAGE, 3 * PAGE, 5 * PAGE + 17])
def test_a_cut_file_is_refused(path: Path, size: int) -> None:
    overwrite(path, 0, b"")
    with path.open("r+b") as file:
        file.truncate(size)
    text = refusal(path)
    assert "it was cut" in text or "is not a bbolt file" in text


def test_bytes_behind_the_end_do_not_matter(path: Path) -> None:
    whole = read_file(path)
    with path.open("ab") as file:
        file.write(b"x" * 32)  # the checksum of a saved snapshot
    assert read_file(path) == whole


# Pages of `path`: 3 is the first leaf of `key`, whose elements begin at 16; the branch above it comes after all leaves.
LEAF = 3 * PAGE


@pytest.mark.parametrize(
    ("offset", "data", "reason"),
    [
        (LEAF, b"\x09", "page 3: calls itself page 9"),
        (LEAF + 8, b"\x10", "page 3: of type 0x10"),
        (LEAF + 10, b"\xff\xff", "page 3: 65535 elements do not fit"),
        (LEAF + 12, b"\xff\xff\xff\xff", "page 3: goes on to page"),
        (LEAF + 12, b"\x08", "belongs to two nodes, or to a circle"),
        (LEAF + 16, b"\x01", "page 3: a bucket inside a bucket"),
        (LEAF + 20, b"\0", "page 3: element 0 lies outside"),
        (LEAF + 20, b"\xff\xff\xff\xff", "page 3: element 0 lies outside"),
        (LEAF + 24, b"\0", "page 3: element 0: key b'' is empty or out of order"),
        (LEAF + 28, b"\xff\xff\xff\xff", "page 3: element 0 lies outside"),
        (LEAF + 36, b"\x10", "page 3: element 1 lies outside of its node or in another"),
    ],
)
def test_a_damaged_leaf_is_named(path: Path, offset: int, data: bytes, reason: str) -> None:
    overwrite(path, offset, data)
    assert reason in refusal(path)


def branch_of(path: Path) -> int:
    data = path.read_bytes()
    for start in range(3 * PAGE, len(data), PAGE):
        page, kind, count, _ = bolt.PAGE_HEADER.unpack_from(data, start)
        if kind == bolt.BRANCH_PAGE and page * PAGE == start and count:
            return start
    raise AssertionError


@pytest.mark.parametrize(
    ("element", "page", "reason"),
    [
        (1, 3, "page 3: belongs to two nodes, or to a circle"),
        (0, 1 << 40, "page 1099511627776: referred to, but the file's pages are 2 to"),
        (0, 1, "page 1: referred to"),
        (0, 2, "page 2: of type 0x10"),
    ],
)
def test_a_damaged_branch_is_named(path: Path, element: int, page: int, reason: str) -> None:
    offset = branch_of(path) + bolt.HEADER_BYTES + element * bolt.ELEMENT_BYTES + 8
    overwrite(path, offset, page.to_bytes(8, "little"))
    assert reason in refusal(path)


def test_a_circle_is_refused(path: Path) -> None:
    start = branch_of(path)
    overwrite(path, start + bolt.HEADER_BYTES + 8, (start // PAGE).to_bytes(8, "little"))
    assert "belongs to two nodes, or to a circle" in refusal(path)


def test_a_tree_as_deep_as_the_file_has_pages_is_read(tmp_path: Path) -> None:
    """A hostile sender's: each branch has one child. No stack may run over."""
    depth = 5000
    leaf, root = 3 + depth, 4 + depth
    pages = [bolt.meta_page(bolt.Meta(PAGE, root, root + 1, number), 2) for number in range(2)]
    pages.append(bolt.PAGE_HEADER.pack(2, bolt.FREE_LIST_PAGE, 0, 0))
    for number in range(3, leaf):
        child = bolt.BRANCH_ELEMENT.pack(bolt.ELEMENT_BYTES, 1, number + 1)
        pages.append(bolt.PAGE_HEADER.pack(number, bolt.BRANCH_PAGE, 1, 0) + child + b"k")
    for number, flags, value in ((leaf, 0, b"v"), (root, bolt.BUCKET_FLAG, bolt.BUCKET.pack(3, 0))):
        element = bolt.LEAF_ELEMENT.pack(flags, bolt.ELEMENT_BYTES, 1, len(value))
        pages.append(bolt.PAGE_HEADER.pack(number, bolt.LEAF_PAGE, 1, 0) + element + b"k" + value)
    path = tmp_path / "db"
    path.write_bytes(b"".join(page.ljust(PAGE, b"\0") for page in pages))
    assert read_file(path) == {b"k": {b"k": b"v"}}


def test_an_empty_branch_is_refused(path: Path) -> None:
    overwrite(path, branch_of(path) + 10, b"\0\0")
    assert "a branch without children" in refusal(path)


def inline(items: list[tuple[bytes, bytes]], kind: int = bolt.LEAF_PAGE) -> bytes:
    """A bucket's record with its only page inside, as bbolt writes small ones."""
    offset = len(items) * bolt.ELEMENT_BYTES
    table = b""
    for key, value in items:
        table += bolt.LEAF_ELEMENT.pack(0, offset, len(key), len(value))
        offset += len(key) + len(value) - bolt.ELEMENT_BYTES
    data = b"".join(key + value for key, value in items)
    return bolt.BUCKET.pack(0, 0) + bolt.PAGE_HEADER.pack(0, kind, len(items), 0) + table + data


def rooted(path: Path, records: dict[bytes, bytes], flags: int = bolt.BUCKET_FLAG) -> Path:
    """A file whose root holds these records."""
    table, data = b"", b""
    for number, (name, record) in enumerate(records.items()):
        position = (len(records) - number) * bolt.ELEMENT_BYTES + len(data)
        table += bolt.LEAF_ELEMENT.pack(flags, position, len(name), len(record))
        data += name + record
    root = bolt.PAGE_HEADER.pack(3, bolt.LEAF_PAGE, len(records), 0) + table + data
    metas = [bolt.meta_page(bolt.Meta(PAGE, 3, 4, number), 2) for number in range(2)]
    free = bolt.PAGE_HEADER.pack(2, bolt.FREE_LIST_PAGE, 0, 0)
    path.write_bytes(b"".join((*metas, free.ljust(PAGE, b"\0"), root.ljust(PAGE, b"\0"))))
    return path


def test_inline_buckets_are_read(tmp_path: Path) -> None:
    items = [(b"a", b"1"), (b"b", b"")]
    path = rooted(tmp_path / "db", {b"empty": inline([]), b"small": inline(items)})
    assert read_file(path) == {b"empty": {}, b"small": dict(items)}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"short", "the record of bucket b'b' is too short"),
        (inline([])[:20], "bucket b'b', inline: its page is cut"),
        (inline([], bolt.BRANCH_PAGE), "bucket b'b', inline: its page is of type 0x1"),
        (inline([(b"key", b"value")])[:-1], "bucket b'b', inline: element 0 lies outside"),
    ],
)
def test_damaged_inline_buckets_are_named(tmp_path: Path, record: bytes, reason: str) -> None:
    assert reason in refusal(rooted(tmp_path / "db", {b"b": record}))


def test_a_plain_key_in_the_root_is_refused(tmp_path: Path) -> None:
    assert "b'b' in the root is no bucket" in refusal(rooted(tmp_path / "db", {b"b": b"x"}, flags=0))
