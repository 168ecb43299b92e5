"""Encryption at rest in tests: key files, a re-encryption run to its end, and a look at every byte on disk."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from etcdpy.storage import key_file
from etcdpy.storage.reencryption import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys

LINES = {
    key_id: f"{key_id}: {text}"
    for key_id, text in {
        "first": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "second": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "third": "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    }.items()
}


def write_key_file(path: Path, *ids: str) -> Path:
    """A key file with these keys, or the word `plaintext`, in this order."""
    descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(LINES.get(each, each) + "\n" for each in ids))
    path.with_suffix(".new").rename(path)
    return path


def masters(path: Path, *ids: str) -> MasterKeys:
    """The keys of such a file."""
    return key_file.load(write_key_file(path, *ids))


def change_keys(engine: Engine, wanted: MasterKeys) -> bool:
    """Go on with other keys, as a running member does; returns whether what is stored must follow."""
    assert engine.encryption is not None
    keys = engine.encryption.changed(wanted)
    if keys is None:
        return False
    engine.encryption.save(keys)
    engine.encryption.take(keys)
    return not keys.complete


def reencrypt(engine: Engine) -> int:
    """Bring all that is stored into the present form; returns how many records had another one."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        reencryption = engine.reencryption(loop)
        for turn in reencryption.steps():
            if engine.has_open_writes and not engine.installing:
                engine.submit(engine.take_job(None, ()), lambda _job: None, loop)
            await asyncio.sleep(0.002 if turn is Turn.WAITS else 0)
        return reencryption.rewritten

    return asyncio.run(run())


def find_on_disk(directory: Path, needles: Iterable[bytes]) -> list[tuple[Path, bytes]]:
    """Which of these byte strings stands in which file."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += [(path, needle) for needle in needles if needle in content]
    return found
