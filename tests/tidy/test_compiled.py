"""The list of what is compiled is right, and what stands in it can be compiled as it is written."""

from __future__ import annotations

import ast
import tomllib

import pytest

from tests.tidy.sources import PRODUCT, ROOT, Source, source, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPILED: list[str] = PROJECT["tool"]["etcdpy"]["compiled"]


def is_closed(node: ast.ClassDef) -> bool:
    """Whether a compiled class can have no interpreted subclass."""
    return not any("allow_interpreted_subclasses=True" in ast.unparse(decorator) for decorator in node.decorator_list)


def classes(item: Source) -> list[ast.ClassDef]:
    return [node for node in item.tree.body if isinstance(node, ast.ClassDef)]


def full_name(item: Source, base: ast.expr) -> str:
    """The class that a base names, with its module, by the imports of the file."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(item.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    first, dot, rest = ast.unparse(base).partition(".")
    return imported.get(first, first) + dot + rest


def subclasses_from_outside(items: list[Source], compiled: set[str]) -> list[str]:
    """Classes of interpreted modules whose base is compiled and does not allow it: they cannot be instantiated."""
    closed = {
        f"{item.path.removesuffix('.py').replace('/', '.')}.{node.name}"
        for item in items
        if item.path in compiled
        for node in classes(item)
        if is_closed(node)
    }
    return [
        f"{item.path}: {node.name}"
        for item in items
        if item.path not in compiled
        for node in classes(item)
        if any(full_name(item, base) in closed for base in node.bases)
    ]


def slots(node: ast.ClassDef) -> set[str]:
    """The names in a class's own `__slots__`."""
    return {
        name.value
        for statement in node.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__"
        for name in ast.walk(statement.value)
        if isinstance(name, ast.Constant) and isinstance(name.value, str)
    }


def hidden_fields(items: list[Source], compiled: set[str]) -> list[str]:
    """Slots of interpreted classes that hide a field of their compiled base, which compiled code reads past them."""
    fields = {
        f"{item.path.removesuffix('.py').replace('/', '.')}.{node.name}": slots(node)
        | {ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign)}
        for item in items
        if item.path in compiled
        for node in classes(item)
    }
    return [
        f"{item.path}: {node.name}.{name}"
        for item in items
        if item.path not in compiled
        for node in classes(item)
        for base in node.bases
        for name in sorted(slots(node) & fields.get(full_name(item, base), set()))
    ]


def test_the_list_names_modules_in_order_and_once() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert [path for path in COMPILED if not (ROOT / path).is_file()] == []


def test_the_compiler_is_the_one_that_is_tested() -> None:
    (compiler,) = (each for each in PROJECT["build-system"]["requires"] if each.startswith("mypy"))
    assert compiler in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_interpreted_class_has_a_compiled_base_that_forbids_it() -> None:
    assert subclasses_from_outside(list(sources(*PRODUCT)), set(COMPILED)) == []


@pytest.mark.parametrize(
    ("decorator", "imports", "base", "found"),
    [
        ("", "from etcdpy.a import Base", "Base", 1),
        ("", "from etcdpy import a", "a.Base", 1),
        ("@dataclass\n", "from etcdpy.a import Base", "Base", 1),
        ("@mypyc_attr(allow_interpreted_subclasses=True)\n", "from etcdpy.a import Base", "Base", 0),
        ("", "import click", "click.Base", 0),
    ],
)
def test_such_a_class_is_found(decorator: str, imports: str, base: str, found: int) -> None:
    parent = source("etcdpy/a.py", f"{decorator}class Base: ...\n")
    child = source("etcdpy/b.py", f"{imports}\nclass Child({base}): ...\n")
    assert len(subclasses_from_outside([parent, child], {"etcdpy/a.py"})) == found


def test_no_interpreted_class_hides_a_field_of_its_compiled_base() -> None:
    assert hidden_fields(list(sources(*PRODUCT)), set(COMPILED)) == []


@pytest.mark.parametrize(("field", "found"), [('__slots__ = ("x",)', 1), ("x: int = 0", 1), ("y: int", 0)])
def test_such_a_field_is_found(field: str, found: int) -> None:
    parent = source("etcdpy/a.py", f"class Base:\n    {field}\n")
    child = source("etcdpy/b.py", 'from etcdpy.a import Base\nclass Child(Base):\n    __slots__ = ("x",)\n')
    assert len(hidden_fields([parent, child], {"etcdpy/a.py"})) == found
