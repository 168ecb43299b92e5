"""Writes a bbolt file front to back, from items that come in order, so that it can be sent on while it is made.

    page 0, 1   meta pages
    page 2      the list of free pages, empty
    then        per bucket its leaves as they fill, each branch as soon as it is full, the root last
    at the end  the leaf of the root bucket

The first pages say where the last one is. So the items are gone through twice: for their lengths, which tell where each
page will lie, and for their content.

A leaf takes several pages: fewer, larger nodes save time, and bbolt splits those that it changes later.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from etcdpy.interchange.bolt_format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET,
    BUCKET_FLAG,
    ELEMENT_BYTES,
    FREE_LIST_PAGE,
    HEADER_BYTES,
    LEAF_ELEMENT,
    LEAF_PAGE,
    META_PAGES,
    PAGE_BYTES,
    PAGE_HEADER,
    Meta,
    meta_page,
)
from etcdpy.limits import BOLT_LEAF_BYTES, INTERCHANGE_SLICE_BYTES, INTERCHANGE_SLICE_RECORDS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    Items = Iterable[tuple[bytes, bytes]]
    """Keys ascending, none empty; the same each time they are gone through."""

_FREE_LIST: Final = META_PAGES
_FIRST_NODE: Final = _FREE_LIST + 1


class Sink(Protocol):
    """What a file is written to."""

    def write(self, data: bytes, /) -> object:
        """Put all of `data` behind what it has."""
        ...


class Layout(NamedTuple):
    """Where everything in a file will lie."""

    leaves: list[list[int]]
    """How many items each leaf has: by bucket, those of the root last."""
    root: int
    """The root bucket's page."""
    pages: int

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.pages * PAGE_BYTES


def layout_steps(buckets: Sequence[tuple[bytes, Items]]) -> Generator[None, None, Layout]:
    """Find the layout of a file with these buckets, in slices of about a millisecond."""
    pages = _Pages()
    leaves: list[list[int]] = []
    roots: list[tuple[bytes, bytes]] = []
    for name, items in buckets:
        tree = _Tree(pages)
        leaves.append((yield from _measure_steps(tree, items)))
        roots.append((name, BUCKET.pack(tree.finish(), 0)))
    tree = _Tree(pages)
    leaves.append((yield from _measure_steps(tree, roots)))
    return Layout(leaves, tree.finish(), pages.next)


def write_steps(file: Sink, buckets: Sequence[tuple[bytes, Items]], layout: Layout) -> Generator[int, None, None]:
    """Write the file with these buckets whose layout is known.

    Yields the bytes written so far, about every millisecond. Nothing is synced.
    """
    pages = _WrittenPages(file, layout)
    roots: list[tuple[bytes, bytes]] = []
    for (name, items), leaves in zip(buckets, layout.leaves, strict=False):
        tree = _Tree(pages)
        yield from _fill_steps(pages, tree, items, leaves)
        roots.append((name, BUCKET.pack(tree.finish(), 0)))
    tree = _Tree(pages)
    yield from _fill_steps(pages, tree, roots, layout.leaves[-1], BUCKET_FLAG)
    assert (tree.finish(), pages.next) == layout[1:], "the items were not the same again"
    yield pages.flush()


def _measure_steps(tree: _Tree, items: Items) -> Generator[None, None, list[int]]:
    """Hot road: 0.1 us an item, and what its source takes."""
    leaves: list[int] = []
    records = work = count = size = 0
    first = b""
    for key, value in items:
        item = ELEMENT_BYTES + len(key) + len(value)
        if count and HEADER_BYTES + size + item > BOLT_LEAF_BYTES:
            tree.add_leaf(first, count, [], size)
            leaves.append(count)
            records += count
            work += size
            count = size = 0
            if records >= INTERCHANGE_SLICE_RECORDS or work >= INTERCHANGE_SLICE_BYTES:
                records = work = 0
                yield
        if not count:
            first = key
        count += 1
        size += item
    if count or not leaves:
        tree.add_leaf(first, count, [], size)
        leaves.append(count)
    return leaves


def _fill_steps(
    pages: _WrittenPages, tree: _Tree, items: Items, leaves: list[int], flags: int = 0
) -> Generator[int, None, None]:
    """Hot road: 0.3 us an item of 1 KB, and what its source takes."""
    rest = iter(items)
    records = 0
    for count in leaves:
        leaf = list(chain.from_iterable(islice(rest, count)))
        lengths = tuple(map(len, leaf))
        first = leaf[0] if leaf else b""
        leaf.insert(0, _leaf_table(lengths, flags))
        tree.add_leaf(first, count, leaf, sum(lengths) + count * ELEMENT_BYTES)
        records += count
        if records >= INTERCHANGE_SLICE_RECORDS or pages.waiting_bytes >= INTERCHANGE_SLICE_BYTES:
            records = 0
            yield pages.flush()


class _Pages:
    """The file as a row of pages that grows."""

    def __init__(self) -> None:
        self.next = _FIRST_NODE

    def add(self, kind: int, count: int, parts: list[bytes], size: int) -> int:
        """A node with `count` elements, whose bytes behind the header are `parts`, `size` in all. Returns its page."""
        page = self.next
        self.next += -(-(HEADER_BYTES + size) // PAGE_BYTES)
        return page


class _WrittenPages(_Pages):
    """Those of a file with this layout."""

    def __init__(self, file: Sink, layout: Layout) -> None:
        super().__init__()
        self._file = file
        metas = [
            meta_page(Meta(PAGE_BYTES, layout.root, layout.pages, number), _FREE_LIST) for number in range(META_PAGES)
        ]
        free_list = PAGE_HEADER.pack(_FREE_LIST, FREE_LIST_PAGE, 0, 0).ljust(PAGE_BYTES, b"\0")
        self._parts = [*metas, free_list]
        self._written = 0

    @property
    def waiting_bytes(self) -> int:
        """What has gathered since the last `flush`."""
        return self.next * PAGE_BYTES - self._written

    def add(self, kind: int, count: int, parts: list[bytes], size: int) -> int:
        """See _Pages."""
        page = super().add(kind, count, parts, size)
        pages = self.next - page
        self._parts.append(PAGE_HEADER.pack(page, kind, count, pages - 1))
        self._parts += parts
        self._parts.append(bytes(pages * PAGE_BYTES - HEADER_BYTES - size))
        return page

    def flush(self) -> int:
        """Give the file what has gathered. Returns how much it has by now."""
        self._file.write(b"".join(self._parts))
        self._parts.clear()
        self._written = self.next * PAGE_BYTES
        return self._written


class _Branch:
    """Children that have no parent on a page yet."""

    __slots__ = ("children", "size")

    def __init__(self) -> None:
        self.children: list[tuple[bytes, int]] = []
        self.size = HEADER_BYTES


class _Tree:
    """The nodes of one bucket."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._levels: list[_Branch] = []
        """From the leaves' parents up."""

    def add_leaf(self, first_key: bytes, count: int, parts: list[bytes], size: int) -> None:
        """The next leaf; see _Pages.add."""
        self._add_child(0, first_key, self._pages.add(LEAF_PAGE, count, parts, size))

    def finish(self) -> int:
        """There are no more leaves, but at least one. Returns the root's page."""
        level = 0
        while level + 1 < len(self._levels) or len(self._levels[level].children) > 1:
            self._end_branch(level)
            level += 1
        return self._levels[level].children[0][1]

    def _add_child(self, level: int, key: bytes, page: int) -> None:
        if level == len(self._levels):
            self._levels.append(_Branch())
        size = ELEMENT_BYTES + len(key)
        branch = self._levels[level]
        if branch.size + size > PAGE_BYTES and len(branch.children) > 1:
            self._end_branch(level)
            branch = self._levels[level]
        branch.children.append((key, page))
        branch.size += size

    def _end_branch(self, level: int) -> None:
        branch = self._levels[level]
        self._levels[level] = _Branch()
        offset = len(branch.children) * ELEMENT_BYTES
        parts: list[bytes] = []
        for key, page in branch.children:
            parts.append(BRANCH_ELEMENT.pack(offset, len(key), page))
            offset += len(key) - ELEMENT_BYTES
        parts += [key for key, _ in branch.children]
        page = self._pages.add(BRANCH_PAGE, len(branch.children), parts, branch.size - HEADER_BYTES)
        self._add_child(level + 1, branch.children[0][0], page)


@lru_cache(maxsize=128)
def _leaf_table(lengths: tuple[int, ...], flags: int) -> bytes:
    """The elements of a leaf whose keys and values, in turn, have these lengths.

    Remembered: where records are of one length nearly all leaves have the same table.
    """
    offset = len(lengths) // 2 * ELEMENT_BYTES
    parts: list[bytes] = []
    for key_bytes, value_bytes in zip(lengths[::2], lengths[1::2], strict=True):
        parts.append(LEAF_ELEMENT.pack(flags, offset, key_bytes, value_bytes))
        offset += key_bytes + value_bytes - ELEMENT_BYTES
    return b"".join(parts)
