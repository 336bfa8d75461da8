# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner as it was found: its files, its service, its container, and what the server knows of it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._docker import engine as _engine
from .._docker.engine import call
from .._files import File, read_file
from .._problem import Problem
from . import prune, wish
from .wish import CONFIG, CONTAINER, LABEL, TIMER, UNIT, Runner, Tools

if TYPE_CHECKING:
    from .._drone.client import Drone
    from .queue import Build

PINGED = "successfully pinged the remote server"
FIRST_WORDS = "starting the server"
# What a runner without Docker says each second: it has read its settings, and they are good.
REHEARSED = "cannot ping the docker daemon"
REHEARSAL = f"{CONTAINER}-rehearsal"


@dataclass(frozen=True)
class Service:
    """What systemd says of a unit."""

    state: str = "inactive"  # active, activating, deactivating (it drains), inactive or failed
    enabled: bool = False

    @property
    def active(self) -> bool:
        """Whether it takes builds, or will in a moment."""
        return self.state in ("active", "activating", "reloading")


@dataclass(frozen=True)
class Container:
    """The runner's container."""

    running: bool
    mark: str  # what it was started with; "" where we did not start it
    image: str
    started: float


@dataclass(frozen=True)
class World:
    """A host's runner as it was found."""

    files: Mapping[str, File] = field(default_factory=dict)
    service: Service = field(default_factory=Service)
    timer: Service = field(default_factory=Service)
    docker: bool = False  # whether the engine runs
    container: Container | None = None
    image: str = ""  # the id of the declared image, "" where the host has not got it
    pinged: bool = False
    builds: tuple[str, ...] = ()  # what may run here, by the labels of what it consists of
    strangers: tuple[str, ...] = ()  # other containers that run a runner
    lost: tuple[Build, ...] = ()


@dataclass(frozen=True)
class Policy:
    """How a runner is drained, and what happens when its builds take longer."""

    timeout: float
    then: str  # fail, cancel, kill
    drone: Drone | None
    name: str


def tools(mounted: Iterable[str]) -> Tools:
    """Return what of this host goes into the runner's files."""
    texts = {path: file.text for path in mounted for file in [read_file(path)] if file}
    lacks = [path for path in mounted if path not in texts]
    if lacks:
        raise Problem(f"{lacks[0]} cannot be read on this host", "put it there first, or name another file")
    source = sys.modules[prune.__name__].__loader__.get_source(prune.__name__)  # type: ignore[union-attr]
    # Not the very one that runs this: it may be in an environment of somebody's, or gone with the next release.
    python = next(
        (path for path in ("/usr/bin/python3", sys.executable) if path and os.path.exists(path)), "/usr/bin/python3"
    )
    return Tools(shutil.which("docker") or "/usr/bin/docker", python, source or "", texts)


def read(image: str, drone: Drone | None = None, name: str = "") -> World:
    """Return the runner of this host as it is now; with the server's client, also which builds a dead one has left."""
    files = {path: file for path in wish.paths() for file in [read_file(path)] if file}
    service, timer, docker = services(UNIT, TIMER, _engine.UNIT)
    if docker.state not in ("active", "reloading"):
        return World(files, service, timer)
    engine = prune.Engine()
    row = engine.get(f"/containers/{CONTAINER}/json")
    container = _container(row) if row else None
    have = (engine.get(f"/images/{image}/json") or {}).get("Id", "") if image else ""
    found = prune.find(engine, CONTAINER, builders=False)
    lost: tuple[Build, ...] = ()
    began = container.started if container and container.running else 0.0
    if drone:
        from . import queue

        lost = tuple(queue.lost(drone, name, began))
    return World(
        files,
        service,
        timer,
        True,
        container,
        have,
        bool(began) and has_pinged(),
        tuple(found.builds),
        _strangers(engine),
        lost,
    )


def has_pinged() -> bool:
    """Tell whether the runner has reached its server since it was started, as its own log says."""
    # Not by `docker logs`: to start the CLI takes longer than all the other questions together.
    first, last = "", ""
    for data in _engine.stream(f"/containers/{CONTAINER}/logs?stdout=1&stderr=1"):
        text = data.decode("utf-8", "replace")
        if PINGED in last + text:
            return True
        first, last = (first + text)[:4096], (last + text)[-len(PINGED) :]
    # A log whose beginning is gone tells of days of work. Before each line stand eight bytes: where it was said, and how long it is.
    line = first.partition("\r\n\r\n")[2][8:].partition("\n")[0]
    return line.startswith("time=") and not re.search(f"{FIRST_WORDS}|{REHEARSED}", line)


def mounted_ca(world: World) -> str | None:
    """Return the host's file of certificates that the runner trusts, as its own command line says."""
    script = world.files[wish.RUN].text if wish.RUN in world.files else ""
    match = re.search(rf"--volume=(\S+):{CONFIG}/ca\.pem:ro", script)
    return match.group(1) if match else None


def _container(row: Mapping[str, Any]) -> Container:
    state = row.get("State") or {}
    labels = (row.get("Config") or {}).get("Labels") or {}
    return Container(
        bool(state.get("Running")),
        labels.get(LABEL, ""),
        row.get("Image", ""),
        prune.seconds(state.get("StartedAt", "")),
    )


def services(*units: str) -> list[Service]:
    """Return what systemd says of each unit, in one question."""
    shown = call("systemctl", "show", *units, "--property=ActiveState,UnitFileState").text
    found = []
    for block in re.split(r"\n\s*\n", shown):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found.append(Service(said.get("ActiveState", "inactive"), said.get("UnitFileState") == "enabled"))
    return [*found, *[Service()] * len(units)][: len(units)]


def _strangers(engine: prune.Engine) -> tuple[str, ...]:
    rows = engine.get("/containers/json") or []
    names = [row["Names"][0].lstrip("/") for row in rows if prune.is_runner(row) and row.get("Names")]
    return tuple(name for name in names if name not in (CONTAINER, REHEARSAL))


def drains(world: World) -> bool:
    """Return whether a runner ends its builds, or runs without its service."""
    return world.service.state == "deactivating" or bool(world.container and world.container.running)


def runs(runner: Runner, world: World) -> str:
    """Return what runs on the host, compared with what is declared."""
    container = world.container
    if not (container and container.running) or not world.service.active:
        return "nothing"
    # A tag may have moved since.
    same = container.mark == runner.mark and (not world.image or container.image == world.image)
    return "what is declared" if same else "something else"
