"""How both clients are made, and what they offer without waiting."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypedDict, TypeVar, overload

from etcdpy.client import op
from etcdpy.client.core import Settings, View
from etcdpy.client.keys import Key, as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from google.protobuf.message import Message

    from etcdpy.client.aio import AsyncClient
    from etcdpy.client.call import Call
    from etcdpy.client.channels import TlsFiles
    from etcdpy.client.client import Client

P = ParamSpec("P")
A = TypeVar("A", bound="Message")

DEFAULT_ENDPOINT: Final = "127.0.0.1:2379"


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


def settings_of(endpoints: str | Sequence[str], options: Options) -> Settings:
    """The settings that a client was made with; endpoints may stand in one text, with commas between."""
    names = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return Settings(endpoints=tuple(name.strip() for name in names if name.strip()), **options)


class Made(Generic[P, A]):
    """A method that makes a call: its answer, or with the client for asyncio what is awaited for it."""

    def __init__(self, make: Callable[P, Call[A]]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> Made[P, A]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, A]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, A]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        if client is None:
            return self
        make, do = self._make, client.do

        @wraps(make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return do(make(*args, **kwargs))

        client.__dict__[self._name] = method  # where Python looks first from now on
        return method


class Handle:
    """What both clients can do by the same words, and what does not wait."""

    _io: Any
    _view: View

    get = Made(op.get)
    put = Made(op.put)
    delete = Made(op.delete)
    txn = Made(op.txn)
    compact = Made(op.compact)
    grant = Made(op.grant)
    revoke = Made(op.revoke)
    time_to_live = Made(op.time_to_live)
    leases = Made(op.leases)
    member_list = Made(op.member_list)
    member_add = Made(op.member_add)
    member_remove = Made(op.member_remove)
    member_update = Made(op.member_update)
    member_promote = Made(op.member_promote)
    status = Made(op.status)
    alarms = Made(op.alarms)
    disarm = Made(op.disarm)
    defragment = Made(op.defragment)
    hash_kv = Made(op.hash_kv)
    move_leader = Made(op.move_leader)
    downgrade = Made(op.downgrade)
    auth_enable = Made(op.auth_enable)
    auth_disable = Made(op.auth_disable)
    auth_status = Made(op.auth_status)
    authenticate = Made(op.authenticate)
    user_add = Made(op.user_add)
    user_get = Made(op.user_get)
    user_list = Made(op.user_list)
    user_delete = Made(op.user_delete)
    user_change_password = Made(op.user_change_password)
    user_grant_role = Made(op.user_grant_role)
    user_revoke_role = Made(op.user_revoke_role)
    role_add = Made(op.role_add)
    role_get = Made(op.role_get)
    role_list = Made(op.role_list)
    role_delete = Made(op.role_delete)
    role_grant_permission = Made(op.role_grant_permission)
    role_revoke_permission = Made(op.role_revoke_permission)

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
        other = object.__new__(type(self))
        other._io, other._view = self._io, view
        return other
