"""The applied state: etcdpy.backend.Backend over LevelDB, with an overlay of what is not written yet.

    open      {key: value or None}   puts and deletes since the last job; read at once, lost together
    writing   ({..}, ..)             copied into a batch, newest first; kept until that is written
    LevelDB                          everything older

A lookup goes down in that order. While an entry is applied in slices no batch may be written, since a part of it would
be: what is open is copied in pieces into the one batch that is written afterwards (`hold`, `gather`).

Hot road: a put is one dict store (0.1 us); its share of the LevelDB batch is built when the job is taken, on the loop:
in the disk thread each put would let the interpreter lock go and wait 5 ms to have it back (measured: 9.4 ms for a
batch of 200 beside a busy loop, 0.04 ms on the loop itself).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.storage.layers import MISSING, Layers
from etcdpy.storage.leveldb import Batch, Database, LevelError, scan, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from etcdpy.storage.layers import Layer, Overlay


def scan_under(
    source: Database,
    path: Path,
    newer: Layers,
    start: bytes,
    end: bytes,
    *,
    reverse: bool = False,
) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of a database or a snapshot of it, under `newer` ones. Taken here and now."""
    pairs, rest = scan(source, path, start, end, reverse=reverse), newer.pairs(start, end, reverse=reverse)
    ahead = next(rest, None)
    return pairs if ahead is None else _merged(pairs, ahead, rest, reverse=reverse)


def _merged(
    stored: Iterator[tuple[bytes, bytes]],
    ahead: tuple[bytes, bytes | None] | None,
    newer: Iterator[tuple[bytes, bytes | None]],
    *,
    reverse: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """Two ordered runs into one, `ahead` being the first of the newer; where both have a key, the newer word counts."""
    for pair in stored:
        hidden = False
        while ahead is not None:
            key, value = ahead
            if key == pair[0]:
                hidden = True
            elif (key > pair[0]) != reverse:
                break
            if value is not None:
                yield key, value
            ahead = next(newer, None)
        if not hidden:
            yield pair
    while ahead is not None:
        key, value = ahead
        if value is not None:
            yield key, value
        ahead = next(newer, None)


class StateBackend:
    """See etcdpy.backend.Backend. Reads raise StorageError or DamagedError."""

    __slots__ = (
        "_database",
        "_gathered",
        "_gathered_bytes",
        "_get",
        "_hidden",
        "_open",
        "_orders",
        "_path",
        "_writing",
        "open_bytes",
        "written_bytes",
    )

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._get = database.get
        self._path = path
        self._open: Overlay = {}
        self._writing: tuple[Overlay, ...] = ()
        self._orders: dict[int, list[bytes]] = {}
        """The keys in order of those of `_writing` for which somebody has asked, by the overlay's identity."""
        self._gathered: list[Overlay] = []
        """Those of `_writing` that are in a batch which still grows, oldest first."""
        self._gathered_bytes = 0
        self._hidden: int | None = None
        """While held, the first of `_gathered` that a frozen view does not show."""
        self.open_bytes = 0
        """Bytes of the values in open writes; one that was replaced still counts."""
        self.written_bytes = 0
        """Keys and values put into batches so far."""

    # --- Backend ---

    def get(self, key: bytes) -> bytes | None:
        """See Backend.get."""
        found = self._open.get(key, MISSING)
        if found is not MISSING:
            return found  # type: ignore[return-value]
        for overlay in self._writing:
            found = overlay.get(key, MISSING)
            if found is not MISSING:
                return found  # type: ignore[return-value]
        try:
            return self._get(key, verify_checksums=True)  # type: ignore[no-any-return]
        except LevelError as error:
            raise translate(self._path, error) from error

    def put(self, key: bytes, value: bytes) -> None:
        """See Backend.put."""
        self._open[key] = value
        self.open_bytes += len(value)

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See Backend.put_many."""
        self._open.update(zip(keys, values, strict=True))
        self.open_bytes += sum(map(len, values))

    def delete(self, key: bytes) -> None:
        """See Backend.delete."""
        self._open[key] = None

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """See Backend.scan. The view is taken here and now, not when the first pair is asked for."""
        opened = {key: value for key, value in self._open.items() if start <= key < end}
        newer = Layers([(sorted(opened), opened), *map(self._layer, self._writing)])
        return scan_under(self._database, self._path, newer, start, end, reverse=reverse)

    def _layer(self, overlay: Overlay) -> Layer:
        """One of `_writing`, which change no more."""
        keys = self._orders.get(id(overlay))
        if keys is None:
            keys = self._orders[id(overlay)] = sorted(overlay)
        return keys, overlay

    # --- for the engine ---

    def rewrite(self, key: bytes, value: bytes) -> None:
        """Put what LevelDB held of `key` in this turn of the loop, so that it takes today's form; nothing when a newer
        value waits to be written."""
        if key not in self._open and not any(key in layer for layer in self._writing):
            self.put(key, value)

    def unwritten(self) -> list[Overlay]:
        """All that is not in LevelDB yet, to be shown to `are_written`."""
        return [layer for layer in (self._open, *self._writing) if layer]

    def are_written(self, layers: list[Overlay]) -> bool:
        """Whether all of these are in LevelDB, or went with a state that was replaced."""
        return not any(each is layer for each in layers for layer in (self._open, *self._writing))

    @property
    def open_writes(self) -> int:
        """How many keys wait for the next job."""
        return len(self._open) + sum(map(len, self._gathered))

    @property
    def loose_writes(self) -> int:
        """How many of them are in no batch yet."""
        return len(self._open)

    @property
    def has_open_writes(self) -> bool:
        """Whether something waits for the next job."""
        return bool(self._open or self._gathered)

    def hold(self, batch: Batch) -> None:
        """Begin the batch of an entry that is applied in slices; frozen views do not show it before `release`."""
        self.gather(batch)
        self._hidden = len(self._gathered)

    def release(self) -> None:
        """The entry is applied as a whole."""
        self._hidden = None

    def close_batch(self, batch: Batch) -> tuple[list[Overlay], int]:
        """Move the open writes into `batch`, which has all that was gathered before. Returns the overlays of both,
        which stay visible until `written` (or for good, when writing fails), and their bytes of keys and values."""
        self.gather(batch)
        overlays, size = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes = [], 0
        self.written_bytes += size
        return overlays, size

    def gather(self, batch: Batch) -> None:
        """Copy the open writes into a batch that is not complete yet."""
        overlay = self._open
        self._open = {}
        self.open_bytes = 0
        self._writing = (overlay, *self._writing)
        self._gathered.append(overlay)
        put, delete = batch.put, batch.delete
        size = 0
        for key, value in overlay.items():
            if value is None:
                delete(key)
                size += len(key)
            else:
                put(key, value)
                size += len(key) + len(value)
        self._gathered_bytes += size
        if self._hidden is not None:
            self._layer(overlay)  # together with all others of the entry that would take long

    def written(self, overlays: list[Overlay]) -> None:
        """The batch of these overlays is in LevelDB."""
        gone = {id(overlay) for overlay in overlays}
        self._writing = tuple(layer for layer in self._writing if id(layer) not in gone)
        for identity in gone:
            self._orders.pop(identity, None)

    def frozen_layers(self) -> Layers:
        """All that is not in LevelDB yet, but for an entry that is applied in part. What is open is bounded, so copying
        it takes 1 ms."""
        if self._hidden is None:
            opened = dict(self._open)
            return Layers([(sorted(opened), opened), *map(self._layer, self._writing)])
        hidden = {id(overlay) for overlay in self._gathered[self._hidden :]}
        return Layers([self._layer(overlay) for overlay in self._writing if id(overlay) not in hidden])

    def replace(self, database: Database, path: Path) -> None:
        """Another state is in place of this one: go on with its database, forget what waited to be written."""
        self._database = database
        self._path = path
        self._get = database.get
        self._open = {}
        self._writing = ()
        self._orders = {}
        self._gathered, self._gathered_bytes = [], 0
        self._hidden = None
        self.open_bytes = 0
