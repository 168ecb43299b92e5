"""The wire between members: raft messages in their wire form, lost, delayed, doubled and overtaken as a seed says.

Nothing is promised, not even what TCP would: the protocol has to live with less than it gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.proto import raft_pb2
from etcdpy.raft.message import decode_message, encode_message, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from etcdpy.raft.message import Message
    from tests.simulation.clock import Time


@dataclass
class Weather:
    """How bad the wire is. Probabilities are per message, delays in seconds."""

    loss: float = 0.0
    doubled: float = 0.0
    delay: float = 0.005
    late: float = 0.0
    """How many messages take up to `late_delay` instead of about `delay`."""
    late_delay: float = 1.0
    told: float = 0.0
    """How often the sender learns of a loss."""


class Network:
    """`deliver(message, attachment)` and `lost(message)` are the cluster's."""

    def __init__(
        self,
        time: Time,
        draw: Random,
        deliver: Callable[[Message, Any], None],
        lost: Callable[[Message], None],
        trace: Callable[[str], None],
    ) -> None:
        self._time = time
        self._draw = draw
        self._deliver = deliver
        self._lost = lost
        self._trace = trace
        self.weather = Weather()
        self.cuts: set[tuple[int, int]] = set()
        """(from, to) pairs that nothing passes."""
        self.sent = 0

    def heal(self) -> None:
        self.cuts.clear()
        self.weather = Weather()

    def isolate(self, members: set[int], others: set[int], *, one_way: bool) -> None:
        """Cut what goes from `members` to `others`, and unless `one_way` what comes back."""
        for member in members:
            for other in others - members:
                self.cuts.add((member, other))
                if not one_way:
                    self.cuts.add((other, member))

    def send(self, message: Message, attachment: object = None) -> None:
        self.sent += 1
        weather, draw = self.weather, self._draw
        if (message.from_, message.to) in self.cuts or draw.random() < weather.loss:
            if draw.random() < weather.told or attachment is not None:
                self._time.after(0.01, self._lost, message)
            return
        wire = b"".join(encode_message(message))
        # A proposal that is passed on must not come twice: raft cannot tell, and TCP sees to it.
        once = attachment is not None or message.type == raft_pb2.MsgProp
        for _ in range(2 if not once and draw.random() < weather.doubled else 1):
            delay = draw.random() * (weather.late_delay if draw.random() < weather.late else 2 * weather.delay)
            self._time.after(delay, self._arrive, wire, attachment)

    def _arrive(self, wire: bytes, attachment: object) -> None:
        message = decode_message(wire)
        if (message.from_, message.to) in self.cuts:
            if attachment is not None:
                self._lost(message)
            return
        self._trace(
            f"{message.from_}->{message.to} {type_name(message.type)} t{message.term} i{message.index} "
            f"e{len(message.entries)} c{message.commit}{' no' if message.reject else ''}"
        )
        self._deliver(message, attachment)
