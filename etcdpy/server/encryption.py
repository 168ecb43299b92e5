"""Encryption at rest while the member serves: the key file is looked at, and what is stored follows it.

A key file that was replaced takes effect within seconds, without a signal. One that cannot be used is reported once,
and the member goes on with the keys that it has.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from etcdpy.api.stats import EncryptionStats
from etcdpy.server import logs
from etcdpy.storage import key_file
from etcdpy.storage.errors import StorageError
from etcdpy.storage.reencryption import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from etcdpy.server.config import Config
    from etcdpy.server.member import Replica
    from etcdpy.storage.encryption import Encryption
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys

log = logs.get("encryption")


KEY_FILE_LOOK_SECONDS: Final = 5.0
"""How often a running member looks whether its key file was changed; one stat."""

REENCRYPT_PAUSE_SECONDS: Final = 0.002
"""Between two slices of re-encryption, so that it takes half of the loop at the most."""

REENCRYPT_WAIT_SECONDS: Final = 0.02
"""Between two looks at what re-encryption waits for."""

REENCRYPT_REPORT_SECONDS: Final = 10.0
"""How often the log and member/KEYS hear how far re-encryption is."""


class KeyFile:
    """The key file, and when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._signature()

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def changed(self) -> MasterKeys | None:
        """The keys when the file is another than last time and can be used; else None."""
        signature = self._signature()
        if signature == self._seen:
            return None
        self._seen = signature
        try:
            return key_file.load(self._path)
        except StorageError as error:
            log.error("the key file was changed and cannot be used; going on with the keys before", error=str(error))
            return None


def masters_of(named: str, environ: Mapping[str, str]) -> MasterKeys | None:
    """The keys of --encryption-key-file or of the systemd credential; None without either. Raises EncryptionError."""
    path = key_file.key_file_path(named, environ)
    return None if path is None else key_file.load(path)


class EncryptionKeeper:
    """A duty of the member; only with encryption. `write_early` and `storage_failed` are the node's and the
    replica's."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        path: Path,
        *,
        write_early: Callable[[], None],
        storage_failed: Callable[[StorageError], None],
    ) -> None:
        self._engine = engine
        self._encryption = encryption
        self._key_file = KeyFile(path)
        self._write_early = write_early
        self._storage_failed = storage_failed
        self._rewritten = 0

    async def run(self) -> None:
        """Until cancelled, or until a record cannot be read."""
        while True:
            if not self._encryption.keys.complete and not await self._rewrite():
                return
            await asyncio.sleep(KEY_FILE_LOOK_SECONDS)
            await self._look()

    def stats(self) -> EncryptionStats:
        """For /metrics."""
        done: dict[tuple[str, ...], float] = {
            (name,): standing.done for name, standing in self._encryption.keys.databases.items()
        }
        return EncryptionStats(done=done, rewritten=self._rewritten)

    async def _look(self) -> bool:
        """Whether the key file was changed so that what is stored must follow."""
        masters = self._key_file.changed()
        if masters is None:
            return False
        try:
            keys = self._encryption.changed(masters)
            if keys is None:
                return False
            await asyncio.to_thread(self._encryption.save, keys)
        except StorageError as error:
            log.error("the key file was changed and cannot be used; going on with the keys before", error=str(error))
            return False
        self._encryption.take(keys)
        return not keys.complete

    async def _rewrite(self) -> bool:
        """Bring everything into the present form. False when that cannot be."""
        log.info("re-encrypting what is stored", to=self._encryption.described)
        began = reported = looked = time.monotonic()
        reencryption = self._engine.reencryption(asyncio.get_running_loop())
        steps, before = reencryption.steps(), self._rewritten
        try:
            for turn in steps:
                self._rewritten = before + reencryption.rewritten
                self._write_early()
                now = time.monotonic()
                if now - reported >= REENCRYPT_REPORT_SECONDS and not reencryption.finishing:
                    reported = now
                    await self._report(reencryption.done)
                if now - looked >= KEY_FILE_LOOK_SECONDS and not reencryption.finishing:
                    looked = now
                    if await self._look():
                        return True  # begin anew for those keys
                pause = REENCRYPT_WAIT_SECONDS if turn is Turn.WAITS else REENCRYPT_PAUSE_SECONDS
                await asyncio.sleep(pause)
        except StorageError as error:
            log.error("cannot re-encrypt what is stored", error=str(error))
            if self._engine.failed is not None:
                self._storage_failed(self._engine.failed)
            return False
        finally:
            steps.close()
        took = time.monotonic() - began
        log.info("re-encrypted what is stored", records=reencryption.rewritten, took=took)
        self._report_names()
        return True

    async def _report(self, done: Mapping[str, float]) -> None:
        try:
            await asyncio.to_thread(self._encryption.note_progress(done))  # it waits for the disk
        except StorageError as error:
            log.warn("cannot store how far re-encryption is", error=str(error))
        log.info("re-encrypting what is stored", **{f"{name}-done": round(part, 3) for name, part in done.items()})

    def _report_names(self) -> None:
        if self._encryption.sealing and self._engine.names_in_manifest():
            log.warn("names of users or roles stand in LevelDB's manifest until the member is started once more")


def keeper_of(config: Config, replica: Replica) -> EncryptionKeeper | None:
    """The duty of a member that has keys; None for all others."""
    engine = replica.engine
    if engine.encryption is None:
        return None
    path = key_file.key_file_path(config.encryption_key_file, os.environ)
    assert path is not None, "encryption without a key file"
    return EncryptionKeeper(
        engine,
        engine.encryption,
        path,
        write_early=replica.node.write_early,
        storage_failed=replica.storage_failed,
    )
