"""The file format of bbolt, in which etcd keeps its state, as far as it must be known to read and write such files.

A file is a row of pages. Numbers are little-endian.

    page 0, 1    meta pages; the valid one with the higher transaction number counts
    others       nodes of B+ trees and the list of free pages, at any place

    page         id 8, type 2, count 2, overflow 4, then what the type says. A node that needs more than one page goes
                 on in the `overflow` pages that follow it
    meta         magic 4, version 4, page size 4, flags 4, root bucket 16, page of the free list 8, pages in use 8,
                 transaction 8, FNV-1a of all this 8
    leaf         `count` elements (flags 4, position 4, key bytes 4, value bytes 4), then keys and values in turn
    branch       `count` elements (position 4, key bytes 4, page 8), then the keys, each the lowest of its child

A position counts from the start of its element. A bucket is a leaf's value of 16 bytes under the bucket's name, with an
element flag of its own: root page 8, sequence 8. When the root page is 0 the bucket's only leaf follows in the value.
The pages of a tree have no checksums.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
PAGE_BYTES: Final = 4096
"""What we write, and etcd on x86."""
PAGE_BYTES_MIN: Final = 512
PAGE_BYTES_MAX: Final = 65_536

BRANCH_PAGE: Final = 0x01
LEAF_PAGE: Final = 0x02
META_PAGE: Final = 0x04
FREE_LIST_PAGE: Final = 0x10

BUCKET_FLAG: Final = 0x01
"""Of a leaf's element whose value is a bucket."""

PAGE_HEADER: Final = Struct("<QHHI")
LEAF_ELEMENT: Final = Struct("<IIII")
BRANCH_ELEMENT: Final = Struct("<IIQ")
BUCKET: Final = Struct("<QQ")
META: Final = Struct("<IIIIQQQQQQ")
_CHECKED_META: Final = Struct("<IIIIQQQQQ")

META_PAGES: Final = 2
HEADER_BYTES: Final = PAGE_HEADER.size
ELEMENT_BYTES: Final = LEAF_ELEMENT.size
"""Of both kinds of element."""


class DamagedFileError(Exception):
    """A backend file contradicts itself or etcd's schema. One line: file, place in it, what is wrong, mend."""

    def __init__(self, path: Path, place: str, wrong: str) -> None:
        super().__init__(f"{path}: {place}: {wrong}; take this file anew from its source, or from another member")


class Meta(NamedTuple):
    """What a meta page says."""

    page_bytes: int
    root: int
    pages: int
    transaction: int


def fnv1a_64(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


def meta_page(meta: Meta, free_list: int) -> bytes:
    """The page of a meta record, at the place that its transaction number gives it."""
    fields = (MAGIC, VERSION, meta.page_bytes, 0, meta.root, 0, free_list, meta.pages, meta.transaction)
    header = PAGE_HEADER.pack(meta.transaction % META_PAGES, META_PAGE, 0, 0)
    body = META.pack(*fields, fnv1a_64(_CHECKED_META.pack(*fields)))
    return (header + body).ljust(meta.page_bytes, b"\0")


def parse_meta(data: bytes) -> Meta | str:
    """The record on a meta page, or what is wrong with it."""
    if len(data) < HEADER_BYTES + META.size:
        return "the file ends inside"
    magic, version, page_bytes, _, root, _, _, pages, transaction, checksum = META.unpack_from(data, HEADER_BYTES)
    if magic != MAGIC:
        return "not a bbolt file"
    if version != VERSION:
        return f"file format {version}, only {VERSION} is known"
    if checksum != fnv1a_64(data[HEADER_BYTES : HEADER_BYTES + _CHECKED_META.size]):
        return "the checksum does not match"
    if not PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX or page_bytes & (page_bytes - 1):
        return f"pages of {page_bytes} bytes"
    return Meta(page_bytes, root, pages, transaction)
