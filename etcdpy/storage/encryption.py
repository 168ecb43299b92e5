"""A member's encryption at rest: which keys there are, which one writes, and how far what is stored has followed.

    master keys (the operator's file)  --wrap-->  data keys (member/KEYS)  --derive-->  a key a process, database

What is stored changes its form in the background (reencryption.py); until that is complete, several forms are read. All
methods but `save` belong to the loop's thread.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from etcdpy.storage import data_keys
from etcdpy.storage.data_keys import COMPLETE, DATABASES, LOG, STATE, DataKeys, Standing
from etcdpy.storage.errors import EncryptionError
from etcdpy.storage.meta import CHAIN_PREFIX
from etcdpy.storage.sealed_database import Form, SealedDatabase, SealedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from etcdpy.storage.data_dir import DataDir
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.storage.leveldb import Database

logger = logging.getLogger("etcdpy.storage")

_CHAIN_PREFIXES: Final = {LOG: b"\xff", STATE: CHAIN_PREFIX}
"""The log has no such records: none of its keys begins so."""
_BEGINNING: Final = Standing(plaintext=False, complete=False, done=0.0)


class Encryption:
    """Made by `open_encryption`."""

    def __init__(self, path: Path, keys: DataKeys, *, stored: bool) -> None:
        self._path = path
        self.keys = keys
        self._stored = stored
        """Whether the file says the same."""
        self._forms = {name: Form(name, _CHAIN_PREFIXES[name]) for name in DATABASES}
        self._take(keys)

    def _take(self, keys: DataKeys) -> None:
        self.keys = keys
        for form in self._forms.values():
            form.take(keys)

    def store(self) -> None:
        """Before the first write to a database. Raises EncryptionError."""
        if not self._stored:
            data_keys.save(self._path, self.keys)
            self._stored = True
            logger.info("encryption at rest", extra={"fields": _fields(self.keys)})

    @property
    def sealing(self) -> bool:
        """Whether what is written from now on is encrypted."""
        return self.keys.writing != 0

    @property
    def described(self) -> str:
        """What is written now, in words: never a key."""
        return described(self.keys)

    def database(self, name: str, raw: Database, path: Path) -> SealedDatabase:
        """A database of that kind, seen through its encryption."""
        return (SealedLog if name == LOG else SealedDatabase)(raw, path, self._forms[name])

    def changed(self, masters: MasterKeys) -> DataKeys | None:
        """The data keys as another key file wants them, to be saved and then taken; None where they are so already.

        A new first key makes a new data key and wraps the ones before it too, so that other master keys are needed no
        more. Raises EncryptionError.
        """
        keys = after_change(self._path, self.keys, masters)
        return None if keys == self.keys else keys

    def finished(self) -> DataKeys:
        """The data keys once every record of both databases has the present form and is durable, to be saved and then
        taken: without what only older forms need."""
        current = self.keys.writing_key()
        if current is None:
            # All forms remain readable in this process; the next start finds plaintext and no file.
            return replace(self.keys, databases={name: replace(COMPLETE, plaintext=True) for name in DATABASES})
        return replace(self.keys, keys=(current,), databases=dict.fromkeys(DATABASES, COMPLETE))

    def save(self, keys: DataKeys) -> None:
        """Make them durable; two syncs, so on a thread that may wait for the disk, and one at a time. Raises
        EncryptionError; then nothing has changed."""
        if keys.complete and not keys.writing:
            data_keys.remove(self._path)
        else:
            data_keys.save(self._path, keys)

    def take(self, keys: DataKeys) -> None:
        """Go on with keys that are saved."""
        self._take(keys)
        what = "encryption is complete" if keys.complete else "encryption changed"
        logger.info(what, extra={"fields": _fields(keys)})

    def note_progress(self, done: Mapping[str, float]) -> Callable[[], None]:
        """How far each database is, for who asks for the status. What is returned stores it, on any thread but beside
        no other change; what is lost of it costs nothing."""
        for name, part in done.items():
            self.keys = self.keys.with_database(name, replace(self.keys.databases[name], done=part))
        return partial(data_keys.save, self._path, self.keys)


def described(keys: DataKeys) -> str:
    """What is written, in words: never a key."""
    current = keys.writing_key()
    return f'data key {current.number}, wrapped by "{current.wrapped_by}"' if current else "plaintext"


def _fields(keys: DataKeys) -> dict[str, Any]:
    return {"writing": described(keys), "complete": keys.complete}


def after_change(path: Path, keys: DataKeys, masters: MasterKeys) -> DataKeys:
    """The data keys as a key file wants them; `keys` themselves when that is what they are. Raises EncryptionError."""
    current = keys.writing_key()
    if masters.writing is None:
        if current is None:
            return keys
        for each in keys.keys:
            if each.wrapped_by not in masters.keys:
                raise EncryptionError(
                    f'{path} needs the key "{each.wrapped_by}" until everything is plaintext; put its line back into '
                    f"{masters.path}"
                )
        standings = {name: Standing(plaintext=True, complete=False, done=0.0) for name in DATABASES}
        return replace(keys, writing=0, databases=standings)
    if current is not None and current.wrapped_by == masters.writing:
        return keys
    number = keys.last + 1
    older = tuple(data_keys.wrap(each.number, each.key, masters, each.made) for each in keys.keys)
    standings = {name: replace(_BEGINNING, plaintext=keys.databases[name].plaintext) for name in DATABASES}
    return DataKeys(number, number, (*older, data_keys.new_key(number, masters)), standings)


def open_encryption(directory: DataDir, masters: MasterKeys | None, *, creating: bool) -> Encryption | None:
    """What the key file and `member/KEYS` say together; None when neither wants any. Changes nothing: see `store`.

    Raises EncryptionError naming the key that is missing or wrong.
    """
    path = directory.keys_path
    keys = None if creating else data_keys.load(path, masters)
    if masters is None:
        return None  # load refuses what is encrypted
    if keys is not None:
        changed = after_change(path, keys, masters)
        return Encryption(path, changed, stored=changed == keys)
    if masters.writing is None:
        return None
    standing = COMPLETE if creating else Standing(plaintext=True, complete=False, done=0.0)
    keys = DataKeys(1, 1, (data_keys.new_key(1, masters),), dict.fromkeys(DATABASES, standing))
    return Encryption(path, keys, stored=False)
