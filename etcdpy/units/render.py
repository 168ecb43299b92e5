"""Unit files from a topology: the templates of `systemd/`, filled in for one node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import jinja2

if TYPE_CHECKING:
    from etcdpy.units.topology import Topology

_UNITS: Final = "etc/systemd/system"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One file: where it belongs, from the root of the host, and what is in it. `starts` says whether the node's member
    is started from it."""

    path: str
    text: str
    starts: bool = False


def template_directory() -> Path:
    """Where the templates lie: inside the package where it was built, else at the top of the sources."""
    packaged = Path(__file__).with_name("templates")
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "systemd"


def render(topology: Topology, name: str) -> list[Rendered]:
    """Every file of a node, in the order of their paths. Raises TopologyError for a node that is not there."""
    context = topology.context(name)
    environment = jinja2.Environment(  # noqa: S701  # units are no HTML; topology.py lets no special character through
        loader=jinja2.FileSystemLoader(template_directory()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"in_url": in_url, "in_unit": in_unit, "parent": parent}
    settings = f"{context['service']['settings'].lstrip('/')}/{name}.env"
    starting = {f"{_UNITS}/etcdpy.service"} | ({settings} if context["service"]["style"] == "environment" else set())
    places = {
        "etcdpy.service.j2": f"{_UNITS}/etcdpy.service",
        "etcdpy@.service.j2": f"{_UNITS}/etcdpy@.service",
        "etcdpy.target.j2": f"{_UNITS}/etcdpy.target",
        "etcdpy-renew.service.j2": f"{_UNITS}/etcdpy-renew.service",
        "etcdpy-renew.timer.j2": f"{_UNITS}/etcdpy-renew.timer",
        "sysusers.conf.j2": "etc/sysusers.d/etcdpy.conf",
        "tmpfiles.conf.j2": "etc/tmpfiles.d/etcdpy.conf",
        "etcdpy.env.j2": settings,
    }
    if context["backup"] is not None:
        places["etcdpy-backup.service.j2"] = f"{_UNITS}/etcdpy-backup.service"
        places["etcdpy-backup.timer.j2"] = f"{_UNITS}/etcdpy-backup.timer"
    made = [
        Rendered(path, environment.get_template(file).render(context), path in starting)
        for file, path in places.items()
    ]
    return sorted(made, key=lambda each: each.path)


def in_url(address: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def in_unit(value: str) -> str:
    """A value as it stands in a unit's command line, where % and $ would be read."""
    return value.replace("%", "%%").replace("$", "$$")


def parent(path: str) -> str:
    """The directory that a path lies in."""
    return str(PurePosixPath(path).parent)
