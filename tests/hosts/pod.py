"""Compose files without a container engine: each service in a chroot of the image, in namespaces and with an address of
its own, as the user and with the rights that the file says.

Names of services are resolved by /etc/hosts, volumes are directories, and what a service waits for is waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from tests.hosts.image import ENTER, NAMESPACES, PATH
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hosts.image import Stage

HOLD: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
SECONDS_MAX: Final = 120.0
BRIDGE: Final = """
set -eu
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
for each in $SERVICES; do
    name=${each%%=*}
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip link set "$name" master br0 up
    ip -n "$name" addr add "${each#*=}/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
done
touch "$PLACE/up"
exec sleep infinity
"""
SERVICE: Final = f"""{ENTER}
touch "$ROOT/etc/hosts"
mount --bind "$PLACE/hosts" "$ROOT/etc/hosts"
for each in $VOLUMES; do
    mount --bind "$PLACE/volumes/${{each%%:*}}" "$ROOT${{each#*:}}"
done
for each in $READ_ONLY_VOLUMES; do
    mount -o remount,bind,ro "$ROOT$each"
done
if [ -n "$READ_ONLY" ]; then mount -o remount,ro "$ROOT"; fi
for each in $TMPFS; do mount -t tmpfs tmpfs "$ROOT$each"; done
exec chroot "$ROOT" /usr/bin/env -i "$@"
"""


KNOWN: Final = frozenset(
    (
        *("image", "build", "read_only", "cap_drop", "security_opt", "tmpfs", "restart", "depends_on", "healthcheck"),
        *("stop_grace_period", "environment", "entrypoint", "command", "volumes", "ports"),
    )
)
"""What a service may say. Ports of this machine are not opened, and nothing is restarted."""


class Pod:
    """Services of compose files, of one image. `names` are all that there will be."""

    def __init__(self, image: Stage, place: Path, names: Sequence[str]) -> None:
        self.image = image
        self.place = place
        self.addresses = {name: f"10.250.0.{number}" for number, name in enumerate(names, 10)}
        self.services: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        self.place.mkdir()
        hosts = [f"{address} {name}\n" for name, address in self.addresses.items()]
        (self.place / "hosts").write_text("".join(["127.0.0.1 localhost\n", *hosts]))
        services = " ".join(f"{name}={address}" for name, address in self.addresses.items())
        environment = {"PATH": PATH, "PLACE": str(self.place), "SERVICES": services}
        self._holder = subprocess.Popen([*HOLD, BRIDGE], env=environment, stdin=subprocess.DEVNULL)
        wait_until((self.place / "up").exists, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()  # and with it every process of its namespaces
        self._holder.wait()
        for run in self.runs.values():
            run.communicate()

    def up(self, *files: Path) -> None:
        """Start what the files say, the later over the earlier ones, and wait until it is healthy."""
        self.services = {}
        for file in files:
            self._read(file)
        done: set[str] = set()
        for name in self.services:
            self._start(name, done)
        for name, service in self.services.items():
            if "healthcheck" in service:
                self._wait(name, "service_healthy")

    def _read(self, file: Path) -> None:
        for name, wanted in yaml.safe_load(file.read_text())["services"].items():
            service = self.services.setdefault(name, {})
            environment = service.get("environment", {}) | wanted.get("environment", {})
            service |= wanted | {"environment": environment}
            assert service.keys() <= KNOWN, f"{name}: {service.keys() - KNOWN}"
            assert (file.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()

    def _start(self, name: str, done: set[str]) -> None:
        if name in done:
            return
        done.add(name)
        for other, wanted in self.services[name].get("depends_on", {}).items():
            self._start(other, done)
            self._wait(other, wanted["condition"])
        if name not in self.runs or self.runs[name].poll() is not None:
            self.runs[name] = self._launch(name)

    def _wait(self, name: str, condition: str) -> None:
        run = self.runs[name]
        if condition == "service_completed_successfully":
            said, _ = run.communicate(timeout=SECONDS_MAX)
            assert run.returncode == 0, f"{name} ended with {run.returncode}:\n{said}"
        elif condition == "service_healthy":
            kind, *check = self.services[name]["healthcheck"]["test"]
            assert kind == "CMD"
            wait_until(lambda: self.exec(name, *check).returncode == 0, SECONDS_MAX, 0.2)
        else:
            assert condition == "service_started"

    def _launch(self, name: str) -> subprocess.Popen[str]:
        service, own = self.services[name], self.place / name
        for part in ("upper", "work", "root"):
            (own / part).mkdir(parents=True, exist_ok=True)
        volumes = [volume.split(":") for volume in service.get("volumes", [])]
        kept = {path for _, path, *_ in volumes}
        assert "entrypoint" in service or kept.issuperset(self.image.volumes), (
            f"{name} loses its data with its container"
        )
        for volume, path, *_ in volumes:
            self._make_volume(volume, path)
        settings = {
            "PATH": PATH,
            "PLACE": str(self.place),
            "LOWER": ":".join(map(str, reversed(self.image.layers))),
            "UPPER": str(own / "upper"),
            "WORK": str(own / "work"),
            "ROOT": str(own / "root"),
            "VOLUMES": " ".join(f"{volume}:{path}" for volume, path, *_ in volumes),
            "READ_ONLY_VOLUMES": " ".join(path for _, path, *mode in volumes if mode == ["ro"]),
            "READ_ONLY": "1" if service["read_only"] else "",
            "TMPFS": " ".join(service["tmpfs"]),
        }
        command = [*service.get("entrypoint", self.image.entrypoint), *service.get("command", [])]
        words = self._as_user(name, *(word.replace("$$", "$") for word in command))
        within = ["ip", "netns", "exec", name, *NAMESPACES, "sh", "-c", SERVICE, "sh", *words]
        return subprocess.Popen(
            ["nsenter", f"--target={child_of(self._holder.pid)}", "--mount", "--net", "--pid", "--", *within],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _make_volume(self, volume: str, path: str) -> None:
        """A directory for a volume, as the image has the one in whose place it comes."""
        place = self.place / "volumes" / volume
        if not place.exists():
            place.mkdir(parents=True)
            found = (layer / path.lstrip("/") for layer in reversed(self.image.layers))
            like = next(each for each in found if each.is_dir()).stat()
            os.chown(place, like.st_uid, like.st_gid)
            place.chmod(like.st_mode & 0o777)

    def _as_user(self, name: str, *command: str) -> list[str]:
        """A command with the environment, the user and the rights of a service."""
        service = self.services[name]
        user, group = self.image.user.split(":")
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        rights = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        settings = self.image.environment | {"HOSTNAME": name} | service["environment"]
        words = [f"{key}={value}" for key, value in settings.items()]
        return [*words, "setpriv", f"--reuid={user}", f"--regid={group}", *rights, "--", *command]

    def pid(self, name: str) -> int:
        """The process that a service is, as this machine counts: nsenter's child's child."""
        return child_of(child_of(self.runs[name].pid))

    def exec(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a running service, as its user."""
        words = [
            "--mount",
            "--net",
            "--pid",
            "--root",
            "--wd",
            "--",
            "/usr/bin/env",
            "-i",
            *self._as_user(name, *command),
        ]
        return subprocess.run(
            ["nsenter", f"--target={self.pid(name)}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    def stop(self, name: str) -> tuple[int, str]:
        """End a service as an engine does; its exit status, and all that it said."""
        os.kill(self.pid(name), signal.Signals[self.image.stop_signal])
        said, _ = self.runs[name].communicate(timeout=SECONDS_MAX)
        return self.runs[name].returncode, said


def child_of(pid: int) -> int:
    """The first child of a process, once there is one."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: path.read_text() != "", 10)
    return int(path.read_text().split()[0])
