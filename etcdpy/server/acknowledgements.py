"""Fewer acknowledgements: what a later one includes need not be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto.raft_pb2 import MsgAppResp

if TYPE_CHECKING:
    from etcdpy.raft.message import Message


def newest_answers(messages: list[Message]) -> list[Message]:
    """Without acknowledgements that a later one includes: a turn that stored ten messages needs one answer."""
    if len(messages) == 1:
        return messages
    kept: list[Message] = []
    for message in messages:
        last = kept[-1] if kept else message
        both = message.type == last.type == MsgAppResp and (message.to, message.term) == (last.to, last.term)
        newer = message.index >= last.index  # an answer to a late message says less
        if both and newer and last is not message and not message.reject and not last.reject:
            kept.pop()
        kept.append(message)
    return kept
