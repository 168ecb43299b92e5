"""Planted bugs, each a mistake that a parser or a bound has had somewhere: what the harness is for. A function here
breaks one thing in the code under test, through `patch` (pytest's MonkeyPatch), and leaves all else as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import yaml
from google.protobuf.message import DecodeError

from etcdpy import limits, work_limits
from etcdpy.api import checks, kv, maintenance
from etcdpy.apply import plain_put
from etcdpy.interchange import schema
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.peer import codec, questions
from etcdpy.raft import message as raft_message
from etcdpy.server import discovery
from etcdpy.storage import data_dir
from etcdpy.transport import http1, http2, tls_files
from etcdpy.transport.exchange import HttpResponse
from etcdpy.transport.hpackglue import BlockDecoder
from etcdpy.transport.sending import Sender
from etcdpy.transport.tls_options import TlsConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def a_lost_stream_keeps_its_bytes(patch: pytest.MonkeyPatch) -> None:
    def forget(self: Sender, stream: Any) -> None:
        self.streams.pop(stream.id, None)
        self._ready.pop(stream, None)
        self._stalled.pop(stream, None)

    patch.setattr(Sender, "forget", forget)


def padding_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(http2, "_unpad", lambda payload: payload[1 : len(payload) - payload[0]])


def header_lists_have_no_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_limits, "HEADER_LIST_OVERRUN_FACTOR", 1 << 20)
    patch.setattr(limits, "HEADER_BLOCK_BYTES_MAX", 1 << 20)
    patch.setattr(limits, "CONTINUATION_FRAMES_MAX", 1 << 20)
    decode = BlockDecoder._decode

    def slow(self: BlockDecoder, block: bytes) -> Any:
        _spin(len(block) / 1e6)
        return decode(self, block)

    patch.setattr(BlockDecoder, "_decode", slow)


def many_requests_in_a_turn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_limits, "HTTP_EVENTS_PER_TURN", 1 << 30)


def short_lists_of_short_lists(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_limits, "TXN_OPS_TOTAL_FACTOR", 1 << 30)


def alarms_need_a_name(patch: pytest.MonkeyPatch) -> None:
    from etcdpy.proto import rpc_pb2

    patch.setattr(maintenance, "describe_alarm", lambda alarm: rpc_pb2.AlarmType.Name(alarm.alarm))


def what_is_no_put_is_a_bug(patch: pytest.MonkeyPatch) -> None:
    read = plain_put.read_put

    def unchecked(body: bytes) -> Any:
        try:
            return read(body)
        except DecodeError as error:
            raise ValueError("cannot parse") from error

    patch.setattr(kv, "read_put", unchecked)


def the_wrong_error_for_what_is_no_message(patch: pytest.MonkeyPatch) -> None:
    from etcdpy.errors import Code, StatusError

    patch.setattr(checks, "not_a_message", lambda: StatusError(Code.INVALID_ARGUMENT, "bad"))


def tunnels_are_opened(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(http1, "_NO_TUNNEL", HttpResponse(200))


def numbers_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(questions, "_ID_DIGITS_MAX", 1 << 30)


def brackets_inside_brackets(patch: pytest.MonkeyPatch) -> None:
    import json

    for module in (questions, schema):
        patch.setattr(module, "read_json", json.loads)


def sizes_of_frames_are_believed(patch: pytest.MonkeyPatch) -> None:
    def checked(size: int, _limit: int) -> int:
        return len(bytes(min(size, 1 << 28)))

    patch.setattr(codec, "_checked", checked)


def fields_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_limits, "RAFT_MESSAGE_FIELDS_MAX", 1 << 30)


def varints_that_are_cut_off(patch: pytest.MonkeyPatch) -> None:
    number = raft_message._number

    def unguarded(data: bytes, position: int) -> tuple[int, int]:
        try:
            return number(data, position)
        except IndexError as error:
            raise KeyError("cut off") from error

    patch.setattr(raft_message, "_number", unguarded)


def a_damaged_message_is_a_bug(patch: pytest.MonkeyPatch) -> None:
    from etcdpy.peer import handler
    from etcdpy.raft.errors import MalformedMessage

    class Unknown(MalformedMessage):
        pass

    patch.setattr(handler, "MalformedMessage", Unknown)


def any_term_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_limits, "RAFT_TERM_MAX", 1 << 70)


def pages_in_a_circle(patch: pytest.MonkeyPatch) -> None:
    node = BoltFile._node

    def forgetful(self: BoltFile, page: int, seen: bytearray) -> Any:
        return node(self, page, bytearray(len(seen)))

    table = BoltFile._table

    def unchecked(self: BoltFile, node: Any) -> bytes:
        found = table(self, node)
        if len(found) > 60:
            raise IndexError("behind the end")
        return found

    patch.setattr(BoltFile, "_node", forgetful)
    patch.setattr(BoltFile, "_table", unchecked)


def a_format_of_many_lines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(data_dir, "_shown", lambda line: line)


def yaml_is_always_yaml(patch: pytest.MonkeyPatch) -> None:
    class Unknown(yaml.YAMLError):
        pass

    patch.setattr(yaml, "YAMLError", Unknown)


def certificates_are_certificates(patch: pytest.MonkeyPatch) -> None:
    parse = tls_files.parse_certificates

    def hasty(path: str, content: bytes) -> Any:
        try:
            return parse(path, content)
        except TlsConfigError as error:
            raise KeyError(path) from error

    patch.setattr(tls_files, "parse_certificates", hasty)


def a_registry_is_honest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(discovery, "_SIZE_DIGITS_MAX", 1 << 30)


def chunk_sizes_are_numbers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("etcdpy.transport.chunked._HEXADECIMAL", frozenset(range(256)))


def _spin(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


ALL: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    a_lost_stream_keeps_its_bytes: "http2",
    padding_is_believed: "http2",
    header_lists_have_no_end: "http2",
    short_lists_of_short_lists: "grpc",
    alarms_need_a_name: "grpc",
    what_is_no_put_is_a_bug: "grpc",
    the_wrong_error_for_what_is_no_message: "grpc",
    many_requests_in_a_turn: "http1-client",
    tunnels_are_opened: "http1-client",
    numbers_of_any_length: "http1-peer",
    brackets_inside_brackets: "http1-peer",
    a_damaged_message_is_a_bug: "http1-peer",
    any_term_is_believed: "http1-peer",
    sizes_of_frames_are_believed: "peer-streams",
    fields_without_end: "peer-streams",
    varints_that_are_cut_off: "raft-messages",
    pages_in_a_circle: "snapshot-files",
    a_format_of_many_lines: "data-dir",
    yaml_is_always_yaml: "config",
    certificates_are_certificates: "certificates",
    a_registry_is_honest: "discovery",
    chunk_sizes_are_numbers: "chunks",
}
"""Each with the surface that finds it."""
