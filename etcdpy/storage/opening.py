"""From a data directory that is locked to open databases: what the tables of recovery.py say, carried out."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.raft.types import HardState
from etcdpy.storage import leveldb, raft_log, recovery
from etcdpy.storage.chain import BatchChain
from etcdpy.storage.data_keys import LOG, STATE
from etcdpy.storage.encryption import open_encryption
from etcdpy.storage.errors import DamagedError, DataDirError
from etcdpy.storage.log_database import create_log, open_log
from etcdpy.storage.meta import APPLIED_KEY, CHAIN_PREFIX, CONF_STATE_KEY, IDENTITY_KEY
from etcdpy.storage.raft_log import RaftLog
from etcdpy.storage.recovery import Action
from etcdpy.storage.state import StateBackend

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.data_dir import DataDir
    from etcdpy.storage.encryption import Encryption
    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.storage.leveldb import Database

logger = logging.getLogger("etcdpy.storage")


@dataclass(frozen=True, slots=True)
class Opened:
    """A member's databases, found whole."""

    log: RaftLog
    state: StateBackend
    log_database: Database
    state_database: Database
    chain: BatchChain
    """Of the state."""
    applied: tuple[int, int]
    """Index and term."""
    is_new: bool
    encryption: Encryption | None


def open_databases(directory: DataDir, masters: MasterKeys | None = None) -> Opened:
    """Raises DataDirError, DamagedError or StorageError; then nothing was changed and nothing is open."""
    layout = directory.look()
    case = recovery.decide(recovery.LAYOUT_CASES, layout)
    message = case.message(directory.path, **recovery.facts(layout))
    if case.action is Action.REFUSE:
        raise DataDirError(message)
    if case.action is Action.CREATE:
        if layout.creating:
            logger.warning("data directory made anew", extra={"fields": {"reason": message}})
        directory.begin_creation()
        encryption = open_encryption(directory, masters, creating=True)
        if encryption is not None:
            encryption.store()
        _create(directory, encryption)
    else:
        encryption = open_encryption(directory, masters, creating=False)
        if layout.creating:
            directory.clear_creation_mark()
    with ExitStack() as opened, leveldb.translated(directory.member):
        found = _recover(directory, opened, encryption)
        opened.pop_all()
    directory.remove_leftovers()
    return found


def _plain(kind: str, path: Path, *, create: bool) -> Database:
    """The database in `path`, as it is on disk."""
    if kind == LOG:
        return create_log(path) if create else open_log(path)
    return leveldb.open_database(path, leveldb.STATE_OPTIONS, create=create)


def _open(opened: ExitStack, kind: str, path: Path, encryption: Encryption | None) -> Database:
    database = _plain(kind, path, create=False)
    opened.callback(database.close)
    return database if encryption is None else encryption.database(kind, database, path)


def _recover(directory: DataDir, opened: ExitStack, encryption: Encryption | None) -> Opened:
    log_database = _open(opened, LOG, directory.log_path, encryption)
    found = recovery.read_log(log_database, directory.log_path)
    log = RaftLog(log_database, directory.log_path)
    log.restore(found.start, found.runs, found.records)
    received = _look_at_received(directory, found.identity)
    installed = received.action is Action.FINISH_INSTALL
    state_path = directory.received_state_path(found.identity) if installed else directory.state_path
    state_database = _open(opened, STATE, state_path, encryption) if state_path.exists() else None
    content = _compare(state_path, log, found, state_database)
    case = recovery.decide(recovery.CONTENT_CASES, content)
    message = case.message(directory.member, **recovery.facts(content))
    if case.action is Action.REFUSE:
        raise DamagedError(message)
    if encryption is not None:
        encryption.store()
    if received.action is not Action.IGNORE:
        logger.info("received state", extra={"fields": {"reason": received.message(directory.member)}})
    if state_database is None:
        logger.warning("rebuilding the applied state", extra={"fields": {"reason": message}})
        _create_database(directory.state_path, STATE, encryption, IDENTITY_KEY, found.identity)
    elif installed:
        state_database.close()
        directory.put_in_place(state_path)
    if state_database is None or installed:
        state_database = _open(opened, STATE, directory.state_path, encryption)
    chain = BatchChain.load(state_database, CHAIN_PREFIX, directory.state_path)
    state = StateBackend(state_database, directory.state_path)
    stored = state.get(CONF_STATE_KEY)
    log.hard_state = found.hard_state or HardState()
    log.conf_state = found.bootstrap
    if stored is not None:
        log.conf_state = recovery.parse_record(directory.state_path, CONF_STATE_KEY, stored, recovery.parse_conf_state)
    log.applied = content.applied_index, content.applied_term
    return Opened(log, state, log_database, state_database, chain, log.applied, found.hard_state is None, encryption)


def _look_at_received(directory: DataDir, log_identity: bytes) -> recovery.Case[recovery.Received]:
    """What table RECEIVED_CASES says."""
    present = any(directory.member.glob("state.*"))
    belongs = directory.received_state_path(log_identity).exists()
    return recovery.decide(recovery.RECEIVED_CASES, recovery.Received(present, belongs))


# --- making ---


def _create(directory: DataDir, encryption: Encryption | None) -> None:
    """Make both databases with a common identity; the directory counts once FORMAT is there."""
    identity = os.urandom(16)
    _create_database(directory.log_path, LOG, encryption, raft_log.IDENTITY_KEY, identity)
    _create_database(directory.state_path, STATE, encryption, IDENTITY_KEY, identity)
    directory.finish_creation()


def _create_database(
    path: Path, kind: str, encryption: Encryption | None, identity_key: bytes, identity: bytes
) -> None:
    """Make a database under another name first, so that one of this name always has its identity."""
    making = path.with_name(path.name + ".new")
    try:
        shutil.rmtree(making, ignore_errors=True)
        database = _plain(kind, making, create=True)
        if encryption is not None:
            database = encryption.database(kind, database, making)
        try:
            database.put(identity_key, identity, sync=True)
        finally:
            database.close()
        leveldb.sync_directory(making)
        making.rename(path)
        leveldb.sync_directory(path.parent)
    except leveldb.LevelError as error:
        raise leveldb.translate(making, error) from error
    except OSError as error:
        raise DataDirError(f"cannot create {path}: {error.strerror}") from error


def _compare(path: Path, log: RaftLog, found: recovery.LogContent, state: Database | None) -> recovery.Content:
    """The facts that the last table is about; `path` is where `state` is."""
    applied_index = applied_term = 0
    identity = found.identity
    if state is not None:
        identity = state.get(IDENTITY_KEY, verify_checksums=True) or b""
        record = state.get(APPLIED_KEY, verify_checksums=True)
        if record is not None:
            applied_index, applied_term = recovery.parse_record(path, APPLIED_KEY, record, raft_log.unpack_pair)
    known = log.start_index <= applied_index <= log.last_index()
    return recovery.Content(
        state_missing=state is None,
        identity_matches=identity == found.identity and bool(identity),
        start_index=log.start_index,
        last_index=found.last_index,
        hard_state_missing=found.hard_state is None and found.last_index > 0,
        commit_index=found.hard_state.commit if found.hard_state is not None else 0,
        applied_index=applied_index,
        applied_term=applied_term,
        log_term_at_applied=log.term(applied_index) if known else None,
    )
