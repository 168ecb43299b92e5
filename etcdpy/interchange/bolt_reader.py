"""Reads bbolt files, whatever is in them: what is damaged raises DamagedFileError, and no file makes it run on.

Each page is visited once at the most and each byte of a page belongs to one item at the most, so the work is bounded by
the size of the file. Not looked at: the free list, and the keys in branches, which only a search needs. The file is
mapped; one that is cut while it is read ends the process, so it must be this member's own. What cannot be mapped, as it
is encrypted on disk, is read piece by piece.
"""

from __future__ import annotations

import mmap
import os
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from etcdpy.interchange.bolt_format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET,
    BUCKET_FLAG,
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF_ELEMENT,
    LEAF_PAGE,
    META_PAGES,
    PAGE_BYTES_MAX,
    PAGE_BYTES_MIN,
    PAGE_HEADER,
    DamagedFileError,
    Meta,
    parse_meta,
)
from etcdpy.limits import BOLT_RESIDENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self, TypeAlias

    Item: TypeAlias = tuple[bytes, bytes]

_META_BYTES: Final = 80
"""More than the header and the record of a meta page."""


class Content(Protocol):
    """What a file holds, where the file itself says something else."""

    @property
    def size_bytes(self) -> int:
        """All of it."""
        ...

    def read(self, position: int, size: int) -> bytes:
        """A piece. Raises OSError and what the content's owner raises."""
        ...


class _Pieces:
    """Content with as much of a mapping's ways as is needed here."""

    def __init__(self, content: Content) -> None:
        self._read = content.read

    def __getitem__(self, part: slice) -> bytes:
        return self._read(part.start or 0, part.stop - (part.start or 0))

    def madvise(self, advice: int) -> None:
        """Nothing is mapped."""

    def close(self) -> None:
        """It belongs to another."""


class _Node(NamedTuple):
    """Where a leaf or branch lies in its data: from `start` to `end`."""

    place: str
    data: bytes | mmap.mmap
    start: int
    end: int
    kind: int
    elements: int


class BoltFile:
    """A file, opened for reading. Raises DamagedFileError, here or while it is read, and OSError."""

    def __init__(self, path: Path, content: Content | None = None) -> None:
        """`content` is read in place of the file."""
        self.path = path
        self._data: mmap.mmap | _Pieces
        with path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size if content is None else content.size_bytes
            if self._size < _META_BYTES:
                raise DamagedFileError(path, "start", f"a file of {self._size} bytes is not a bbolt file")
            if content is None:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            else:
                self._data = _Pieces(content)
        self._touched = 0
        """Bytes of nodes read since the mapping's pages were last let go of."""
        try:
            self.meta = self._newest_meta()
            self._buckets = dict(self._root_items())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def buckets(self) -> list[bytes]:
        """The names of the top-level buckets, in order."""
        return list(self._buckets)

    def scan(self, bucket: bytes) -> Iterator[Item]:
        """Keys and values of a bucket, in order; nothing where there is no such bucket."""
        return chain.from_iterable(self.leaves(bucket))

    def leaves(self, bucket: bytes) -> Iterator[list[Item]]:
        """The same by leaves, for who must pause now and then: a leaf is a few KB, or a single large value."""
        record = self._buckets.get(bucket)
        if record is None:
            return
        last = b""
        for node in self._bucket_nodes(bucket, record):
            items = self._items(node, last)
            if items:
                last = items[-1][0]
            if any(flags for _, _, flags in items):
                raise self._damaged(node.place, "a bucket inside a bucket, which etcd never writes")
            yield [(key, value) for key, value, _ in items]

    def _damaged(self, place: str, wrong: str) -> DamagedFileError:
        return DamagedFileError(self.path, place, wrong)

    # --- meta and root ---

    def _newest_meta(self) -> Meta:
        first = parse_meta(self._data[:_META_BYTES])
        sizes = [first.page_bytes] if isinstance(first, Meta) else _page_sizes()
        candidates = [first] + [parse_meta(self._data[size : size + _META_BYTES]) for size in sizes]
        valid = [meta for meta in candidates if isinstance(meta, Meta)]
        if not valid:
            raise self._damaged("meta pages 0 and 1", f"both are unusable ({first})")
        meta = max(valid, key=lambda meta: meta.transaction)
        if meta.pages * meta.page_bytes > self._size:
            needed = meta.pages * meta.page_bytes
            raise self._damaged("end", f"the file has {self._size} bytes and should have {needed}: it was cut")
        return meta

    def _root_items(self) -> Iterator[Item]:
        last = b""
        for node in self._tree_nodes(self.meta.root):
            for name, record, flags in self._items(node, last):
                if not flags:
                    raise self._damaged(node.place, f"{name!r} in the root is no bucket")
                if len(record) < BUCKET.size:
                    raise self._damaged(node.place, f"the record of bucket {name!r} is too short")
                last = name
                yield name, record

    # --- trees ---

    def _bucket_nodes(self, name: bytes, record: bytes) -> Iterator[_Node]:
        root, _ = BUCKET.unpack_from(record)
        if root:
            return self._tree_nodes(root)
        place = f"bucket {name!r}, inline"
        if len(record) < BUCKET.size + HEADER_BYTES:
            raise self._damaged(place, "its page is cut")
        _, kind, count, _ = PAGE_HEADER.unpack_from(record, BUCKET.size)
        if kind != LEAF_PAGE:
            raise self._damaged(place, f"its page is of type {kind:#x}")
        return iter([_Node(place, record, BUCKET.size, len(record), kind, count)])

    def _tree_nodes(self, root: int) -> Iterator[_Node]:
        """The leaves of a tree, in order. Iterative: a hostile file may be as deep as it has pages."""
        seen = bytearray(self.meta.pages)
        waiting = [iter((root,))]
        while waiting:
            page = next(waiting[-1], None)
            if page is None:
                waiting.pop()
                continue
            node = self._node(page, seen)
            if node.kind == LEAF_PAGE:
                yield node
                self._let_go_of(node)
            else:
                waiting.append(iter(self._children(node)))

    def _let_go_of(self, node: _Node) -> None:
        """Keep a large file from counting as this process's memory; the page cache has it all the same."""
        self._touched += node.end - node.start
        if self._touched >= BOLT_RESIDENT_BYTES:
            self._touched = 0
            self._data.madvise(mmap.MADV_DONTNEED)

    def _node(self, page: int, seen: bytearray) -> _Node:
        """The node that begins on a page; marks its pages as seen."""
        place = f"page {page}"
        pages, page_bytes = self.meta.pages, self.meta.page_bytes
        if not META_PAGES <= page < pages:
            raise self._damaged(place, f"referred to, but the file's pages are {META_PAGES} to {pages - 1}")
        start = page * page_bytes
        own, kind, count, overflow = PAGE_HEADER.unpack(self._data[start : start + HEADER_BYTES])
        if own != page:
            raise self._damaged(place, f"calls itself page {own}")
        if kind not in (LEAF_PAGE, BRANCH_PAGE):
            raise self._damaged(place, f"of type {kind:#x} where a node of a tree should be")
        after = page + 1 + overflow
        if after > pages:
            raise self._damaged(place, f"goes on to page {after - 1}, behind the end")
        if seen.find(1, page, after) >= 0:
            raise self._damaged(place, "belongs to two nodes, or to a circle")
        seen[page:after] = b"\1" * (after - page)
        end = after * page_bytes
        if isinstance(self._data, _Pieces):
            return _Node(place, self._data[start:end], 0, end - start, kind, count)
        return _Node(place, self._data, start, end, kind, count)

    def _children(self, node: _Node) -> list[int]:
        table = self._table(node)
        if not table:
            raise self._damaged(node.place, "a branch without children")
        return [page for _, _, page in BRANCH_ELEMENT.iter_unpack(table)]

    def _table(self, node: _Node) -> bytes:
        first = node.start + HEADER_BYTES
        last = first + node.elements * ELEMENT_BYTES
        if last > node.end:
            raise self._damaged(node.place, f"{node.elements} elements do not fit into it")
        return node.data[first:last]

    def _items(self, node: _Node, last: bytes) -> list[tuple[bytes, bytes, int]]:
        """Key, value and flags of a leaf's elements, the keys ascending from above `last`. Hot: 0.5 us an element."""
        data, end = node.data, node.end
        element = node.start + HEADER_BYTES
        low = element + node.elements * ELEMENT_BYTES
        items: list[tuple[bytes, bytes, int]] = []
        for flags, position, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(self._table(node)):
            start = element + position
            middle = start + key_bytes
            stop = middle + value_bytes
            if start < low or stop > end:
                raise self._damaged(node.place, f"element {len(items)} lies outside of its node or in another")
            key = data[start:middle]
            if key <= last:
                raise self._damaged(node.place, f"element {len(items)}: key {key[:64]!r} is empty or out of order")
            items.append((key, data[middle:stop], flags & BUCKET_FLAG))
            last = key
            low = stop
            element += ELEMENT_BYTES
        return items


def _page_sizes() -> list[int]:
    """Where the second meta page may be when the first one does not tell."""
    size, sizes = PAGE_BYTES_MIN, []
    while size <= PAGE_BYTES_MAX:
        sizes.append(size)
        size *= 2
    return sizes
