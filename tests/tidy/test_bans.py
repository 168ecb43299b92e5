"""Habits that a reviewer would have to find again and again."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import pytest

from tests.tidy.sources import PRODUCT, Source, report, source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

PURE_ROOMS: Final = ("raft", "mvcc", "lease", "auth", "membership", "apply")
TALKING_ROOMS: Final = ("commandline", "ctl", "utl", "local", "pki", "__main__")
"""Rooms whose job is to write to the terminal."""

IMPURE_MODULES: Final = {
    "time", "random", "secrets", "uuid", "datetime", "asyncio", "threading", "socket", "ssl", "os", "pathlib", "io",
    "subprocess", "tempfile", "shutil",
}  # fmt: skip
"""The outside world. Pure rooms take the time, randomness and storage that they need as arguments."""

TASK_HELPER: Final = ("etcdpy/transport/server.py", "spawn")
"""The one function that starts tasks outside a TaskGroup: a failed call must not end its neighbours. It keeps hold of
each task, reports what goes wrong in it, and waits for all at the end."""

ORDER_FREE: Final = {"sorted", "any", "all", "sum", "min", "max", "set", "frozenset", "len"}
"""Calls whose result does not depend on the order in which they are fed."""


def dotted(node: ast.expr) -> str:
    """`self.group.create_task` for that expression; calls and subscripts in it are passed over."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return dotted(node.func)
    return dotted(node.value) if isinstance(node, ast.Subscript) else ""


def task_groups(tree: ast.AST) -> set[str]:
    """Names that hold a TaskGroup: bound by `with`, assigned, or annotated so."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and node.optional_vars is not None:
            pairs = [(node.optional_vars, node.context_expr)]
        elif isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs = [(node.target, node.annotation)]
        elif isinstance(node, ast.arg) and node.annotation is not None:
            pairs = [(ast.Name(node.arg), node.annotation)]
        else:
            continue
        found.update(dotted(name) for name, value in pairs if "TaskGroup" in ast.unparse(value))
    return found


def stray_tasks(item: Source) -> Iterator[tuple[int, str]]:
    """Tasks that no TaskGroup owns: their errors vanish, and nothing ends them."""
    groups = task_groups(item.tree)
    helper = {
        inner
        for node in ast.walk(item.tree)
        if isinstance(node, ast.FunctionDef) and (item.path, node.name) == TASK_HELPER
        for inner in ast.walk(node)
    }
    for node in ast.walk(item.tree):
        if isinstance(node, ast.Call) and node not in helper:
            owner, _, verb = dotted(node.func).rpartition(".")
            if verb == "ensure_future" or (verb == "create_task" and owner not in groups):
                yield node.lineno, f"`{owner}.{verb}`: every task belongs to a TaskGroup"


def swallowed_errors(item: Source) -> Iterator[tuple[int, str]]:
    """Handlers that hide what only a bug can cause."""
    broad = {"", "Exception", "BaseException"}
    for node in ast.walk(item.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = dotted(node.type) if node.type else ""
            silent = all(isinstance(line, (ast.Pass, ast.Continue, ast.Break)) for line in node.body)
            is_tuple = isinstance(node.type, ast.Tuple)
            if node.type is None or (caught in broad and silent and not is_tuple):
                yield node.lineno, "an except clause that hides every error"
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("suppress"):
            hides = [argument for argument in node.args if dotted(argument) in broad - {""}]
            yield from ((argument.lineno, "a suppress() that hides every error") for argument in hides)


def talk(item: Source) -> Iterator[tuple[int, str]]:
    """Output past the logger."""
    if item.room in TALKING_ROOMS:
        return
    for node in ast.walk(item.tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("print", "pprint", "breakpoint"):
            yield node.lineno, f"`{dotted(node.func)}` outside the command-line rooms"


def impure_imports(item: Source) -> Iterator[tuple[int, str]]:
    """Time, randomness, threads and files in a pure room."""
    if item.room not in PURE_ROOMS:
        return
    for_types_only = {
        inner
        for node in ast.walk(item.tree)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(item.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found = [name for name in names if name.split(".")[0] in IMPURE_MODULES and node not in for_types_only]
        yield from ((node.lineno, f"`{name}` in a pure room: take it as an argument") for name in found)


def is_set(node: ast.expr | None) -> bool:
    """Whether an expression or an annotation is plainly a set."""
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    return node is not None and dotted(node).rpartition(".")[2] in {"set", "frozenset", "AbstractSet"}


def set_names(tree: ast.AST) -> set[str]:
    """Names and attributes that are annotated as sets, or assigned one, anywhere under `tree`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and is_set(node.annotation):
            found.add(dotted(node.target))
        elif isinstance(node, ast.Assign) and is_set(node.value):
            found.update(dotted(target) for target in node.targets)
        elif isinstance(node, ast.arg) and is_set(node.annotation):
            found.add(node.arg)
    return found


def _iterated(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions whose order reaches the outside: loops, comprehensions, list(), tuple(), iter(), join(), pop()."""
    harmless: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in ORDER_FREE:
            harmless.update(node.args)
        if isinstance(node, ast.SetComp) or node in harmless:
            continue
        if isinstance(node, (ast.For, ast.AsyncFor)):
            yield node.iter
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
            yield from (part.iter for part in node.generators)
        elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in ("list", "tuple", "iter", "join"):
            yield from node.args[:1]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pop":
            yield from () if node.args else (node.func.value,)


def unordered_iteration(item: Source) -> Iterator[tuple[int, str]]:
    """Sets iterated unsorted in a pure room: their order changes with the hash seed, and one seed must replay all.

    Finds what is plainly a set: literals, set() and names annotated or assigned so in the same function, attributes in
    the same file. Where order truly does not matter the line says so: `# any order: <why>`.
    """
    if item.room not in PURE_ROOMS:
        return
    lines = item.text.splitlines()
    attributes = {name for name in set_names(item.tree) if "." in name}
    attributes |= {
        f"self.{name}"
        for node in ast.walk(item.tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        for name in set_names(part)
    }
    functions = [node for node in ast.walk(item.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in functions:
        known = set_names(function) | attributes
        for node in _iterated(function):
            marked = "# any order: " in lines[node.lineno - 1]
            operands = (node.left, node.right) if isinstance(node, ast.BinOp) else (node,)
            if any(is_set(operand) or dotted(operand) in known for operand in operands) and not marked:
                yield node.lineno, f"`{ast.unparse(node)}` is a set: iterate sorted(...)"


CHECKS: Final = (stray_tasks, swallowed_errors, talk, impure_imports, unordered_iteration)


def check_bans(item: Source) -> list[str]:
    """All findings of all checks."""
    return [f"{item.path}:{line}: {text}" for check in CHECKS for line, text in sorted(check(item))]


def test_nothing_banned() -> None:
    findings = [finding for item in sources(*PRODUCT) for finding in check_bans(item)]
    assert not findings, report(findings)


LOOP = "def f(a: set[int], b: list[int], self: object) -> None:\n    c = {1}\n    "


@pytest.mark.parametrize(
    "text",
    [
        "asyncio.create_task(work())",
        "self._loop.create_task(work())",
        "asyncio.get_running_loop().create_task(work())",
        "asyncio.ensure_future(work())",
        "try:\n    work()\nexcept Exception:\n    pass",
        "try:\n    work()\nexcept BaseException:\n    pass",
        "try:\n    work()\nexcept:\n    log()",
        "for x in y:\n    try:\n        work()\n    except Exception:\n        continue",
        "with contextlib.suppress(Exception):\n    work()",
        "print('hello')",
        "import time",
        "from random import Random",
        "def f():\n    import os.path",
        LOOP + "for x in a: pass",
        LOOP + "for x in c: pass",
        LOOP + "for x in {1, 2}: pass",
        LOOP + "for x in a | c: pass",
        LOOP + "return [x for x in a]",
        LOOP + "return list(a)",
        LOOP + "return next(iter(c))",
        LOOP + "return c.pop()",
        LOOP + "b.extend(x for x in a)",
        "class A:\n    s: set[int]\n    def f(self):\n        for x in self.s: pass",
        "class A:\n    def __init__(self):\n        self.s = set()\n    def f(self):\n        return list(self.s)",
    ],
)
def test_planted_habits_are_found(text: str) -> None:
    assert len(check_bans(source("etcdpy/raft/planted.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "async with asyncio.TaskGroup() as duties:\n    duties.create_task(work())",
        "def f(group: asyncio.TaskGroup) -> None:\n    group.create_task(work())",
        "self._tasks: asyncio.TaskGroup | None = None\nself._tasks.create_task(work())",
        "try:\n    work()\nexcept Exception as error:\n    log(error)\n    raise",
        "try:\n    work()\nexcept KeyError:\n    pass",
        "with contextlib.suppress(KeyError):\n    work()",
        "if TYPE_CHECKING:\n    from random import Random",
        LOOP + "for x in sorted(a): pass",
        LOOP + "for x in b: pass",
        LOOP + "return any(x for x in a), len(a), {x for x in c}",
        LOOP + "return b.pop()",
        LOOP + "for x in a: pass  # any order: counts only",
    ],
)
def test_good_habits_pass(text: str) -> None:
    assert check_bans(source("etcdpy/raft/planted.py", text)) == []


def test_one_function_may_start_tasks_on_its_own() -> None:
    path, name = TASK_HELPER
    assert check_bans(source(path, f"def {name}(self):\n    self.loop.create_task(work())")) == []
    assert len(check_bans(source(path, "def other(self):\n    self.loop.create_task(work())"))) == 1


def test_outer_rooms_may_use_clocks_and_command_lines_may_print() -> None:
    assert check_bans(source("etcdpy/server/planted.py", "import time")) == []
    assert check_bans(source("etcdpy/ctl/planted.py", "print('OK')")) == []
    assert len(check_bans(source("etcdpy/server/planted.py", "print('OK')"))) == 1
