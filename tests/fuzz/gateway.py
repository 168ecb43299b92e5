"""The JSON API's requests: JSON that is damaged, odd or nonsense, in pieces, into the messages of every call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message_factory import GetMessageClass

from etcdpy.gateway.from_json import from_json_steps
from etcdpy.gateway.gateway import routes
from etcdpy.gateway.scanner import JsonError, Scanner
from etcdpy.gateway.to_json import to_json
from tests.fuzz.damage import cut, mutate
from tests.fuzz.harness import STALL_SECONDS, Watch, Wrong

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

_METHODS: Final = sorted(routes().items())
_ODD: Final[tuple[Any, ...]] = (
    0, -1, 2**63, 1e300, 0.5, True, None, "", "Zm9v", "Z", "-_-_", "\ud800", "18446744073709551616", "1e5", " 1", [],
    {}, [None], {"a": [{}]}, "NONE", "nope", "\u2028<&>", "x" * 5000,
)  # fmt: skip


class Json:
    """What any client may put into a body."""

    name = "gateway-json"
    stall_seconds = STALL_SECONDS
    inputs = 10

    def play(self, draw: Random, watch: Watch) -> None:
        for _ in range(self.inputs):
            _path, method = draw.choice(_METHODS)
            body = json.dumps(_request(draw, method.input_type, 3), ensure_ascii=draw.random() < 0.5)
            data = body.encode("utf-8", "surrogatepass")
            if draw.random() < 0.1:
                data = draw.choice((b"[", b'{"a":', b'"', b"1", b"[],")) * draw.randrange(1, 20_000)
            if draw.random() < 0.7:
                data = mutate(draw, data)
            watch.inputs += 1
            _feed(draw, watch, data, method.input_type)


def _request(draw: Random, descriptor: Any, depth: int) -> Any:
    """An object with fields of that message, right or not."""
    values: dict[str, Any] = {}
    for field in descriptor.fields:
        if draw.random() < 0.4:
            continue
        name = draw.choice((field.name, field.json_name))
        inner: Any = draw.choice(_ODD)
        if field.message_type is not None and depth and draw.random() < 0.9:
            inner = _request(draw, field.message_type, depth - 1)
        values[name] = [inner] * draw.randrange(4) if field.is_repeated and draw.random() < 0.9 else inner
    if draw.random() < 0.2:
        values[draw.choice(("nope", "[x]", "@type", "\ud800", ""))] = draw.choice(_ODD)
    return values


def _feed(draw: Random, watch: Watch, data: bytes, descriptor: Any) -> None:
    scanner = Scanner()
    try:
        for piece in cut(draw, data):
            scanner.feed(piece)
            while _in_turns(watch, scanner.steps()):
                _read(watch, scanner.take(), descriptor)
        scanner.ended = True
        while _in_turns(watch, scanner.steps()):
            _read(watch, scanner.take(), descriptor)
    except JsonError:
        pass


def _read(watch: Watch, value: bytes, descriptor: Any) -> None:
    """What is taken for a message can be written and read again."""
    message = GetMessageClass(descriptor)()
    _in_turns(watch, from_json_steps(value, message))
    again = GetMessageClass(descriptor)()
    for _ in from_json_steps(to_json(message).encode(), again):
        pass
    if again != message:
        raise Wrong(f"{descriptor.full_name} changes on its way through JSON")


def _in_turns(watch: Watch, steps: Generator[None, None, Any]) -> Any:
    while True:
        with watch.turn():
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value
