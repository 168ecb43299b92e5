"""Scripts of command lines that real etcdctl and etcdpyctl both run, and what they printed, made comparable.

A script is a text file: a line `$ put foo bar` is a command line (quoting as in a shell, NAME=value in front sets the
environment; `$* ` where members are listed, in whichever order; `$% ` for a run in each --write-out), the lines
`> text` below it are its standard input, `#` begins a comment. `{lease}` is the lease granted last, `{member}` the id
of the member, `{learner}` that of the learner (0: there is none), `{endpoint}` the address of the member,
`{dir}` a directory of the side's own.

etcdpyctl runs in this process: a script of a hundred lines would otherwise start Python a hundred times.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from google.protobuf import empty_pb2, unknown_fields
from google.protobuf.message import DecodeError

from etcdpy.ctl.__main__ import run as run_here
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from google.protobuf.message import Message

    from tests.support.members import Member

Tool = Literal["etcdctl", "etcdpyctl"]

DIRECTORY: Final = Path(__file__).resolve().parents[1] / "interop" / "transcripts"
SECONDS_MAX: Final = 30
FORMATS: Final = ("simple", "json", "fields", "table", "protobuf")
"""What --write-out takes."""

_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_MASKS: Final = (
    (re.compile(r"took[ =:\"]+[\d.]+(ms|µs|ns|s)"), "took <span>"),
    (re.compile(r'"Took" : \S+'), '"Took" : <span>'),
    (re.compile(r"(healthy? +│|(true|false) │) +[\d.]+(ms|µs|s) │"), r"\1 <span> │"),
    (re.compile(r"\d+(\.\d+)? ?[kMG]?B\b"), "<size>"),
    (re.compile(r"remaining\(\d+s\)"), "remaining(<span>)"),
    # The two servers were started at different moments, so their raft logs differ by an entry now and then.
    (re.compile(r'"(ttl|raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+'), r'"\1":<number>'),
    (re.compile(r'"(RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+'), r'"\1" : <number>'),
    (re.compile(r"\b\d+%"), "<percent>"),
    (re.compile(r"(true|false), \d+, \d+, \d+,"), r"\1, <term and indexes>,"),
    (re.compile(r"(true|false) │ +\d+ │ +\d+ │ +\d+ │"), r"\1 │ <term and indexes> │"),
    (re.compile(r"(marshal unsupported for type \S+).*"), r"\1"),
    (re.compile(r"[ ─]+"), " "),  # a column is as wide as an id or a span of time
)
ID: Final = re.compile(r"\b[0-9a-f]{12,16}\b|\b\d{16,20}\b")
"""Of a member, a cluster or a lease, in hexadecimal without its leading zeros, of which a drawn id may have some; or in
decimal."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command line of a script, and what it reads."""

    script: str
    line: str
    stdin: str
    any_order: bool = False
    """Members are listed by their ids, which are drawn by lot: what is listed is compared, not in which order."""

    @property
    def words(self) -> list[str]:
        """Environment and arguments."""
        return shlex.split(self.line)


def read_script(path: Path) -> list[Step]:
    """The steps of a file."""
    steps: list[Step] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("$% "):
            steps += (Step(path.stem, f"{line[3:]} -w {form}", "") for form in FORMATS)
        elif line.startswith(("$ ", "$* ")):
            mark, _, words = line.partition(" ")
            steps.append(Step(path.stem, words, "", any_order=mark == "$*"))
        elif line.startswith(">"):
            last = steps.pop()
            steps.append(replace(last, stdin=f"{last.stdin}{line[1:].removeprefix(' ')}\n"))
        else:
            assert not line or line.startswith("#"), f"{path.name}:{number}: {line}"
    return steps


def scripts() -> dict[str, list[Step]]:
    """All of them by name."""
    return {path.stem: read_script(path) for path in sorted(DIRECTORY.glob("*.txt"))}


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run left behind."""

    status: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class Shown:
    """The same, made comparable."""

    status: int
    out: str
    err: str


@dataclass(slots=True)
class Side:
    """One of the two tools on a member of its own, or on a proxy before it."""

    tool: Tool
    member: Member
    directory: Path
    endpoint: str
    lease: str = "0"
    _names: dict[str, str] = field(default_factory=dict)

    def begin(self, step: Step) -> Callable[[], Shown]:
        """Start one step; the function waits for its end. What differs by nature is masked: ids become names in the
        order in which they turn up.
        """
        environment = {"ETCDCTL_ENDPOINTS": self.endpoint}
        words = [self._filled(word) for word in step.words]
        while words and (given := _ASSIGNMENT.fullmatch(words[0])):
            environment[given[1]] = given[2]
            del words[0]
        if any(word.startswith("--endpoints") for word in words):
            del environment["ETCDCTL_ENDPOINTS"]
        ended = begin_tool(self.tool, words, environment, self._filled(step.stdin))
        return lambda: self._shown(step, ended())

    def _shown(self, step: Step, ran: Ran) -> Shown:
        if granted := re.match(rb"lease ([0-9a-f]{16}) granted", ran.out):
            self.lease = granted[1].decode()
        binary = "protobuf" in step.line and not ran.out.isascii()
        out = "\n".join(_wire_lines(ran.out)) if binary else ran.out.decode(errors="surrogateescape")
        out = self._masked(_without_help(out))
        if step.any_order:
            out = "\n".join(sorted(filter(None, re.split(r"[][{}\",\s]+", out))))
        return Shown(ran.status, out, self._masked(_complaints(ran.err)))

    def _filled(self, text: str) -> str:
        places = {"{lease}": self.lease, "{endpoint}": self.endpoint, "{dir}": str(self.directory)}
        for name, value in places.items():
            text = text.replace(name, value)
        for name, learner in (("{member}", "false"), ("{learner}", "true")):
            text = text.replace(name, self._member_id(learner)) if name in text else text
        return text

    def _member_id(self, learner: str) -> str:
        ran = run_tool(self.tool, ["member", "list"], {"ETCDCTL_ENDPOINTS": self.endpoint}, "")
        return next((line for line in ran.out.decode().splitlines() if line.endswith(learner)), "0").partition(",")[0]

    def _masked(self, text: str) -> str:
        for endpoint in (self.endpoint, self.member.endpoint):
            text = text.replace(endpoint, "<endpoint>")
        text = text.replace(str(self.directory), "<dir>")
        text = text.replace(f"127.0.0.1:{self.member.peer_port}", "<peer>")
        text = ID.sub(lambda found: self._names.setdefault(found[0], f"<id {len(self._names)}>"), text)
        for pattern, instead in _MASKS:
            text = pattern.sub(instead, text)
        return text


def differences(steps: Iterable[Step], truth: Side, others: Mapping[str, Side]) -> list[str]:
    """Where one of the others shows something else than the first. All of them run a step at the same time."""
    found = []
    for step in steps:
        waiting = {name: side.begin(step) for name, side in {"truth": truth, **others}.items()}
        shown = {name: wait() for name, wait in waiting.items()}
        expected = shown.pop("truth")
        found += [
            f"$ {step.line}\n  truth: {expected}\n  {name}: {got}" for name, got in shown.items() if got != expected
        ]
    return found


def run_tool(tool: Tool, words: list[str], environment: dict[str, str], stdin: str) -> Ran:
    """Run one command line to its end."""
    return begin_tool(tool, words, environment, stdin)()


def begin_tool(tool: Tool, words: list[str], environment: dict[str, str], stdin: str) -> Callable[[], Ran]:
    """Start one command line; the function waits for its end. etcdpyctl is run by that function."""
    raw = stdin.encode(errors="surrogateescape")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    if tool == "etcdpyctl":
        return lambda: _run_here(words, {**clean, **environment}, raw)
    process = subprocess.Popen(
        [str(reference_binary("etcdctl")), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**clean, **environment},
    )  # fmt: skip
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # where nothing is read
        process.stdin.write(raw)
        process.stdin.close()
    process.stdin = None
    return lambda: _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> Ran:
    try:
        out, err = process.communicate(timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ran(process.returncode, out, err.decode(errors="surrogateescape"))


def _run_here(words: list[str], environment: dict[str, str], stdin: bytes) -> Ran:
    with _as_a_process(environment, stdin) as (out, err):
        status = run_here(words)
    return Ran(status, out.getvalue(), err.getvalue().decode(errors="surrogateescape"))


@contextmanager
def _as_a_process(environment: dict[str, str], stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    kept = sys.stdin, sys.stdout, sys.stderr, dict(os.environ)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), errors="surrogateescape")
    sys.stdout, sys.stderr = (io.TextIOWrapper(each, errors="surrogateescape") for each in (out, err))
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield out, err
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # A wrapper that is collected closes what it wraps.
        sys.stdout.detach()
        sys.stderr.detach()
        sys.stdin, sys.stdout, sys.stderr = kept[:3]
        os.environ.clear()
        os.environ.update(kept[3])


def _complaints(err: str) -> str:
    """Standard error without log lines, how far a long command was, what `stty` says (etcdctl runs it to ask for
    passwords), and the usage behind a refused command line.
    """
    kept = [line for line in re.split(r"[\r\n]", err) if not line.startswith(('{"level"', "stty: ", "putting: "))]
    text = "\n".join(line for line in kept if not line.endswith(" p/s"))
    return re.sub(r"^Usage:.*?(^Error:|\Z)", r"\1", text, flags=re.DOTALL | re.MULTILINE).rstrip("\n")


def _without_help(out: str) -> str:
    """Help is each tool's own; that there was some is compared."""
    return "<help>" if re.search(r"^Usage:|^The following options can", out, re.MULTILINE) else out


def _wire_lines(raw: bytes) -> Iterator[str]:
    """A message whose type is not known, a line a field: a nested one that reads as text is shown as text."""
    message = empty_pb2.Empty.FromString(raw)
    yield from _field_lines(message, "")


def _field_lines(message: Message, indent: str) -> Iterator[str]:
    fields = unknown_fields.UnknownFieldSet(message)
    for each in (fields[place] for place in range(len(fields))):
        data = each.data
        if not isinstance(data, bytes):
            yield f"{indent}{each.field_number}: {data}"
            continue
        if data.isascii() and data.decode().isprintable():
            yield f'{indent}{each.field_number}: "{data.decode()}"'
            continue
        try:
            nested = empty_pb2.Empty.FromString(data)
        except DecodeError:
            yield f"{indent}{each.field_number}: {data!r}"
            continue
        yield f"{indent}{each.field_number}:"
        yield from _field_lines(nested, indent + "  ")
