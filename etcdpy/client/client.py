"""The blocking client. Threads may share one."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

import grpc

from etcdpy.client import op
from etcdpy.client.balancer import Balancer
from etcdpy.client.blocking import BlockingIo
from etcdpy.client.core import Core, View, run
from etcdpy.client.failures import ClientClosed, Failure, deadline_exceeded
from etcdpy.client.following import Following, WatchEnded
from etcdpy.client.handle import (
    DEFAULT_ENDPOINT,
    WATCH_UNREAD_MAX,
    Handle,
    Options,
    WatchFields,
    settings_of,
    watch_request,
)
from etcdpy.errors import LeaseNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from google.protobuf.message import Message

    from etcdpy.client.call import Answer, Call
    from etcdpy.client.keys import Key
    from etcdpy.proto import kv_pb2, rpc_pb2

P = ParamSpec("P")
A = TypeVar("A", bound="Message")


def _made(make: Callable[P, Call[A]]) -> Callable[Concatenate[Client, P], A]:
    """A method that makes the call and waits for its answer."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> A:
        return run(self._view.do(make(*args, **kwargs)))

    method.__name__, method.__doc__ = make.__name__, make.__doc__
    return method


class Client(Handle):
    """A client of one cluster. A context manager; `close` ends its connections, watchers and leases' keeping.

    Calls raise EtcdError (`etcdpy.errors` has a class for each of etcd's errors), and ClientClosed.
    """

    def __init__(self, endpoints: str | Sequence[str] = DEFAULT_ENDPOINT, **options: Unpack[Options]) -> None:
        """`endpoints`: `host:port` or URLs, a list or with commas between; calls go to all that are well, in turn.

        Nothing is connected before the first call. Raises ValueError where there is no endpoint.
        """
        settings = settings_of(endpoints, options)
        balancer = Balancer(len(settings.endpoints))
        self._io = BlockingIo(settings, balancer)
        self._view = View(Core(settings, balancer, self._io))
        self._worker = _LeaseWorker(self._view.core)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything; leases live on until their time is over."""
        self._view.core.closed = True
        self._io.close()
        self._worker.wake()

    def do(self, call: Call[Answer]) -> Answer:
        """Make a call that a function of `etcdpy.client.op` has made up."""
        return run(self._view.do(call))

    def stream(self, call: Call[Answer]) -> Iterator[Answer]:
        """The answers of a call that streams them; a stream that breaks is not opened again.

        Raises EtcdError, ClientClosed.
        """
        view = self._view
        timeout = view.core.settings.timeout if call.timeout is None else call.timeout
        opening = view.core.open(
            call.method, [view.into(call.request)], timeout, require_leader=view.require_leader, only=view.only
        )
        number, stream = run(opening)
        try:
            while (answer := run(stream.read())) is not None:
                yield view.out_of(answer)
        except grpc.RpcError as error:
            failure = Failure.of(error)
            view.core.note(number, failure)
            raise failure.error from None
        finally:
            stream.cancel()

    get = _made(op.get)
    put = _made(op.put)
    delete = _made(op.delete)
    txn = _made(op.txn)
    compact = _made(op.compact)
    grant = _made(op.grant)
    revoke = _made(op.revoke)
    time_to_live = _made(op.time_to_live)
    leases = _made(op.leases)
    member_list = _made(op.member_list)
    member_add = _made(op.member_add)
    member_remove = _made(op.member_remove)
    member_update = _made(op.member_update)
    member_promote = _made(op.member_promote)
    status = _made(op.status)
    alarms = _made(op.alarms)
    disarm = _made(op.disarm)
    defragment = _made(op.defragment)
    hash_kv = _made(op.hash_kv)
    move_leader = _made(op.move_leader)
    downgrade = _made(op.downgrade)
    auth_enable = _made(op.auth_enable)
    auth_disable = _made(op.auth_disable)
    auth_status = _made(op.auth_status)
    authenticate = _made(op.authenticate)
    user_add = _made(op.user_add)
    user_get = _made(op.user_get)
    user_list = _made(op.user_list)
    user_delete = _made(op.user_delete)
    user_change_password = _made(op.user_change_password)
    user_grant_role = _made(op.user_grant_role)
    user_revoke_role = _made(op.user_revoke_role)
    role_add = _made(op.role_add)
    role_get = _made(op.role_get)
    role_list = _made(op.role_list)
    role_delete = _made(op.role_delete)
    role_grant_permission = _made(op.role_grant_permission)
    role_revoke_permission = _made(op.role_revoke_permission)

    def watch(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        from_key: bool = False,
        progress: bool = False,
        timeout: float | None = None,
        **fields: Unpack[WatchFields],
    ) -> Watch:
        """Watch a key or a range as `get` understands it; when this returns the server has taken the watcher.

        `progress`: hand out answers without events too, which tell how far the watcher has come. `timeout`: seconds
        until the watcher must have been taken; None: the client's.
        """
        request = watch_request(key, range_end, fields, prefix=prefix, from_key=from_key)
        watch = Watch(self._view, request, progress=progress)
        watch.wait_created(self._view.core.settings.timeout if timeout is None else timeout)
        return watch

    def lease(self, ttl: int, lease_id: int = 0, *, timeout: float | None = None) -> Lease:
        """A lease of `ttl` seconds that is kept alive until it is revoked; as a context manager it ends with it."""
        asked_at = time.monotonic()
        granted = self.grant(ttl, lease_id, timeout=timeout)
        return Lease(self, self._worker, granted, asked_at)


class Watch:
    """Events as they happen, each once and in the order of revisions, whatever happens to connections and members.

    Iterating gives events; `next` gives etcd's whole answers. The iteration ends when the watcher is cancelled or the
    client closed. It raises WatchCompacted where events that it should see are compacted, and any EtcdError with which
    the server refuses it. A context manager; one thread reads, others may cancel.
    """

    def __init__(self, view: View, request: rpc_pb2.WatchCreateRequest, *, progress: bool) -> None:
        self._following = Following(view, request)
        self._progress = progress
        self._answers: deque[rpc_pb2.WatchResponse] = deque()
        self._changed = threading.Condition()
        self._end: BaseException | None = None
        self._reader = threading.Thread(target=self._read, name="etcdpy-watch", daemon=True)
        self._reader.start()

    @property
    def header(self) -> rpc_pb2.ResponseHeader:
        """Of the answer that created the watcher: it sees what happens after `header.revision`."""
        return self._following.state.header

    def wait_created(self, seconds: float | None) -> None:
        """Wait until the server has taken the watcher. Raises EtcdError."""
        with self._changed:
            self._changed.wait_for(lambda: self._following.state.created or self._end is not None, seconds)
        if self._end is not None and not self._answers:
            self.cancel()
            raise self._end
        if not self._following.state.created:
            self.cancel()
            raise deadline_exceeded()

    def next(self, timeout: float | None = None) -> rpc_pb2.WatchResponse | None:
        """The next answer; None where there is none in time.

        Raises EtcdError, and WatchEnded after it was cancelled.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._answers or self._end is not None, timeout):
                return None
            if not self._answers:
                assert self._end is not None
                raise self._end
            self._changed.notify_all()
            return self._answers.popleft()

    def __iter__(self) -> Iterator[kv_pb2.Event]:
        try:
            while (answer := self.next()) is not None:
                yield from answer.events
        except (WatchEnded, ClientClosed):
            return

    def request_progress(self) -> None:
        """Ask how far the watcher has come; there will be an answer without events."""
        self._progress = True
        run(self._following.ask_progress())

    def cancel(self) -> None:
        """End it."""
        self._following.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.cancel()

    def _read(self) -> None:
        try:
            run(self._following.start())
            with self._changed:
                self._changed.notify_all()
            while True:
                answer = run(self._following.next())
                if answer.events or self._progress:
                    self._hand_over(answer)
        except BaseException as error:  # for the thread that reads the answers
            with self._changed:
                self._end = error
                self._changed.notify_all()

    def _hand_over(self, answer: rpc_pb2.WatchResponse) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._answers) < WATCH_UNREAD_MAX or self._following.ended)
            self._answers.append(answer)
            self._changed.notify_all()


class Lease:
    """A lease that the client keeps alive. A context manager that revokes it at its end."""

    def __init__(
        self, client: Client, worker: _LeaseWorker, granted: rpc_pb2.LeaseGrantResponse, asked_at: float
    ) -> None:
        self._client = client
        self._worker = worker
        self.id: int = granted.ID
        self.ttl: int = granted.TTL
        """Seconds that it lives without being kept alive, as the server decided."""
        self.lost = threading.Event()
        """Set when the lease has ended against the will of its owner: revoked, or not renewed in time."""
        worker.keep(self.id, self.ttl, asked_at, self.lost.set)

    @property
    def alive(self) -> bool:
        """Whether it lives for sure: false as soon as the server might have ended it."""
        return self._worker.keeper.lives(self.id)

    def forget(self) -> None:
        """Keep it alive no longer; it ends by itself."""
        self._worker.keeper.forget(self.id)

    def revoke(self, *, timeout: float | None = None) -> None:
        """End it, which deletes its keys. It may have ended before."""
        self.forget()
        try:
            self._client.revoke(self.id, timeout=timeout)
        except LeaseNotFound:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.revoke()


class _LeaseWorker:
    """The thread that keeps leases alive; it begins with the first one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.keeper = core.keeper
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def keep(self, lease_id: int, ttl: float, asked_at: float, lost: Callable[[], None]) -> None:
        self.keeper.keep(lease_id, ttl, asked_at, lost)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="etcdpy-leases", daemon=True)
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._core.closed:
            seconds = run(self.keeper.work())
            self._wake.wait(None if seconds == float("inf") else seconds)
            self._wake.clear()
