"""The blocking client. Threads may share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from etcdpy.client import leasing, ranges, watching
from etcdpy.client.balancer import Balancer
from etcdpy.client.blocking import Blocking, BlockingIo, seen_through
from etcdpy.client.call import SNAPSHOT
from etcdpy.client.core import Core, View, run, run_each
from etcdpy.client.failures import ClientClosed
from etcdpy.client.following import WatchEnded
from etcdpy.client.handle import (
    DEFAULT_ENDPOINT,
    Handle,
    Options,
    settings_of,
)
from etcdpy.client.leasing import AsyncLease
from etcdpy.client.watching import AsyncWatch
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
    from pathlib import Path
    from typing import Unpack

    from google.protobuf.message import Message

    from etcdpy.client.call import Answer, Call
    from etcdpy.client.claims import Election, Lock
    from etcdpy.client.keys import Key
    from etcdpy.client.snapshot import Progress

P = ParamSpec("P")
A = TypeVar("A", bound="Message")
T = TypeVar("T")
W = TypeVar("W")


def _opened(
    open_: Callable[Concatenate[View, P], Coroutine[Any, Any, W]], wrap: Callable[[W], T]
) -> Callable[Concatenate[Client, P], T]:
    """A method that opens something, and waits until it is open."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return wrap(run(open_(self._view, *args, **kwargs)))

    method.__name__, method.__doc__ = open_.__name__, open_.__doc__
    return method


def _each(
    parts: Callable[Concatenate[View, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """A method that gives one part of an answer after the other."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return run_each(parts(self._view, *args, **kwargs))

    method.__name__, method.__doc__ = parts.__name__, parts.__doc__
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
        return run_each(ranges.streamed(self._view, call.method, call.request, timeout))

    watch = _opened(watching.watch, lambda work: Watch(work))
    lease = _opened(leasing.lease, lambda work: Lease(work))
    range_stream = _each(ranges.range_stream)
    pages = _each(ranges.pages)

    def snapshot(
        self, path: Path, progress: Progress = lambda _done, _total: None, *, timeout: float | None = None
    ) -> str:
        """Save the whole state of the member that answers in a file that etcdctl and etcdutl understand.

        `progress(done, total)` is told of bytes now and then. Without a timeout it waits as long as it must, also for
        a connection. Returns the version that can read it. Raises EtcdError, SnapshotFailed, OSError; then no
        file is left.
        """
        from etcdpy.client.snapshot import receiving

        with receiving(path, progress) as receiver:
            for part in run_each(ranges.streamed(self._view, SNAPSHOT, rpc_pb2.SnapshotRequest(), timeout)):
                receiver.add(part)
        return receiver.version

    def lock(self, name: Key, *, ttl: int = 60, lease: Lease | None = None) -> Lock:
        """The lock of that name, with `ttl` seconds until others get it if this process dies; see `Lock`."""
        from etcdpy.client.claims import Lock  # not every program that starts with a client needs locks
        from etcdpy.client.recipes import AsyncLock

        return Lock(AsyncLock(self._view, name, ttl, lease.work if lease else None))

    def election(self, name: Key, *, ttl: int = 60, lease: Lease | None = None) -> Election:
        """The election of that name; see `Election`."""
        from etcdpy.client.claims import Election
        from etcdpy.client.recipes import AsyncElection

        return Election(AsyncElection(self._view, name, ttl, lease.work if lease else None))


class Watch(Blocking[AsyncWatch]):
    """A watcher; see `AsyncWatch`, which has the same methods. One thread reads, any may cancel."""

    next = seen_through(AsyncWatch.next)
    request_progress = seen_through(AsyncWatch.request_progress)

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


class Lease(Blocking[AsyncLease]):
    """A lease that the client keeps alive; see `AsyncLease`, which has the same methods."""

    wait_lost = seen_through(AsyncLease.wait_lost)
    revoke = seen_through(AsyncLease.revoke)

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
