"""Hand responses to outboxes: the events of a batch to synced watchers, pieces of history to those behind.

HOT: a batch passes here once for every watcher that it concerns. Watchers of one group with equal options get the same
bytes after their id, and those with the same id the same object: 0.2 us each where every client watches with id 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.limits import WATCH_NOTIFY_COPIED_BYTES_MAX
from etcdpy.mvcc.watch_events import Event, Part, PreviousRecord, build_parts, fragments
from etcdpy.mvcc.watch_groups import FILTERS, FRAGMENTS, PREVIOUS, PROGRESS, Group, Watcher
from etcdpy.mvcc.watch_window import selected

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_ID: Final = -(1 << 64)


class Delivery:
    """The sending side of a hub, and what one call of notify must tell the hub afterwards."""

    __slots__ = (
        "_copied",
        "_fragment_bytes",
        "_outbox_max",
        "_previous_record",
        "arrived",
        "events_total",
        "left_behind",
    )

    def __init__(self, previous_record: PreviousRecord, outbox_bytes_max: int, fragment_bytes: int) -> None:
        self._previous_record = previous_record
        self._outbox_max = outbox_bytes_max
        self._fragment_bytes = fragment_bytes
        self._copied = 0
        self.events_total = 0
        self.left_behind: list[tuple[Watcher, int]] = []
        """Synced watchers whose outbox was full, with the first revision that they did not get."""
        self.arrived: list[Watcher] = []
        """Waiting watchers whose start revision was reached and that have everything of this batch."""

    def to_group(self, group: Group, events: list[Event], header: bytes, revision: int) -> None:
        """Give a group's synced watchers the events of the batch that ends with `revision`."""
        for options, members in group.classes.items():
            if members:
                self._to_class(options, members, events, header)
        for watcher in group.waiting:
            if watcher.start_revision <= revision:
                wanted = [event for event in events if event.packed >> 32 >= watcher.start_revision]
                missed = len(self.left_behind)
                self._to_class(watcher.options, (watcher,), wanted, header)
                if len(self.left_behind) == missed:
                    self.arrived.append(watcher)

    def batch_done(self) -> None:
        """The hub took over `left_behind` and `arrived`."""
        self.left_behind.clear()
        self.arrived.clear()
        self._copied = 0

    def _to_class(
        self, options: int, members: dict[Watcher, None] | tuple[Watcher], events: list[Event], header: bytes
    ) -> None:
        if options & FILTERS:
            events = selected(options, events)
        if not events:
            return
        parts = build_parts(events, self._previous_record if options & PREVIOUS else None)
        if len(parts) == 1 and not options & FRAGMENTS:
            self._fan_out(members, parts[0], header)
        else:
            for watcher in members:
                next_revision = self.send_parts(watcher, header, parts)
                if next_revision:
                    self.left_behind.append((watcher, next_revision))
        if options & PROGRESS:
            for watcher in members:
                watcher.quiet = False

    def _fan_out(self, members: Iterable[Watcher], part: Part, header: bytes) -> None:
        (body,) = part.pieces
        outbox_max = self._outbox_max
        sent = 0
        message = b""
        message_id = _NO_ID
        for watcher in members:
            outbox = watcher.outbox
            if outbox.buffered_bytes > outbox_max or self._copied > WATCH_NOTIFY_COPIED_BYTES_MAX:
                self.left_behind.append((watcher, part.first_main))
                continue
            if watcher.id != message_id:
                message_id = watcher.id
                message = header + watcher.id_field + body
                self._copied += len(message)
            outbox.send(message)
            sent += 1
        self.events_total += sent * len(part.chunks)

    def send_parts(self, watcher: Watcher, header: bytes, parts: list[Part]) -> int:
        """Send responses until the outbox is full. Returns the revision to go on from, 0 when all went."""
        outbox = watcher.outbox
        head = header + watcher.id_field
        for part in parts:
            if outbox.buffered_bytes > self._outbox_max or self._copied > WATCH_NOTIFY_COPIED_BYTES_MAX:
                return part.first_main
            if watcher.options & FRAGMENTS:
                for message in fragments(head, part, self._fragment_bytes):
                    outbox.send(message)
            elif len(part.pieces) == 1:
                outbox.send(head + part.pieces[0])
            else:
                outbox.send_parts([head, *part.pieces])
            self._copied += part.size
            self.events_total += len(part.chunks)
            watcher.quiet = False
        return 0

    @property
    def copied_bytes(self) -> int:
        """Bytes of responses made since `batch_done`."""
        return self._copied
