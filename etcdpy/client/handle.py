"""How both clients are made, and what they offer without waiting."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final, Self, TypedDict

from etcdpy.client.core import Settings, View
from etcdpy.client.keys import Key, as_bytes, key_range
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.client.channels import TlsFiles

DEFAULT_ENDPOINT: Final = "127.0.0.1:2379"
WATCH_UNREAD_MAX: Final = 64
"""Answers of a watcher that wait to be read; with more the stream is not read, and the server holds the rest."""


class Options(TypedDict, total=False):
    """How a client reaches its cluster. Times are seconds.

    `tls`: whom to trust and who we are; for endpoints that begin with `https://`, or with no scheme. `server_name`: the
    name that the servers' certificates must have, where it is not the endpoint's. `user` and `password`: the client
    logs in by itself, and again when its token has ended. `token`: one from elsewhere, instead. `timeout`: for a call
    with all its attempts, where the call says nothing else (10); None: as long as it takes. `dial_timeout`: for one
    attempt to connect (2). `keepalive_time`: a connection that is silent for so long is tried (10, and no less), and
    is taken for dead `keepalive_timeout` later (5). `send_bytes_max` and `receive_bytes_max`: the largest request and
    answer (-1, no limit).
    """

    tls: TlsFiles | None
    server_name: str
    user: str
    password: str
    token: str
    timeout: float | None
    dial_timeout: float
    keepalive_time: float
    keepalive_timeout: float
    send_bytes_max: int
    receive_bytes_max: int


class WatchFields(TypedDict, total=False):
    """What a watcher may be told beside its keys; a `start_revision` of 0 means from now on."""

    start_revision: int
    prev_kv: bool
    no_put: bool
    no_delete: bool


def settings_of(endpoints: str | Sequence[str], options: Options) -> Settings:
    """The settings that a client was made with; endpoints may stand in one text, with commas between."""
    names = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return Settings(endpoints=tuple(name.strip() for name in names if name.strip()), **options)


def watch_request(
    key: Key, range_end: Key, fields: WatchFields, *, prefix: bool, from_key: bool
) -> rpc_pb2.WatchCreateRequest:
    """A watcher as it is asked for: told of its progress now and then, which keeps it ahead of compactions, and with
    answers in parts where they are large."""
    start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    request = rpc_pb2.WatchCreateRequest(key=start, range_end=end, progress_notify=True, fragment=True)
    request.start_revision = fields.get("start_revision", 0)
    request.prev_kv = fields.get("prev_kv", False)
    if fields.get("no_put"):
        request.filters.append(rpc_pb2.WatchCreateRequest.NOPUT)
    if fields.get("no_delete"):
        request.filters.append(rpc_pb2.WatchCreateRequest.NODELETE)
    return request


class Handle:
    """What does not wait: other views of the same cluster, on the same connections."""

    _view: View

    @property
    def endpoints(self) -> tuple[str, ...]:
        """As the client was given them."""
        return self._view.core.settings.endpoints

    def namespace(self, prefix: Key) -> Self:
        """The keys that begin with `prefix`, without it, as if there were no others: in requests, answers,
        transactions, watchers, locks and elections. What is not about keys is as before."""
        return self._viewed(self._view.inside(as_bytes(prefix)))

    def at(self, endpoint: str) -> Self:
        """The same at one of the client's endpoints alone, as for `status` and `defragment`.

        Raises ValueError where it is none of them.
        """
        return self._viewed(self._view.at(endpoint))

    def with_leader(self) -> Self:
        """The same, but a member that has no leader refuses at once, instead of waiting for one."""
        return self._viewed(self._view.with_leader())

    def _viewed(self, view: View) -> Self:
        other = copy.copy(self)
        other._view = view
        return other
