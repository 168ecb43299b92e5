"""What lies between the proxy's services and the cluster: the namespace, and the order of reads; they wrap
each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from etcdpy.client.call import RANGE, TXN, Answer, Method
from etcdpy.errors import Code, StatusError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from etcdpy.client.namespace import Namespace
    from etcdpy.proxy.upstream import Caller, Upstream


class Asker(Protocol):
    """Answers requests. Raises EtcdError."""

    async def call(self, method: Method[Any, Answer], request: Message, caller: Caller) -> Answer:
        """Make a unary call."""
        ...

    async def encoded(self, method: Method[Any, Any], request: Message, caller: Caller) -> bytes:
        """The same, with the answer's bytes."""
        ...


class Changing:
    """Looks into answers, so it encodes them again."""

    async def call(self, method: Method[Any, Answer], request: Message, caller: Caller) -> Answer:
        """See Asker."""
        raise NotImplementedError

    async def encoded(self, method: Method[Any, Any], request: Message, caller: Caller) -> bytes:
        """See Asker."""
        body: bytes = (await self.call(method, request, caller)).SerializeToString()
        return body


class Namespaced(Changing):
    """Keys get the namespace on their way in and lose it on their way out."""

    def __init__(self, inner: Asker, namespace: Namespace) -> None:
        self._inner = inner
        self._namespace = namespace

    async def call(self, method: Method[Any, Answer], request: Message, caller: Caller) -> Answer:
        """See Asker."""
        return self._namespace.out_of(await self._inner.call(method, self._namespace.into(request), caller))


class Ordered(Changing):
    """--experimental-serializable-ordering: no read shows an older revision than a read before it.

    A member that is behind is passed over for the next one; when all are, and again, the read is refused in the words
    of etcd's client.
    """

    ROUNDS = 5

    def __init__(self, inner: Asker, upstream: Upstream) -> None:
        self._inner = inner
        self._upstream = upstream
        self._revision = 0

    async def call(self, method: Method[Any, Answer], request: Message, caller: Caller) -> Answer:
        """See Asker."""
        if method.path not in (RANGE.path, TXN.path):
            return await self._inner.call(method, request, caller)
        before = self._revision
        for _ in range(self.ROUNDS * len(self._upstream.endpoints)):
            answer = await self._inner.call(method, request, caller)
            revision: int = answer.header.revision  # type: ignore[attr-defined]  # of both methods
            self._revision = max(self._revision, revision)
            # A transaction that wrote must not be made again; what it wrote is newer than all reads before it.
            if revision >= before or method.path == TXN.path:
                return answer
        text = "etcdclient: no cluster members have a revision higher than the previously received revision"
        raise StatusError(Code.UNKNOWN, text)
