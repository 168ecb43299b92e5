"""What a newcomer reads first is true, and no file speaks of the machine it was written on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.tidy.sources import ROOT, report, repository_files

if TYPE_CHECKING:
    from collections.abc import Iterable

# Written in two parts, so that this file may be searched as well.
FORBIDDEN: Final = tuple(
    re.compile(first + second)
    for first, second in (
        ("/wo", r"rk/(main|shared)\b"),
        ("/tmp", r"/ref\b"),
        ("/ro", r"ot/go\b"),
        ("/ro", r"ot/\.pyenv"),
        ("/ho", r"me/[a-z]+/"),
        ("deb\\.", r"debian\.org"),
        ("py", r"pi\.org"),
        ("python", r"hosted\.org"),
        ("proxy\\.", r"golang\.org"),
        ("sum\\.", r"golang\.org"),
        ("registry\\.", r"npmjs"),
        ("docker", r"\.io/"),
    )
)
"""Paths of one machine, and hosts of registries: whoever builds has their own."""

COMMANDS: Final = re.compile(r"(?:^    |`)make ([a-z-]+)", re.MULTILINE)


def forbidden_words(name: str, text: str) -> list[str]:
    """Where a file speaks of what is no part of the project."""
    return [
        f"{name}:{number}: {pattern.pattern}"
        for number, line in enumerate(text.splitlines(), 1)
        for pattern in FORBIDDEN
        if pattern.search(line)
    ]


def broken_links(name: str, text: str) -> list[str]:
    """Relative links of a Markdown page that lead nowhere."""
    place = (ROOT / name).parent
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [f"{name}: {link}" for link in links if "://" not in link and not (place / link).exists()]


def missing_targets(makefile: str, commands: Iterable[str]) -> list[str]:
    """Commands without a target."""
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    return sorted(set(commands) - targets)


def texts() -> list[tuple[str, str]]:
    found = []
    for name in repository_files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            found.append((name, content.decode("utf-8", "replace")))
    return found


def test_no_file_speaks_of_this_machine() -> None:
    findings = [finding for name, text in texts() for finding in forbidden_words(name, text)]
    assert not findings, report(findings)


def test_links_lead_somewhere() -> None:
    findings = [finding for name, text in texts() if name.endswith(".md") for finding in broken_links(name, text)]
    assert not findings, report(findings)


def test_the_readmes_commands_exist() -> None:
    commands = COMMANDS.findall((ROOT / "README.md").read_text())
    assert {"up", "test"} <= set(commands)
    assert missing_targets((ROOT / "Makefile").read_text(), commands) == []


def test_every_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[0].split()
    assert phony == re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)


def test_the_changelog_has_something_to_say() -> None:
    first_version = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1]
    assert re.search(r"^- \S", first_version, re.MULTILINE)


def test_the_top_level_is_as_agreed() -> None:
    top = {name.split("/")[0] for name in repository_files()}
    files = {
        ".gitignore",
        "pyproject.toml",
        "setup.py",
        "constraints.txt",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
    }
    directories = {".ci", "etcdpy", "pki", "systemd", "ansible", "tests", "bench", "docs", "deploy"}
    assert top <= files | directories, top - files - directories
    assert files <= top, files - top


def test_every_development_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[<>=~ ;\[]", line)[0].lower().replace("_", "-")
        for line in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    }
    lines = (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert wanted <= pinned, wanted - pinned


@pytest.mark.parametrize(
    "line",
    ["see /wo" + "rk/main/x", "cp /tmp" + "/ref/bin/x", "index = py" + "pi.org", "GOPROXY=proxy." + "golang.org"],
)
def test_planted_words_are_found(line: str) -> None:
    assert len(forbidden_words("a.txt", f"fine\n{line}\n")) == 1


def test_planted_links_and_commands_are_found() -> None:
    page = "[a](README.md) [b](nowhere.md#part) [c](https://example.com/x)"
    assert broken_links("CHANGELOG.md", page) == ["CHANGELOG.md: nowhere.md"]
    assert missing_targets("up: env  ## run\n", ["up", "test"]) == ["test"]
