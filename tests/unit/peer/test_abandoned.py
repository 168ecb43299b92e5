"""A stream that is lost after its reader was stopped."""

from __future__ import annotations

import asyncio
import gc

from etcdpy.peer.reader import StreamConnection


def test_a_stream_lost_after_its_reader_was_stopped_is_no_error() -> None:
    """A normal stop logs none: asyncio complains of a failure that nobody took."""
    complaints: list[str] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        stream = StreamConnection(b"GET", lambda _: None, 5.0)
        stream.connection_lost(BrokenPipeError(32, "Broken pipe"))
        del stream
        gc.collect()

    asyncio.run(body())
    assert complaints == []
