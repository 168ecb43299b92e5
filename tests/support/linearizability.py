"""Whether a history of calls could have come from one server that does one thing at a time.

The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993): take some call that may be the next
one, see whether a model gives the same response, go on; go back where it does not. Lowe ("Testing for Linearizability",
2017) added that a set of calls that was taken before with the same state need not be looked at again, and that keys
which no call touches together can be checked apart.

Three things of our own keep histories with timeouts short to check. None of them loses an order that is valid:

  - A call that changes nothing and fits is taken at once, without trying anything else in its place: whatever can
    follow without it can follow with it.
  - A call of unknown outcome is taken only where it matters. If the call behind it fits as well without it, and leaves
    the same state without it or with it behind, that order need not be tried.
  - Of several calls of unknown outcome with the same request, the oldest is taken first.

What is known not to have happened (a refusal) does not belong into a history. A call whose outcome is unknown (a
timeout, a lost connection) has `returned` None: it may happen at any time from `called` on, or never.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response")
State = TypeVar("State", bound="Hashable")

STEPS_MAX: Final = 5_000_000
"""Steps of the model before the search gives up: some 10 s."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its client saw it. Times are of one clock; where two are equal the calls count as concurrent."""

    client: Hashable
    request: Any
    called: float
    returned: float | None = None
    response: Any = None


class Model(Protocol[State, Request, Response]):
    """What one server would do. States and requests are hashable values."""

    def initial(self) -> State:
        """Before the first call."""
        ...

    def step(self, state: State, request: Request) -> tuple[State, Response]:
        """The state after the request, and its response."""
        ...

    def is_past(self, state: State, request: Request, response: Response) -> bool:
        """Whether this response can come no more, whatever happens from this state on. False is always safe."""
        ...

    def keys(self, request: Request) -> Iterable[Hashable]:
        """What the request touches. Calls without a common key, directly or by way of others, are checked apart."""
        ...


class UndecidedError(Exception):
    """The search was given up; the history is neither good nor bad."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A history that no order explains. `prefix` is the longest order that was found, `stuck` the call that returned
    first among those which then did not fit."""

    calls: Sequence[Call]
    prefix: Sequence[Call]
    state: object
    stuck: Call

    def __str__(self) -> str:
        lines = [f"not linearizable: {len(self.prefix)} of {len(self.calls)} calls fit, among them at the end"]
        lines += [f"  {call}" for call in self.prefix[-5:]]
        return "\n".join([*lines, f"and the state {self.state!r} does not explain", f"  {self.stuck}"])


def check(history: Iterable[Call], model: Model[Any, Any, Any], *, steps_max: int = STEPS_MAX) -> Violation | None:
    """None when some order explains the history. Raises UndecidedError after `steps_max` steps of the model."""
    for calls in partitions(history, model):
        search = _Search(calls, model, steps_max)
        if not search.run():
            return search.violation()
        steps_max -= search.steps
    return None


def partitions(history: Iterable[Call], model: Model[Any, Any, Any]) -> list[list[Call]]:
    """The calls in groups that share no key, in the order of the calls."""
    parent: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    calls = sorted(history, key=lambda call: call.called)
    first: list[Hashable] = []
    for call in calls:
        keys = list(model.keys(call.request))
        first.append(keys[0] if keys else None)
        for other in keys[1:]:
            parent[root(other)] = root(keys[0])
    groups: dict[Hashable, list[Call]] = defaultdict(list)
    for call, key in zip(calls, first, strict=True):
        groups[root(key)].append(call)
    return list(groups.values())


class _Event:
    """The start or the end of a call with a known outcome, in a list that calls are taken out of and put back into."""

    __slots__ = ("after", "before", "bit", "call", "end", "time")

    def __init__(self, call: Call, time: float, bit: int, end: _Event | None) -> None:
        self.call = call
        self.time = time
        self.bit = bit
        self.end = end
        """Where the call ends, when this is its start."""
        self.before: _Event | None = None
        self.after: _Event | None = None


_START: Final = Call("", None, 0.0)


class _Taken(NamedTuple):
    """A call that is taken as the next one."""

    call: Call
    bit: int
    start: _Event | None
    """None when the outcome is unknown."""
    after: Any
    """The state after it."""


class _Node(NamedTuple):
    """A place in the search: what was taken to come here, and what else may be tried from here."""

    step: _Taken
    taken: int
    """Bits of all calls taken."""
    unknown_from: Any
    """The state before the step when its outcome is unknown, otherwise _KNOWN."""
    options: Iterator[_Taken]


_KNOWN: Final = "known"


class _Search:
    def __init__(self, calls: list[Call], model: Model[Any, Any, Any], steps_max: int) -> None:
        self.calls = calls
        self.model = model
        self.steps = 0
        self.steps_max = steps_max
        self.head = _Event(_START, float("-inf"), 0, None)
        self.unknown = [(call, 1 << bit) for bit, call in enumerate(calls) if call.returned is None]
        self.waiting = len(calls) - len(self.unknown)
        """Calls of known outcome that are not taken."""
        self.seen: set[Any] = set()
        self.stack: list[_Node] = []
        self.best: list[Call] = []
        self.best_state: Any = model.initial()
        self.stuck: Call | None = None
        self._link()

    def _link(self) -> None:
        events = []
        for bit, call in enumerate(self.calls):
            if call.returned is not None:
                assert call.returned >= call.called, f"a call ends before it begins: {call}"
                end = _Event(call, call.returned, 1 << bit, None)
                events += [_Event(call, call.called, 1 << bit, end), end]
        # At the same time starts come first: calls that touch count as concurrent, which is the weaker claim.
        events.sort(key=lambda event: (event.time, event.end is None))
        last = self.head
        for event in events:
            last.after, event.before = event, last
            last = event

    # --- the search ---

    def run(self) -> bool:
        """Whether there is an order. A depth-first walk with its stack in hand, since histories are long."""
        self._enter(_Taken(_START, 0, None, self.model.initial()), 0, _KNOWN)
        while self.waiting:
            here = self.stack[-1]
            step = next(here.options, None)
            if step is not None:
                self._take_out(step)
                self._enter(step, here.taken | step.bit, _KNOWN if step.start is not None else here.step.after)
                continue
            if self.stuck is None:
                self.stuck = self._first_end().call
            self.stack.pop()
            if not self.stack:
                return False
            self._put_back(here.step)
        return True

    def _enter(self, step: _Taken, taken: int, unknown_from: Any) -> None:
        self.stack.append(_Node(step, taken, unknown_from, self._options(step.after, taken, unknown_from)))
        if len(self.stack) - 1 > len(self.best):
            self.best, self.best_state = [node.step.call for node in self.stack[1:]], step.after
            self.stuck = None

    def _options(self, state: Any, taken: int, unknown_from: Any) -> Iterator[_Taken]:
        """The calls worth taking next, those of known outcome first, and of them first what must end first."""
        fitting = []
        event = self.head.after
        while event is not None and event.end is not None:
            after, response = self._step(state, event.call.request)
            if response == event.call.response:
                if not self._needless(event.call, after, unknown_from):
                    fitting.append(_Taken(event.call, event.bit, event, after))
                    if after == state:
                        yield fitting[-1]
                        return
            elif self.model.is_past(state, event.call.request, event.call.response):
                return
            event = event.after
        fitting.sort(key=lambda step: step.call.returned or 0.0)
        for step in fitting:
            if self._is_new(taken | step.bit, step.after, _KNOWN):
                yield step
        yield from self._unknown_options(state, taken, unknown_from)

    def _unknown_options(self, state: Any, taken: int, unknown_from: Any) -> Iterator[_Taken]:
        deadline = self._first_end().time
        tried = set()
        for call, bit in self.unknown:
            if call.called > deadline:
                return
            if taken & bit or call.request in tried:
                continue
            tried.add(call.request)
            after, _ = self._step(state, call.request)
            if after == state or self._needless(call, after, unknown_from):
                continue
            if self._is_new(taken | bit, after, state):
                yield _Taken(call, bit, None, after)

    def _needless(self, call: Call, after: Any, unknown_from: Any) -> bool:
        """Whether the step that led here, if it is of unknown outcome, might as well come after `call`, or not at all.

        `unknown_from` is the state before that step, `after` the one behind the step and the call.
        """
        if unknown_from is _KNOWN:
            return False
        without, response = self._step(unknown_from, call.request)
        if call.returned is not None and response != call.response:
            return False
        if without == after:
            return True
        before = self.stack[-1].step.call
        if call.returned is None and call.called >= before.called:
            return False  # of two that could change places, one order must remain
        swapped, _ = self._step(without, before.request)
        return bool(swapped == after)

    def _is_new(self, taken: int, state: Any, unknown_from: Any) -> bool:
        """Whether these calls have not led to this state before. What is tried next depends on `unknown_from` too."""
        low = (~taken & (taken + 1)).bit_length() - 1
        key = (low, taken >> low, state, unknown_from)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def _step(self, state: Any, request: Any) -> tuple[Any, Any]:
        self.steps += 1
        if self.steps > self.steps_max:
            raise UndecidedError(f"gave up after {self.steps_max} steps at {len(self.best)} of {len(self.calls)} calls")
        return self.model.step(state, request)

    # --- the list ---

    def _first_end(self) -> _Event:
        event = self.head.after
        while event is not None and event.end is not None:
            event = event.after
        assert event is not None, "every start in the list has its end in it"
        return event

    def _take_out(self, step: _Taken) -> None:
        if step.start is None:
            return
        assert step.start.end is not None
        self.waiting -= 1
        for event in (step.start, step.start.end):
            assert event.before is not None
            event.before.after = event.after
            if event.after is not None:
                event.after.before = event.before

    def _put_back(self, step: _Taken) -> None:
        if step.start is None:
            return
        assert step.start.end is not None
        self.waiting += 1
        for event in (step.start.end, step.start):
            assert event.before is not None
            event.before.after = event
            if event.after is not None:
                event.after.before = event

    def violation(self) -> Violation:
        assert self.stuck is not None
        return Violation(self.calls, self.best, self.best_state, self.stuck)
