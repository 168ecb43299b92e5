"""Users for the workloads that have them switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.users import READ, READWRITE, ROOT_PASSWORD, WRITE, As

if TYPE_CHECKING:
    from tests.support.client import Client

BENCH_USER: Final = "bench"
"""Also its password."""


def switch_users_on(client: Client) -> As:
    """A user who may read and write every key, as one of several rights, and is not root. Returns root."""
    root = As(client).enable()
    root.add_role(BENCH_USER, (READ, b"/config/", b"/config0"), (READWRITE, b"\0", b"\0"), (WRITE, b"/log/", b"/log0"))
    root.add_user(BENCH_USER, BENCH_USER, BENCH_USER)
    return As(client).log_in("root", ROOT_PASSWORD)
