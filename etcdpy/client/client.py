"""The blocking client. Threads may share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from etcdpy.client import op
from etcdpy.client.balancer import Balancer
from etcdpy.client.blocking import BlockingIo
from etcdpy.client.call import SNAPSHOT
from etcdpy.client.core import Core, View, run, run_each
from etcdpy.client.failures import ClientClosed
from etcdpy.client.following import WatchEnded
from etcdpy.client.handle import (
    DEFAULT_ENDPOINT,
    Handle,
    Options,
    Span,
    WatchFields,
    settings_of,
    watch_request,
)
from etcdpy.client.leasing import AsyncLease
from etcdpy.client.ranges import pages, range_parts, streamed
from etcdpy.client.recipes import AsyncElection, AsyncLock
from etcdpy.client.snapshot import receiving
from etcdpy.client.watching import AsyncWatch
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path
    from typing import Unpack

    from google.protobuf.message import Message

    from etcdpy.client.call import Answer, Call
    from etcdpy.client.keys import Key
    from etcdpy.client.snapshot import Progress

P = ParamSpec("P")
A = TypeVar("A", bound="Message")
T = TypeVar("T")
W = TypeVar("W")


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything; leases live on until their time is over."""
        self._view.core.closed = True
        self._io.close()

    def do(self, call: Call[Answer]) -> Answer:
        """Make a call that a function of `etcdpy.client.op` has made up."""
        return run(self._view.do(call))

    def stream(self, call: Call[Answer]) -> Iterator[Answer]:
        """The answers of a call that streams them; a stream that breaks after the first one is not opened again.

        Raises EtcdError, ClientClosed.
        """
        timeout = self._view.core.settings.timeout if call.timeout is None else call.timeout
        return run_each(streamed(self._view, call.method, call.request, timeout))

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
        work = AsyncWatch(self._view, request, progress=progress)
        run(work.wait_created(self._view.core.settings.timeout if timeout is None else timeout))
        return Watch(work)

    def range_stream(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        timeout: float | None = None,
        **span: Unpack[Span],
    ) -> Iterator[rpc_pb2.RangeResponse]:
        """A range of any size by RangeStream (etcd 3.7): parts of the answer, all at one revision; the last one has
        header and count. Raises EtcdError while it is iterated."""
        return run_each(range_parts(self._view, op.get(key, range_end, timeout=timeout, **span)))

    def pages(
        self, key: Key, range_end: Key = b"", *, size: int = 1000, timeout: float | None = None, **span: Unpack[Span]
    ) -> Iterator[rpc_pb2.RangeResponse]:
        """A range by calls for `size` keys each, all at the revision of the first one, on any release of etcd.

        `timeout` counts for each of them. Raises EtcdError while it is iterated.
        """
        return run_each(pages(self._view, op.get(key, range_end, timeout=timeout, **span), size))

    def snapshot(
        self, path: Path, progress: Progress = lambda _done, _total: None, *, timeout: float | None = None
    ) -> str:
        """Save the whole state of the member that answers in a file that etcdctl and etcdutl understand.

        `progress(done, total)` is told of bytes now and then. Without a timeout it waits as long as it must, also for
        a connection. Returns the version that can read it. Raises EtcdError, SnapshotFailed, OSError; then no
        file is left.
        """
        with receiving(path, progress) as receiver:
            for part in run_each(streamed(self._view, SNAPSHOT, rpc_pb2.SnapshotRequest(), timeout)):
                receiver.add(part)
        return receiver.version

    def lock(self, name: Key, *, ttl: int = 60, lease: Lease | None = None) -> Lock:
        """The lock of that name, with `ttl` seconds until others get it if this process dies; see `Lock`."""
        return Lock(AsyncLock(self._view, name, ttl, lease.work if lease else None))

    def election(self, name: Key, *, ttl: int = 60, lease: Lease | None = None) -> Election:
        """The election of that name; see `Election`."""
        return Election(AsyncElection(self._view, name, ttl, lease.work if lease else None))

    def lease(self, ttl: int, lease_id: int = 0, *, timeout: float | None = None) -> Lease:
        """A lease of `ttl` seconds that is kept alive until it is revoked; as a context manager it ends with it."""
        return Lease(run(AsyncLease.grant(self._view, ttl, lease_id, timeout)))


class _Blocking(Generic[W]):
    """The blocking side of something that is written for both clients."""

    def __init__(self, work: W) -> None:
        self.work = work
        """The same for asyncio, on this client's threads: of no use elsewhere."""


def _seen_through(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[W], P], T]:
    """A method that does that work to its end."""

    def blocking(self: _Blocking[W], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self.work, *args, **kwargs))

    blocking.__name__, blocking.__doc__ = method.__name__, method.__doc__
    return blocking


class Watch(_Blocking[AsyncWatch]):
    """A watcher; see `AsyncWatch`, which has the same methods. One thread reads, any may cancel."""

    next = _seen_through(AsyncWatch.next)
    request_progress = _seen_through(AsyncWatch.request_progress)

    @property
    def header(self) -> rpc_pb2.ResponseHeader:
        """Of the answer that created the watcher: it sees what happens after `header.revision`."""
        return self.work.header

    def __iter__(self) -> Iterator[kv_pb2.Event]:
        try:
            while (answer := self.next()) is not None:
                yield from answer.events
        except (WatchEnded, ClientClosed):
            return

    def cancel(self) -> None:
        """End it; any thread may."""
        self.work.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.cancel()


class Lease(_Blocking[AsyncLease]):
    """A lease that the client keeps alive; see `AsyncLease`, which has the same methods."""

    wait_lost = _seen_through(AsyncLease.wait_lost)
    revoke = _seen_through(AsyncLease.revoke)

    @property
    def id(self) -> int:
        """Its number."""
        return self.work.id

    @property
    def ttl(self) -> int:
        """Seconds that it lives without being kept alive, as the server decided."""
        return self.work.ttl

    @property
    def alive(self) -> bool:
        """Whether it lives for sure: false as soon as the server might have ended it."""
        return self.work.alive

    @property
    def lost(self) -> bool:
        """Whether it has ended against the will of its owner: revoked by somebody, or not renewed in time."""
        return self.work.lost

    def forget(self) -> None:
        """Keep it alive no longer; it ends by itself."""
        self.work.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.revoke()


C = TypeVar("C", AsyncLock, AsyncElection)


class _BlockingClaim(_Blocking[C]):
    @property
    def held(self) -> bool:
        """Whether it is ours for sure: it was reached, and the lease has been renewed in time since."""
        return self.work.held

    @property
    def key(self) -> bytes:
        """The key that stands for us. Raises NotHeld."""
        return self.work.key

    def is_held(self) -> rpc_pb2.Compare:
        """A comparison for a transaction that is to be done only by who holds it then. Raises NotHeld."""
        return self.work.is_held()


class Lock(_BlockingClaim[AsyncLock]):
    """A lock; see `AsyncLock`, which has the same methods."""

    acquire = _seen_through(AsyncLock.acquire)
    try_acquire = _seen_through(AsyncLock.try_acquire)
    release = _seen_through(AsyncLock.release)
    __enter__ = _seen_through(AsyncLock.__aenter__)
    __exit__ = _seen_through(AsyncLock.__aexit__)


class Election(_BlockingClaim[AsyncElection]):
    """An election; see `AsyncElection`, which has the same methods."""

    campaign = _seen_through(AsyncElection.campaign)
    proclaim = _seen_through(AsyncElection.proclaim)
    resign = _seen_through(AsyncElection.resign)
    leader = _seen_through(AsyncElection.leader)

    def observe(self) -> Iterator[kv_pb2.KeyValue]:
        """The leader's key, now and each time that there is another leader or another value. Raises EtcdError."""
        return run_each(self.work.observe())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.resign()
