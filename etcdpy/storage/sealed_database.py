"""A LevelDB database whose values are encrypted: what plyvel offers of one, as far as this room uses it.

Who reads and writes through it sees keys and values as ever; without encryption it is not there at all. Two things
differ in LevelDB itself: values are sealed records (sealing.py), and names of users and roles do not stand in keys. A
key of the auth bucket is replaced by a code of it, and the key itself stands in front of the value, in the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy.backend import AUTH_BUCKET
from etcdpy.storage.data_keys import STATE
from etcdpy.storage.errors import DamagedError
from etcdpy.storage.leveldb import REPLACE, scan
from etcdpy.storage.sealing import Opener, Refused, Sealer, head_of, hidden_name, is_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from etcdpy.storage.data_keys import DataKeys

NAMED_KEY: Final = AUTH_BUCKET + b"auth"
"""What a key of users and roles begins with where it is not hidden."""
_AUTH_END: Final = bytes((AUTH_BUCKET[0] + 1,))
_AUTH_BYTE: Final = AUTH_BUCKET[0]
_NEVER: Final = -1
_NAME_LENGTH_BYTES: Final = 4


class Form:
    """How one database's records look at present; shared by everything that is open of it."""

    def __init__(self, kind: str, chain_prefix: bytes) -> None:
        self.kind = kind
        self.chain_prefix = chain_prefix
        """Under it stand numbers without a value: nothing to seal."""
        self.hidden_byte = _AUTH_BYTE if kind == STATE else _NEVER
        self.sealer: Sealer | None = None
        """None: what is written is plaintext."""
        self.seal: Callable[[bytes, bytes], bytes] | None = None
        """The sealer's method."""
        self.opener = Opener({}, b"")
        self.plaintext = True
        """Whether a record may be plaintext."""
        self.current_head = b""
        self._name_keys: dict[int, bytes] = {}

    def take(self, keys: DataKeys) -> None:
        """Go on with these data keys; what was sealed under others before stays readable."""
        purpose = f"database {self.kind} ".encode()
        by_number = keys.by_number()
        self._name_keys |= by_number
        self.opener = Opener(dict(self._name_keys), purpose)
        writing = by_number.get(keys.writing)
        if writing is None:
            self.sealer, self.current_head = None, b""
        elif self.sealer is None or self.sealer.number != keys.writing:
            self.sealer, self.current_head = Sealer(keys.writing, writing, purpose), head_of(keys.writing)
        self.seal = self.sealer.seal if self.sealer is not None else None
        self.plaintext = keys.databases[self.kind].plaintext or self.sealer is None

    def is_current(self, key: bytes, record: bytes) -> bool:
        """Whether a record has the form that it would be written in now."""
        if not record and key.startswith(self.chain_prefix):
            return True
        if self.sealer is None:
            return not is_sealed(record)
        return record.startswith(self.current_head)

    def names(self, key: bytes) -> tuple[bytes, list[bytes]]:
        """What stands for a hidden key at present, and what may have stood for it before."""
        hidden = {number: AUTH_BUCKET + hidden_name(each, key) for number, each in self._name_keys.items()}
        current = key if self.sealer is None else hidden.pop(self.sealer.number)
        before = list(hidden.values())
        return current, [*before, key] if self.sealer is not None and self.plaintext else before


def with_name(key: bytes, value: bytes) -> bytes:
    """A value with its hidden key in front."""
    return len(key).to_bytes(_NAME_LENGTH_BYTES, "big") + key + value


def split_name(content: bytes) -> tuple[bytes, bytes]:
    """The hidden key and the value."""
    end = _NAME_LENGTH_BYTES + int.from_bytes(content[:_NAME_LENGTH_BYTES], "big")
    return content[_NAME_LENGTH_BYTES:end], content[end:]


class SealedReader:
    """The readable half, over a database or a snapshot of one. Raises DamagedError for what does not open."""

    def __init__(self, source: Any, path: Path, form: Form) -> None:
        self._source = source
        self._path = path
        self._form = form

    def open(self, key: bytes, record: bytes) -> bytes:
        """The value in a record. Hot road: 1 us for 300 bytes."""
        form = self._form
        if is_sealed(record):
            try:
                return form.opener.open(key, record)
            except Refused as refusal:
                raise self._damaged(key, str(refusal)) from None
        if form.plaintext or (not record and key.startswith(form.chain_prefix)):
            return record
        raise self._damaged(key, "it is not encrypted although all others are")

    def open_pair(self, key: bytes, record: bytes) -> tuple[bytes, bytes]:
        """The key and the value that a record in LevelDB stands for."""
        value = self.open(key, record)
        if key[0] == self._form.hidden_byte and is_sealed(record):
            return split_name(value)
        return key, value

    def _damaged(self, key: bytes, what: str) -> DamagedError:
        return DamagedError(f"{self._path}: the record {key.hex()} cannot be decrypted: {what}; {REPLACE}")

    def get(self, key: bytes, *, verify_checksums: bool = False) -> bytes | None:
        """The value of `key`; None when absent."""
        if key[0] == self._form.hidden_byte:
            return self._get_hidden(key, verify_checksums=verify_checksums)
        record = self._source.get(key, verify_checksums=verify_checksums)
        return None if record is None else self.open(key, record)

    def _get_hidden(self, key: bytes, *, verify_checksums: bool) -> bytes | None:
        current, before = self._form.names(key)
        for name in (current, *before):
            record = self._source.get(name, verify_checksums=verify_checksums)
            if record is not None:
                return self.open_pair(name, record)[1]
        return None

    def iterator(
        self,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        reverse: bool = False,
        include_value: bool = True,
        verify_checksums: bool = False,
    ) -> Any:
        """Pairs, or keys alone, of start <= key < stop, as of now. Keys alone are LevelDB's own."""
        if not include_value:
            return self._source.iterator(
                start=start, stop=stop, reverse=reverse, include_value=False, verify_checksums=verify_checksums
            )
        low, high = start or b"", stop
        if self._form.hidden_byte == _NEVER or low >= _AUTH_END or (high is not None and high <= AUTH_BUCKET):
            raw = self._source.iterator(start=start, stop=stop, reverse=reverse, verify_checksums=verify_checksums)
            return SealedIterator([(raw, self)])
        sources: list[tuple[Any, SealedReader | None]] = []
        if low < AUTH_BUCKET:
            options = {"start": start, "stop": AUTH_BUCKET}
            sources.append((self._source.iterator(**options, reverse=reverse, verify_checksums=verify_checksums), self))
        sources.append((self._hidden_pairs(low, high, reverse=reverse), None))
        if high is None or high > _AUTH_END:
            options = {"start": _AUTH_END, "stop": high}
            sources.append((self._source.iterator(**options, reverse=reverse, verify_checksums=verify_checksums), self))
        return SealedIterator(sources[::-1] if reverse else sources)

    def raw_iterator(self, *, verify_checksums: bool = False) -> Any:
        """A cursor over keys and records as they stand in LevelDB."""
        return self._source.raw_iterator(verify_checksums=verify_checksums)

    def records(self, start: bytes, stop: bytes | None = None) -> Generator[tuple[bytes, bytes], None, None]:
        """Keys and records as they stand in LevelDB; to be exhausted or closed. Raises StorageError."""
        return scan(self._source, self._path, start, stop)

    def _hidden_pairs(self, start: bytes, stop: bytes | None, *, reverse: bool) -> list[tuple[bytes, bytes]]:
        """Users and roles are few, so all of them are opened and put in order."""
        pairs = [self.open_pair(key, record) for key, record in self.records(AUTH_BUCKET, _AUTH_END)]
        return sorted((pair for pair in pairs if start <= pair[0] < (stop or _AUTH_END)), reverse=reverse)

    def close(self) -> None:
        """Let go of it."""
        self._source.close()


class SealedIterator:
    """Pairs of several sources, one after the other; to be exhausted or closed."""

    def __init__(self, sources: list[tuple[Any, SealedReader | None]]) -> None:
        """A source is the database's iterator and who opens its records, or pairs that are open already."""
        self._sources = sources

    def __iter__(self) -> Iterator[Any]:
        for records, reader in self._sources:
            if reader is None:
                yield from records
                continue
            open_record = reader.open
            for key, record in records:
                yield key, open_record(key, record)

    def close(self) -> None:
        """Let go of it. Again is no error."""
        for records, reader in self._sources:
            if reader is not None:
                records.close()


class SealedDatabase(SealedReader):
    """A database that is open for reading and writing."""

    @property
    def form(self) -> Form:
        """How its records look at present."""
        return self._form

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._source.closed)

    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None:
        """Set one key."""
        batch = self.write_batch(sync=sync)
        batch.put(key, value)
        batch.write()

    def write_batch(self, *, sync: bool = False) -> SealedBatch:
        """An empty batch."""
        return SealedBatch(self._source.write_batch(sync=sync), self._form)

    def delete_raw(self, key: bytes) -> None:
        """Put a deletion of a key into LevelDB as it is."""
        self._source.delete(key)

    def snapshot(self) -> SealedReader:
        """The database as it is now."""
        return SealedReader(self._source.snapshot(), self._path, self._form)

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Bytes on disk of a range of keys."""
        return int(self._source.approximate_size(start, stop))

    def compact_range(self, *, start: bytes | None = None, stop: bytes | None = None) -> None:
        """Rewrite a range of keys."""
        self._source.compact_range(start=start, stop=stop)


class SealedLog(SealedDatabase):
    """The raft log, whose records lie in segments."""

    def records(self, start: bytes, stop: bytes | None = None) -> Generator[tuple[bytes, bytes], None, None]:
        """Keys and records as they stand in the segments. Raises StorageError."""
        yield from self._source.iterator(start=start, stop=stop)

    def begin_renewal(self) -> int:
        """See LogDatabase. Raises OSError."""
        return int(self._source.begin_renewal())

    def renew(self, first: int, size: int) -> bool:
        """See LogDatabase; records keep the form that they have. Raises OSError, StorageError."""
        return bool(self._source.renew(first, size))


class SealedBatch:
    """A write batch. Each record is sealed as it is put, in the form of that moment: a batch may be open for long."""

    __slots__ = ("_batch", "_chain_prefix", "_form", "_hidden_byte", "_put", "write")

    def __init__(self, batch: Any, form: Form) -> None:
        self._batch = batch
        self._form = form
        self._hidden_byte = form.hidden_byte
        self._chain_prefix = form.chain_prefix
        self._put = batch.put
        self.write = batch.write

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key. Hot road: 0.3 us beside sealing."""
        seal = self._form.seal
        if key[0] == self._hidden_byte:
            self._put_hidden(key, value)
        elif seal is None or (not value and key.startswith(self._chain_prefix)):
            self._put(key, value)
        else:
            self._put(key, seal(key, value))

    def _put_hidden(self, key: bytes, value: bytes) -> None:
        current, before = self._form.names(key)
        for name in before:
            self._batch.delete(name)
        seal = self._form.seal
        self._put(current, value if seal is None else seal(current, with_name(key, value)))

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        if key[0] == self._hidden_byte:
            current, before = self._form.names(key)
            for name in (current, *before):
                self._batch.delete(name)
        else:
            self._batch.delete(key)
