"""An image without a container engine: the steps of a Dockerfile, each in a chroot.

What `FROM debian:...` stands for is the filesystem that the lab's hosts boot from. Each step is a layer of an overlay.
Layers are kept in the cache by all that they follow from, so that only what has changed is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from dockerfile_parse import DockerfileParser

from tests.support.reference import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

STEP_SECONDS_MAX: Final = 600
KEPT: Final = 40
"""So many layers stay in the cache, the ones used last; most are of a few files."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ENTER: Final = """
set -eu
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$UPPER,workdir=$WORK" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
"""
"""Puts the layers together at $ROOT, in namespaces of its own, which end with the step."""


class StepFailed(Exception):
    """A step of the Dockerfile ended with an error; the text is what it said."""


@dataclass(slots=True)
class Stage:
    """What a FROM begins: layers, the last on top, and settings."""

    layers: list[Path]
    key: str
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"

    def words(self, value: str) -> list[str]:
        """The words of an instruction, with what ENV and ARG say filled in."""
        return shlex.split(Template(value).safe_substitute(self.arguments | self.environment))


class Build:
    """Interprets a Dockerfile. `wheels` is what pip installs from in its steps, in place of an index."""

    def __init__(
        self, dockerfile: Path, context: Path, base: Path, *, arguments: Mapping[str, str], wheels: Path
    ) -> None:
        self.context = context
        self.base = base
        self.arguments = dict(arguments)
        self.wheels = wheels
        self.stages: dict[str, Stage] = {}
        self.place = cache_root() / "hosts" / "layers"
        ignoring = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
        self.sent = {line[1:] for line in ignoring if line.startswith("!")}
        with dockerfile.open("rb") as file:
            self.steps = [(each["instruction"], each["value"]) for each in DockerfileParser(fileobj=file).structure]

    def run(self) -> Stage:
        """The last stage, every step done. Raises StepFailed."""
        self.place.mkdir(parents=True, exist_ok=True)
        with (self.place / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stage = Stage([], "")
            for instruction, value in self.steps:
                if instruction == "FROM":
                    stage = self._from(value)
                elif instruction != "COMMENT":
                    self._step(stage, instruction, value)
            self._forget_old()
        return stage

    def _from(self, value: str) -> Stage:
        image, *name = value.split()
        assert image.startswith("debian:bookworm"), f"{image}: the lab's filesystem is Debian 12's"
        stage = Stage([self.base], hashlib.sha256(self.base.name.encode()).hexdigest())
        self.stages[name[1] if name else ""] = stage
        return stage

    def _step(self, stage: Stage, instruction: str, value: str) -> None:
        match instruction:
            case "RUN":
                self._layer(
                    stage, f"RUN {sorted(stage.arguments.items())} {value}", lambda at: self._run(stage, value, at)
                )
            case "COPY":
                self._copy(stage, value)
            case "ARG":
                name, _, default = value.partition("=")
                stage.arguments[name] = self.arguments.get(name, default)
            case "ENV":
                stage.environment |= dict(word.split("=", 1) for word in stage.words(value))
            case "WORKDIR":
                stage.directory = value
                self._layer(stage, f"WORKDIR {value}", lambda at: (at / value.lstrip("/")).mkdir(parents=True))
            case "USER":
                stage.user = value
            case "VOLUME":
                stage.volumes += stage.words(value)
            case "STOPSIGNAL":
                stage.stop_signal = value
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(value)
            case "EXPOSE":
                assert all(port.isdigit() for port in value.split())
            case _:
                raise AssertionError(f"an instruction that this does not know: {instruction} {value}")

    def _layer(self, stage: Stage, what: str, make: Callable[[Path], None]) -> None:
        """Put a layer onto the stage: the one in the cache, or one that `make` fills the directory of."""
        follows = f"{stage.key}\n{what}\n{sorted(stage.environment.items())}\n{stage.directory}"
        stage.key = hashlib.sha256(follows.encode()).hexdigest()
        layer = self.place / stage.key[:16]
        if not layer.exists():
            part = self.place / f"{layer.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            (part / "upper").mkdir(parents=True)
            make(part / "upper")
            for name in ("work", "root"):
                shutil.rmtree(part / name, ignore_errors=True)
            part.rename(layer)
        os.utime(layer)
        stage.layers.append(layer / "upper")

    def _run(self, stage: Stage, value: str, upper: Path) -> None:
        script = f"""{ENTER}
            touch "$ROOT/etc/resolv.conf"
            mount --bind /etc/resolv.conf "$ROOT/etc/resolv.conf"
            mount --bind "$WHEELS" "$ROOT/mnt"
            exec chroot "$ROOT" /usr/bin/env -i "$@"
        """
        settings = stage.arguments | stage.environment | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt"}
        words = [f"{name}={text}" for name, text in settings.items()]
        command = ["/bin/sh", "-c", f"cd {shlex.quote(stage.directory)} && {value}"]
        in_layers(stage.layers, upper, script, *words, *command, wheels=self.wheels)

    def _copy(self, stage: Stage, value: str) -> None:
        *sources, target = stage.words(value)
        into = (stage.directory + "/" if not target.startswith("/") else "") + target
        if sources[0].startswith("--from="):
            origin, path = self.stages[sources[0].removeprefix("--from=")], sources[1]

            def copy(upper: Path) -> None:
                script = f'{ENTER}\nmkdir -p "$(dirname "$2")"\ncp -a "$ROOT$1" "$2"'
                with tempfile.TemporaryDirectory(dir=self.place) as scratch:
                    in_layers(origin.layers, Path(scratch) / "upper", script, path, f"{upper}{into}")

            self._layer(stage, f"COPY {origin.key} {value}", copy)
            return
        files = dict(self._files(sources, into))
        contents = "".join(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for name, path in files.items())

        def write(upper: Path) -> None:
            for name, path in files.items():
                place = upper / name.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)

        self._layer(stage, f"COPY {contents}", write)

    def _files(self, sources: Sequence[str], into: str) -> Iterator[tuple[str, Path]]:
        """Every file of the context that is copied, by where it goes."""
        for source in sources:
            assert source in self.sent, f"{source} is not sent to an engine"
            path = self.context / source
            if path.is_dir():
                found = sorted(each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
                yield from ((f"{into}/{each.relative_to(path)}", each) for each in found)
            else:
                yield (f"{into}/{path.name}" if into.endswith("/") else into), path

    def _forget_old(self) -> None:
        layers = sorted((path for path in self.place.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for old in layers[:-KEPT]:
            shutil.rmtree(old)


def in_layers(layers: Sequence[Path], upper: Path, script: str, *words: str, wheels: Path | None = None) -> None:
    """Run a script that begins with ENTER, and writes to `upper` what it writes. Raises StepFailed."""
    for name in ("upper", "work", "root"):
        upper.with_name(name).mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": PATH,
        "LOWER": ":".join(map(str, reversed(layers))),
        "UPPER": str(upper),
        "WORK": str(upper.with_name("work")),
        "ROOT": str(upper.with_name("root")),
        "WHEELS": str(wheels or ""),
    }
    done = subprocess.run(
        [*NAMESPACES, "sh", "-c", script, "sh", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise StepFailed(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
