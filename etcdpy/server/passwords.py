"""Passwords and their bcrypt hashes. One costs 50 ms of CPU by default, so threads do it, and few of them."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from etcdpy import limits
from etcdpy.errors import PasswordTooLong, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

COST_MIN: Final = 4
COST_MAX: Final = 31


class BcryptPasswords:
    """Implements the api room's Passwords. bcrypt lets the interpreter go while it computes."""

    def __init__(self, cost: int) -> None:
        """`cost` is --bcrypt-cost; one that bcrypt does not have counts as the default, as on etcd."""
        self._cost = cost if COST_MIN <= cost <= COST_MAX else limits.BCRYPT_COST_DEFAULT
        # Half of the cores at the most: the loop needs one, and logins are anybody's to ask for.
        self._pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), thread_name_prefix="etcdpy-password")
        self._waiting = 0

    async def hash(self, password: str) -> bytes:
        """See Passwords."""
        encoded = password.encode()
        if len(encoded) > limits.BCRYPT_PASSWORD_BYTES_MAX:
            raise PasswordTooLong
        return await self._run(partial(_hash, encoded, self._cost))

    async def matches(self, password: str, hashed: bytes | None) -> bool:
        """See Passwords."""
        encoded = password.encode()[: limits.BCRYPT_PASSWORD_BYTES_MAX]
        if hashed is None:
            await self._run(partial(_hash, encoded, self._cost))
            return False
        return await self._run(partial(_matches, encoded, hashed))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= limits.PASSWORD_WORK_WAITING_MAX:
            raise TooManyRequests
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _hash(password: bytes, cost: int) -> bytes:
    import bcrypt  # here: a member without users starts without it

    hashed: bytes = bcrypt.hashpw(password, bcrypt.gensalt(cost, b"2a"))
    return hashed


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt

    try:
        matches: bool = bcrypt.checkpw(password, hashed)
    except ValueError:
        return False  # no hash at all
    return matches
