"""`member/KEYS`: the data keys of a member, each wrapped by a master key, and how far each database is encrypted.

One JSON object. Nothing in it is secret: a data key stands there under AES-256-GCM of the master key that it names.
It is replaced as a whole (written beside, synced, renamed) before a key in it is used for the first time. A code over
all of it, under a key derived from the first data key, shows changes by hand.

    {"version": 1, "writing": 2, "last": 2,
     "keys": [{"number": 2, "made": "2026-11-21T09:00:00Z", "wrapped_by": "2026-11", "wrapped": "<base64>"}],
     "databases": {"log": {"plaintext": false, "complete": true, "done": 1.0}, "state": {...}},
     "code": "<hex>"}
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from etcdpy import limits
from etcdpy.storage.errors import EncryptionError
from etcdpy.storage.key_file import KEY_BYTES
from etcdpy.storage.leveldb import REPLACE, sync_directory
from etcdpy.storage.sealing import derive

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.key_file import MasterKeys

VERSION: Final = 1
LOG: Final = "log"
STATE: Final = "state"
DATABASES: Final = (LOG, STATE)
NUMBER_MAX: Final = (1 << 16) - 1
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key as it is stored, and itself once it is unwrapped."""

    number: int
    made: str
    wrapped_by: str
    wrapped: str
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a database is on its way to the present form: sealed under the writing key, or plaintext again."""

    plaintext: bool
    """Records without encryption may be there."""
    complete: bool
    """Every record has the present form, and no file holds an older one."""
    done: float
    """Estimated part that has it."""


COMPLETE: Final = Standing(plaintext=False, complete=True, done=1.0)


@dataclass(frozen=True, slots=True)
class DataKeys:
    """The file's content."""

    writing: int
    """The number of the key for what is written from now on; 0: plaintext."""
    last: int
    """The highest number that was ever given."""
    keys: tuple[DataKey, ...]
    databases: dict[str, Standing]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be rewritten."""
        return all(standing.complete for standing in self.databases.values())

    def by_number(self) -> dict[int, bytes]:
        """The unwrapped keys."""
        return {each.number: each.key for each in self.keys}

    def writing_key(self) -> DataKey | None:
        """The key for what is written from now on."""
        return next((each for each in self.keys if each.number == self.writing), None)

    def with_database(self, name: str, standing: Standing) -> DataKeys:
        """The same with another standing of one database."""
        return replace(self, databases={**self.databases, name: standing})


def _associated(number: int, master_id: str) -> bytes:
    return f"etcdpy data key {number} {master_id}".encode()


def wrap(number: int, key: bytes, masters: MasterKeys, made: str) -> DataKey:
    """A data key under the master key that writes."""
    assert masters.writing is not None
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(masters.keys[masters.writing]).encrypt(nonce, key, _associated(number, masters.writing))
    return DataKey(number, made, masters.writing, base64.b64encode(nonce + sealed).decode(), key)


def new_key(number: int, masters: MasterKeys) -> DataKey:
    """A fresh data key. Raises EncryptionError when there were too many."""
    if number > NUMBER_MAX:
        raise EncryptionError(f"this member has had {NUMBER_MAX} data keys; {REPLACE}")
    return wrap(number, os.urandom(KEY_BYTES), masters, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def unwrap(path: Path, keys: DataKeys, masters: MasterKeys | None) -> DataKeys:
    """The keys themselves. Raises EncryptionError naming the id of the key that is missing or wrong, and the file."""
    if masters is None:
        ids = ", ".join(sorted({f'"{each.wrapped_by}"' for each in keys.keys}))
        raise EncryptionError(
            f"{path.parent} is encrypted under the key {ids}; start with --encryption-key-file and a file that holds it"
        )
    opened = []
    for each in keys.keys:
        master = masters.keys.get(each.wrapped_by)
        if master is None:
            raise EncryptionError(
                f'{path} needs the key "{each.wrapped_by}", which {masters.path} does not hold; put its line back into '
                "that file, or name another --encryption-key-file"
            )
        sealed = base64.b64decode(each.wrapped)
        try:
            associated = _associated(each.number, each.wrapped_by)
            key = AESGCM(master).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):
            raise EncryptionError(
                f'the key "{each.wrapped_by}" in {masters.path} is not the one that {path} was made with; put '
                "the right line back into that file, or name another --encryption-key-file"
            ) from None
        opened.append(replace(each, key=key))
    return replace(keys, keys=tuple(opened))


# --- the file ---


def read(path: Path) -> tuple[DataKeys, dict[str, Any]] | None:
    """The file's content, its keys still wrapped, and its fields for `check_code`; None without a file.

    Raises EncryptionError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limits.DATA_KEYS_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EncryptionError(f"cannot read {path}: {error.strerror}; make it readable for this user") from error
    try:
        if len(content) > limits.DATA_KEYS_FILE_BYTES_MAX:
            raise ValueError("it is too large")
        fields = json.loads(content)
        if fields["version"] != VERSION:
            raise ValueError(f"its version is {fields['version']!r}")
        return _from_fields(fields), fields
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"cannot be read ({error!r})") from error


def _damaged(path: Path, what: str) -> EncryptionError:
    return EncryptionError(
        f"{path} {what}: without it nothing here can be decrypted; put it back from a copy, or {REPLACE}"
    )


def _from_fields(fields: dict[str, Any]) -> DataKeys:
    keys = tuple(
        DataKey(int(each["number"]), str(each["made"]), str(each["wrapped_by"]), str(each["wrapped"]))
        for each in fields["keys"]
    )
    for each in keys:
        base64.b64decode(each.wrapped, validate=True)
    databases = {
        name: Standing(
            bool(fields["databases"][name]["plaintext"]),
            bool(fields["databases"][name]["complete"]),
            float(fields["databases"][name]["done"]),
        )
        for name in DATABASES
    }
    found = DataKeys(int(fields["writing"]), int(fields["last"]), keys, databases)
    if not keys or (found.writing and found.writing_key() is None):
        raise ValueError("the key that writes is missing")
    return found


def _to_fields(keys: DataKeys) -> dict[str, Any]:
    return {
        "version": VERSION,
        "writing": keys.writing,
        "last": keys.last,
        "keys": [
            {"number": each.number, "made": each.made, "wrapped_by": each.wrapped_by, "wrapped": each.wrapped}
            for each in keys.keys
        ],
        "databases": {
            name: {"plaintext": each.plaintext, "complete": each.complete, "done": each.done}
            for name, each in keys.databases.items()
        },
    }


def _code(fields: dict[str, Any], key: bytes) -> str:
    content = json.dumps({name: fields[name] for name in fields if name != "code"}, sort_keys=True)
    return hmac.digest(derive(key, b"KEYS"), content.encode(), "sha256").hex()


def load(path: Path, masters: MasterKeys | None) -> DataKeys | None:
    """The data keys, unwrapped; None without a file. Raises EncryptionError."""
    found = read(path)
    if found is None:
        return None
    keys = unwrap(path, found[0], masters)
    if not hmac.compare_digest(str(found[1].get("code", "")).encode(), _code(found[1], keys.keys[0].key).encode()):
        raise _damaged(path, "was changed by hand or damaged")
    return keys


def save(path: Path, keys: DataKeys) -> None:
    """Replace the file; durable afterwards. Raises EncryptionError."""
    fields = _to_fields(keys)
    fields["code"] = _code(fields, keys.keys[0].key)
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(fields, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise EncryptionError(f"cannot write {path}: {error.strerror}; make room or mend its permissions") from error


def remove(path: Path) -> None:
    """Everything is plaintext: no key is needed any more. Raises EncryptionError."""
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise EncryptionError(f"cannot remove {path}: {error.strerror}") from error
