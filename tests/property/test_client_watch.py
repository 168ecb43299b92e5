"""A watcher's state machine against a server that breaks off anywhere: each revision once, whole, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.client.watch_state import WatchState
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

REVISIONS_MAX = 12

histories = st.lists(st.integers(0, 3), max_size=REVISIONS_MAX)
"""How many events of the watched range each revision has; revisions begin with 2, as in a new store."""


class Server:
    """What one watcher of a history of events is sent."""

    def __init__(self, history: list[int], draw: st.DataObject) -> None:
        self.history = history
        self.draw = draw
        self.now = 1

    def events(self, revision: int) -> list[tuple[int, int]]:
        return [(revision, number) for number in range(self.history[revision - 2])]

    def stream(self, request: rpc_pb2.WatchCreateRequest) -> Iterator[rpc_pb2.WatchResponse]:
        header = rpc_pb2.ResponseHeader(revision=self.now)
        yield rpc_pb2.WatchResponse(header=header, created=True)
        position = max(2, request.start_revision or self.now + 1)
        while True:
            self.now = self.draw.draw(st.integers(self.now, len(self.history) + 1), "the store's revision")
            header = rpc_pb2.ResponseHeader(revision=self.now)
            upto = self.draw.draw(st.integers(position, max(position, self.now + 1)), "sent up to")
            found = [event for revision in range(position, upto) for event in self.events(revision)]
            position = max(position, upto)
            yield from self.answers(header, found)
            if position > self.now and self.draw.draw(st.booleans(), "progress"):
                yield rpc_pb2.WatchResponse(header=header, watch_id=-1)

    def answers(self, header: rpc_pb2.ResponseHeader, found: list[tuple[int, int]]) -> Iterator[rpc_pb2.WatchResponse]:
        while found:
            size = self.draw.draw(st.integers(1, len(found)), "events in a part")
            part, found = found[:size], found[size:]
            yield rpc_pb2.WatchResponse(
                header=header,
                fragment=bool(found),
                events=[
                    kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"%d" % number, mod_revision=revision))
                    for revision, number in part
                ],
            )


def told(answer: rpc_pb2.WatchResponse) -> list[tuple[int, int]]:
    return [(event.kv.mod_revision, int(event.kv.key)) for event in answer.events]


@given(history=histories, start=st.integers(0, REVISIONS_MAX), data=st.data())
def test_each_event_is_passed_on_once_and_in_order(history: list[int], start: int, data: st.DataObject) -> None:
    server = Server(history, data)
    server.now = data.draw(st.integers(1, len(history) + 1), "the revision at the beginning")
    state = WatchState(rpc_pb2.WatchCreateRequest(key=b"k", start_revision=start))
    first = start or None
    passed_on: list[tuple[int, int]] = []
    for _ in range(4):
        for answer in server.stream(state.create_request().create_request):
            if answer.created and first is None:
                first = answer.header.revision + 1
            whole = state.received(answer)
            if whole is not None:
                passed_on += told(whole)
            # Of a revision there are all events or none, whenever one looks.
            reached = state.next_revision
            assert first is not None
            upto = min(reached, len(history) + 2)
            assert passed_on == [event for revision in range(max(first, 2), upto) for event in server.events(revision)]
            if data.draw(st.booleans(), "the stream breaks") or server.now > len(history):
                break
        state.disconnected()
