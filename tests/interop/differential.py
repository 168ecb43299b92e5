"""The same requests to two servers, and every answer, error and watch event compared field by field.

`python -m tests.interop.differential --seed 7 --requests 3000 --endpoints A B` replays a run by hand; both servers
must be empty. The first is the truth. Only what must differ between two clusters is left out: cluster, member, term.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import sys
import time
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import grpc

from etcdpy.proto import rpc_pb2
from tests.interop.auth_generator import NAMES
from tests.interop.generator import Generator, Known, Step
from tests.support.client import CALL_SECONDS_MAX, Client, Refusal, WatchStream, refusal_of
from tests.support.users import FAST_HASHES, As, users

if TYPE_CHECKING:
    from collections.abc import Sequence

_STREAMS: Final = 3
_SORT_FIELDS: Final = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}
_BARRIER_SECONDS_MAX: Final = 20.0
_SETTLE_SECONDS_MAX: Final = 2.0
_MARK_KEY: Final = b"~mark"
_MARK_WATCHER: Final = 9_999
_LOOK_BACK: Final = 60
"""Responses to look through for a mark: more than there are watchers on a stream."""

# Watchers that are there from the first request on: stream, key, range_end, fields.
_STANDING_WATCHERS: Final[list[tuple[int, bytes, bytes, dict[str, Any]]]] = [
    (0, b"\0", b"\0", {"prev_kv": True}),
    (0, b"k/", b"k0", {}),
    (0, b"a", b"", {"prev_kv": True, "filters": [0]}),
    (1, b"\0", b"\0", {"filters": [1]}),
    (1, b"k/2", b"", {}),
    (2, b"a", b"z", {"fragment": True, "prev_kv": True}),
    *((stream, _MARK_KEY, b"", {"watch_id": _MARK_WATCHER}) for stream in range(_STREAMS)),
]


@dataclass
class Difference:
    """What one step answered on the two servers."""

    number: int
    step: Step
    expected: object
    got: object

    def __str__(self) -> str:
        request = str(self.step.request)
        return (
            f"request {self.number}: {self.step.call} (stream {self.step.stream})\n{shorten(request)}\n"
            f"--- first server\n{shorten(self.expected)}\n--- second server\n{shorten(self.got)}"
        )


def shorten(value: object, characters_max: int = 3000) -> str:
    text = str(value)
    return text if len(text) <= characters_max else f"{text[:characters_max]}... ({len(text)} characters)"


@dataclass
class Report:
    """What a run did and where the two servers parted."""

    seed: int
    requests: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    """How often each call ended with OK or with which error; shows that a run reached what it should."""
    events: int = 0
    differences: list[Difference] = field(default_factory=list)

    def replay(self, endpoints: str = "A B") -> str:
        """The shortest command that shows the first difference."""
        first = min((difference.number for difference in self.differences), default=self.requests)
        return f"python -m tests.interop.differential --seed {self.seed} --requests {first + 1} --endpoints {endpoints}"

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.requests} requests, {self.events} watch events"]
        lines += [str(difference) for difference in self.differences[:5]]
        if self.differences:
            lines.append(f"{len(self.differences)} differences; replay: {self.replay()}")
        return "\n".join(lines)


# --- taking out what must differ, and what the servers are free in ---


def without_identity(message: Any) -> Any:
    """The message without cluster, member and term in its header."""
    if message.DESCRIPTOR.fields_by_name.get("header") and message.HasField("header"):
        message.header.cluster_id = message.header.member_id = message.header.raft_term = 0
    return message


def settled_range(request: rpc_pb2.RangeRequest, answer: rpc_pb2.RangeResponse) -> None:
    """Put pairs that sort as equal in the order of their keys.

    etcd's sort is not stable, so among equals any order is right; where the limit cut through equals, any of them may
    have stayed, and only their number is kept.
    """
    name = _SORT_FIELDS.get(request.sort_target)
    if name is None:
        return
    pairs = list(answer.kvs)
    if name == "value" and request.keys_only:
        groups = [pairs]  # sorted by what is not shown
    else:
        groups = [list(group) for _, group in groupby(pairs, key=lambda pair: getattr(pair, name))]
    del answer.kvs[:]
    for index, group in enumerate(groups):
        group.sort(key=lambda pair: pair.key)
        if answer.more and index == len(groups) - 1:
            for pair in group:
                for hidden in ("key", "create_revision", "mod_revision", "version", "value", "lease"):
                    if hidden != name:
                        pair.ClearField(hidden)
        answer.kvs.extend(group)


def settled_txn(request: rpc_pb2.TxnRequest, answer: rpc_pb2.TxnResponse) -> None:
    """`settled_range` for every range in a transaction."""
    operations = request.success if answer.succeeded else request.failure
    for operation, result in zip(operations, answer.responses, strict=True):
        if operation.HasField("request_range"):
            settled_range(operation.request_range, result.response_range)
        elif operation.HasField("request_txn"):
            settled_txn(operation.request_txn, result.response_txn)


def settled(step: Step, answer: Any) -> Any:
    """An answer as it is compared."""
    if isinstance(answer, Refusal):
        return answer
    if isinstance(answer, list):
        if step.call == "RangeStream":  # how it is cut into chunks is the server's business; test_kv looks at that
            whole = rpc_pb2.RangeResponse()
            for chunk in answer:
                whole.MergeFrom(chunk)
            answer = [whole]
        return [without_identity(part) for part in answer]
    without_identity(answer)
    if step.call == "Range":
        settled_range(step.request, answer)
    elif step.call == "Txn":
        settled_txn(step.request, answer)
    elif step.call == "LeaseTimeToLive":
        answer.keys.sort()  # etcd keeps them in a map
        if 0 < answer.TTL <= answer.grantedTTL:
            answer.TTL = 1  # the seconds that are left
    elif step.call == "Authenticate":
        answer.token = "a token" if answer.token else ""
    elif step.call == "LeaseLeases":
        answer.leases.sort(key=lambda lease: lease.ID)
    return answer


# --- one server ---


class Side:
    """One of the two servers: its client, its watch streams."""

    def __init__(self, endpoint: str, *, users: bool = False) -> None:
        self.endpoint = endpoint
        self.client = Client(endpoint)
        self.tokens: dict[str, str] = {}
        if users:
            found = switched_on(self.client, NAMES)
            self.tokens = {name: who.token for name, who in found.items()}
        self.streams = [self.client.watching(self._metadata("root")) for _ in range(_STREAMS)]

    def _metadata(self, who: str) -> tuple[tuple[str, str], ...]:
        if not self.tokens or not who:
            return ()
        return (("token", self.tokens.get(who, who)),)

    def begin(self, step: Step) -> Any:
        """Send a unary request; `finish` waits for the answer. Streams are read whole at once."""
        client, metadata = self.client, self._metadata(step.who)
        if step.call == "RangeStream":
            try:
                chunks = client.kv.RangeStream(step.request, timeout=CALL_SECONDS_MAX, metadata=metadata)
                return [chunk.range_response for chunk in chunks]
            except grpc.RpcError as error:
                return refusal_of(error)
        if step.call == "LeaseKeepAlive":
            try:
                requests = iter([step.request])
                return list(client.lease.LeaseKeepAlive(requests, timeout=CALL_SECONDS_MAX, metadata=metadata))
            except grpc.RpcError as error:
                return refusal_of(error)
        service = next(
            service
            for service in (client.kv, client.lease, client.maintenance, client.auth)
            if hasattr(service, step.call)
        )
        return getattr(service, step.call).future(step.request, timeout=CALL_SECONDS_MAX, metadata=metadata)

    @staticmethod
    def finish(begun: Any) -> Any:
        if isinstance(begun, list | Refusal):
            return begun
        try:
            return begun.result()
        except grpc.RpcError as error:
            return refusal_of(error)

    def watch(self, step: Step) -> None:
        stream = self.streams[step.stream]
        if step.call == "WatchCreate":
            stream.send(rpc_pb2.WatchRequest(create_request=step.request))
        else:
            stream.send(rpc_pb2.WatchRequest(cancel_request=step.request))

    def behind(self) -> bool:
        """Whether a watcher has not been sent everything that it starts from."""
        return self.member_metric("etcd_debugging_mvcc_slow_watcher_total") > 0

    def member_metric(self, name: str) -> float:
        """One unlabelled sample of /metrics."""
        with contextlib.closing(http.client.HTTPConnection(self.endpoint, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            for line in connection.getresponse().read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise AssertionError(f"{self.endpoint} has no metric {name}")

    def wait_mark(self, revision: int) -> None:
        """Wait until each stream has been sent the mark of that revision, and so all before it."""
        deadline = time.monotonic() + _BARRIER_SECONDS_MAX
        for number, stream in enumerate(self.streams):
            while not (
                stream.responses
                and any(
                    response.watch_id == _MARK_WATCHER and response.header.revision >= revision
                    for response in stream.responses[-_LOOK_BACK:]
                )
            ):
                assert time.monotonic() < deadline, f"stream {number} was not sent revision {revision}; {stream.ended}"
                time.sleep(0.0005)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.client.close()


def created(stream: WatchStream, count: int) -> None:
    """Wait until the stream has answered that many creations."""
    deadline = time.monotonic() + _BARRIER_SECONDS_MAX
    while sum(response.created for response in stream.responses) < count:
        assert time.monotonic() < deadline, f"a watcher was not created; {stream.ended}"
        time.sleep(0.0005)


# --- watch streams ---


def history(stream: WatchStream) -> dict[int, list[Any]]:
    """Per watcher: its life as seen by the client: creation, each event, cancellation.

    How events are packed into responses is the server's business (a watcher that catches up gets many at once); that
    no revision is split, unless into fragments, and that they come in order is checked here.
    """
    lives: dict[int, list[Any]] = {}
    last_revision: dict[int, int] = {}
    fragment_open: set[int] = set()
    for response in stream.responses:
        watcher = response.watch_id
        if watcher == -1 and not response.created:
            continue  # progress
        life = lives.setdefault(watcher, [])
        if response.created:
            life.append(("created", response.canceled, response.cancel_reason, response.header.revision))
            last_revision.pop(watcher, None)
        elif response.canceled:
            life.append(("canceled", response.compact_revision, response.cancel_reason))
        for index, event in enumerate(response.events):
            if event.kv.key == _MARK_KEY:
                continue  # the last one may or may not have come by the time of the comparison
            previous = last_revision.get(watcher, 0)
            revision = event.kv.mod_revision
            in_order = revision >= previous if index or watcher in fragment_open else revision > previous
            assert in_order, f"watcher {watcher}: revision {revision} after {previous}"
            last_revision[watcher] = revision
            life.append(event)
        (fragment_open.add if response.fragment else fragment_open.discard)(watcher)
    return lives


# --- the run ---


class Run:
    """One seed on two servers."""

    def __init__(self, seed: int, first: str, second: str, *, users: bool = False) -> None:
        self.report = Report(seed)
        self.known = Known(streams=_STREAMS)
        self.generator = Generator(seed, self.known, users=users)
        self.sides = (Side(first, users=users), Side(second, users=users))

    def go(self, requests: int, differences_max: int = 20) -> Report:
        """Send that many requests, then compare the watch streams."""
        try:
            for stream, key, range_end, fields in _STANDING_WATCHERS:
                create = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, **fields)
                self._one(Step("WatchCreate", create, stream))
            while self.report.requests < requests and len(self.report.differences) < differences_max:
                for step in self.generator.next():
                    self._one(step)
            self._compare_watches()
        finally:
            for side in self.sides:
                side.close()
        return self.report

    def _one(self, step: Step) -> None:
        if step.call in ("WatchCreate", "WatchCancel"):
            self._watch(step)
            return
        if step.call == "Compact":
            # What a watcher that lags is still told after a compaction is a matter of timing, on etcd too.
            self._barrier()
        begun = [side.begin(step) for side in self.sides]
        expected, got = (settled(step, side.finish(one)) for side, one in zip(self.sides, begun, strict=True))
        if expected != got:
            self.report.differences.append(Difference(self.report.requests, step, expected, got))
        self._learn(step, expected)
        self.report.requests += 1

    def _learn(self, step: Step, answer: Any) -> None:
        name = f"{step.call} {answer.code}: {answer.text}" if isinstance(answer, Refusal) else f"{step.call} OK"
        self.report.answers[name] = self.report.answers.get(name, 0) + 1
        header = getattr(answer, "header", None)
        if header is not None:
            self.known.revision = max(self.known.revision, header.revision)
        if step.call == "Compact" and not isinstance(answer, Refusal):
            self.known.compacted = step.request.revision
            if not step.request.physical:
                time.sleep(0.2)  # until the scan is through, HashKV at this revision may answer either way

    def _watch(self, step: Step) -> None:
        if step.call == "WatchCreate":
            asked = self.known.watchers.get(step.stream, 0) + 1
            self.known.watchers[step.stream] = asked
        else:
            # Which events still come before the answer to a cancellation is a matter of timing, on etcd too.
            self._barrier()
        for side in self.sides:
            side.watch(step)
        if step.call == "WatchCreate":
            for side in self.sides:
                created(side.streams[step.stream], asked)
        else:
            self._barrier()

    def _barrier(self) -> None:
        """Wait until every watcher has everything so far.

        Progress requests would not do: etcd leaves them unanswered while a watcher of the stream waits for a future
        revision, or was ended by a compaction.
        """
        deadline = time.monotonic() + _BARRIER_SECONDS_MAX
        for side in self.sides:
            while side.behind():
                assert time.monotonic() < deadline, f"a watcher of {side.endpoint} does not catch up"
                time.sleep(0.01)
        self._one(Step("Put", rpc_pb2.PutRequest(key=_MARK_KEY)))
        for side in self.sides:
            side.wait_mark(self.known.revision)

    def _compare_watches(self) -> None:
        self._barrier()
        for number in range(_STREAMS):
            expected, got = (history(side.streams[number]) for side in self.sides)
            # The mark came to its own watcher; the last responses of the stream's others may be a moment behind it.
            patience = time.monotonic() + _SETTLE_SECONDS_MAX
            while expected != got and time.monotonic() < patience:
                time.sleep(0.02)
                expected, got = (history(side.streams[number]) for side in self.sides)
            self.report.events += sum(len(life) for life in expected.values())
            for watcher in sorted(expected.keys() | got.keys()):
                self._compare_lives(number, watcher, expected.get(watcher, []), got.get(watcher, []))

    def _compare_lives(self, stream: int, watcher: int, expected: list[Any], got: list[Any]) -> None:
        if expected == got:
            return
        at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
        if at is None:
            at = min(len(expected), len(got))
        step = Step(f"watcher {watcher}, entry {at} of {len(expected)} and {len(got)}", "", stream)
        difference = Difference(self.report.requests - 1, step, expected[at : at + 2], got[at : at + 2])
        self.report.differences.append(difference)


def run(seed: int, requests: int, first: str, second: str, *, users: bool = False) -> Report:
    """Compare the two servers at these endpoints; both must be empty. `users`: with users switched on."""
    return Run(seed, first, second, users=users).go(requests)


def switched_on(client: Client, names: Sequence[str]) -> dict[str, As]:
    """Root, and users with a role of their own; all logged in."""
    found = users(client, names)
    return {"root": found["root"], **{name: found["nobody"].log_in(name, name) for name in names}}


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 where the servers differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--endpoints", nargs=2, metavar=("ETCD", "OTHER"), help="host:port of two empty servers")
    parser.add_argument("--start", nargs=2, metavar="KIND", help="start both instead: etcd or etcdpy")
    parser.add_argument("--users", action="store_true", help="with users switched on")
    parser.add_argument("--answers", action="store_true", help="print how often each answer came")
    options = parser.parse_args(arguments)
    if bool(options.endpoints) == bool(options.start):
        parser.error("give either --endpoints or --start")
    if options.endpoints:
        report = run(options.seed, options.requests, *options.endpoints, users=options.users)
    else:
        report = run_started(options.seed, options.requests, *options.start, users=options.users)
    print(report)
    if options.answers:
        for name, count in sorted(report.answers.items(), key=lambda item: -item[1]):
            print(f"{count:6} {name}")
    return 1 if report.differences else 0


def run_started(seed: int, requests: int, first: Any, second: Any, *, users: bool = False) -> Report:
    """`run` on two servers started for it."""
    import tempfile
    from pathlib import Path

    from tests.support.members import Member

    with tempfile.TemporaryDirectory() as directory:
        one, other = (
            Member(kind, Path(directory, name), flags=[FAST_HASHES]) for kind, name in ((first, "1"), (second, "2"))
        )
        with one, other:
            return run(seed, requests, one.endpoint, other.endpoint, users=users)


if __name__ == "__main__":
    sys.exit(main())
