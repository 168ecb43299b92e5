"""One endpoint's channel, and what is called on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.client.call import Method
    from etcdpy.client.core import Settings

C = TypeVar("C")


class Endpoint(Generic[C]):
    """A channel of either kind that is opened by its first use, and the callables of its methods, made once each."""

    def __init__(self, name: str, settings: Settings, open_: Callable[..., C]) -> None:
        self._name = name
        self._settings = settings
        self._open = open_
        self._opening = threading.Lock()
        self._unary: dict[str, Any] = {}
        self.opened: C | None = None

    @property
    def channel(self) -> Any:
        """The channel. Raises OSError for a TLS file that cannot be read."""
        if self.opened is None:
            with self._opening:
                if self.opened is None:
                    settings = self._settings
                    self.opened = self._open(self._name, settings.tls, settings.channel_options())
        return self.opened

    def unary(self, method: Method[Any, Any]) -> Any:
        """What makes a unary call."""
        made = self._unary.get(method.path)
        if made is None:
            made = self._unary[method.path] = self.channel.unary_unary(
                method.path, method.request.SerializeToString, method.answer.FromString
            )
        return made

    def streaming(self, method: Method[Any, Any]) -> Any:
        """What opens a stream. On the wire a single request is a stream of one."""
        return self.channel.stream_stream(method.path, method.request.SerializeToString, method.answer.FromString)
