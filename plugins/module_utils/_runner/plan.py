# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner as it was found: its files, its service, its container; and the plan from there to what is declared."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping

from .._change import Plan, Step
from .._docker import engine as _engine
from .._docker.engine import call, must
from .._files import File, names, read_file
from .._problem import Problem
from . import prune, wish
from .variables import shown, variables
from .wish import BUILDS, CONFIG, CONTAINER, ENVIRONMENT, LABEL, PRUNER, TIMER, UNIT, Runner, Tools

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


def plan(runner: Runner, world: World, policy: Policy, ready: float, refused: str) -> Plan:
    """Return the steps to the declared runner; `refused` says why the server would not serve it."""
    _refuse_strangers(world)
    steps: list[Step] = []
    begun: list[str] = []
    wrong = _wrong(runner, world)
    restart = _runs(runner, world) != "what is declared" or not world.pinged
    if restart and refused:
        raise Problem(refused, "nothing was changed: check drone_url, rpc_secret and the server")
    if not world.image:
        steps.append(Step(f"pull {runner.image}", lambda: _change().pull(runner.image), lambda: None))
    if wrong:

        def write() -> None:
            if restart:
                _change().rehearse(runner)
            _change().write(runner.files, wrong)
            must("systemctl", "daemon-reload")

        steps.append(Step(f"write {names(wrong)}", write, lambda: _change().take_back(world, wrong, begun, ready)))
    if restart:

        def start() -> None:
            begun.append("drain")
            _change().drain(policy)
            begun.append("start")
            _change().begin(ready)

        what = "drain and restart" if world.service.state in ("active", "activating", "deactivating") else "start"
        steps.append(Step(f"{what} {UNIT}", start))
    for unit, state, wanted in ((UNIT, world.service, True), (TIMER, world.timer, runner.prunes)):
        now = ["--now"] if unit == TIMER else []
        if state.enabled != wanted or (unit == TIMER and state.active != wanted):
            verbs = ("enable", "disable") if wanted else ("disable", "enable")
            steps.append(Step(f"{verbs[0]} {unit}", *_both(verbs, [*now, unit])))
    if world.lost:
        steps.append(_cancel_lost(world.lost, policy))
    return Plan(shape(runner, world), _promise(runner), steps)


def shape(runner: Runner, world: World) -> dict[str, Any]:
    """Return the runner as the diff shows it: of secrets only whether they are the declared ones."""
    return {
        "image": runner.image if world.image else "not here",
        **_files_shown(runner, world.files),
        "service": {
            "active": world.service.active,
            "enabled": world.service.enabled,
            "runs": _runs(runner, world),
            "pinged its server": world.pinged,
        },
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_absent(world: World, policy: Policy) -> Plan:
    """Return the steps after which a host has no runner; what builds have left behind stays."""
    _refuse_strangers(world)
    steps: list[Step] = []
    if world.service.state in ("active", "activating", "deactivating") or (world.container and world.container.running):
        steps.append(Step(f"drain and stop {UNIT}", lambda: _change().drain(policy)))
    for unit, state in ((UNIT, world.service), (TIMER, world.timer)):
        if state.enabled or (unit == TIMER and state.active):
            steps.append(Step(f"disable {unit}", _both(("disable", "enable"), ["--now", unit])[0]))
    if world.files:
        steps.append(Step(f"remove {names(world.files)}", lambda: _change().remove(world)))
    if world.lost:
        steps.append(_cancel_lost(world.lost, policy))
    return Plan(shape_absent(world), shape_absent(World()), steps)


def shape_absent(world: World) -> dict[str, Any]:
    """Return what there is of a runner that shall not be."""
    return {
        "files": sorted(world.files),
        "service": {"active": world.service.active or _drains(world), "enabled": world.service.enabled},
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_drained(world: World, policy: Policy) -> Plan:
    """Return the step after which the runner of a host has ended its builds and takes none, until it is started again."""
    steps = []
    if world.service.active or _drains(world):
        steps.append(Step(f"drain and stop {UNIT}", lambda: _change().drain(policy)))
    return Plan(shape_drained(world), {"service": {"active": False}}, steps)


def shape_drained(world: World) -> dict[str, Any]:
    """Return whether the runner may have builds."""
    return {"service": {"active": world.service.active or _drains(world)}}


def told(runner: Runner, world: World, waited: Iterable[str]) -> dict[str, Any]:
    """Return what the result says of a declared runner."""
    return {
        "name": runner.name,
        "server": runner.server,
        "image": runner.image,
        "platform": runner.platform,
        "capacity": int(runner.environment["DRONE_RUNNER_CAPACITY"]),
        "privileged_images": runner.privileged_images,
        "healthy": _runs(runner, world) == "what is declared" and world.pinged and world.service.active,
        "builds": list(world.builds),
        "waited_for": list(waited),
    }


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


def _refuse_strangers(world: World) -> None:
    if world.container and not world.container.mark:
        raise Problem(
            f"a container {CONTAINER} is there already, which this module has not made",
            f"drain and remove it: docker stop -t 3600 {CONTAINER}; docker rm {CONTAINER}",
        )


def _drains(world: World) -> bool:
    return world.service.state == "deactivating" or bool(world.container and world.container.running)


def _wrong(runner: Runner, world: World) -> list[str]:
    wrong = [path for path, file in runner.files.items() if world.files.get(path) != file]
    return [*wrong, *(path for path in world.files if path not in runner.files)]


def _runs(runner: Runner, world: World) -> str:
    container = world.container
    if not (container and container.running) or not world.service.active:
        return "nothing"
    # A tag may have moved since.
    same = container.mark == runner.mark and (not world.image or container.image == world.image)
    return "what is declared" if same else "something else"


def _promise(runner: Runner) -> dict[str, Any]:
    return {
        "image": runner.image,
        **_files_shown(runner, runner.files),
        "service": {"active": True, "enabled": True, "runs": "what is declared", "pinged its server": True},
        "timer": {"active": runner.prunes, "enabled": runner.prunes},
        "lost builds": [],
    }


def _files_shown(runner: Runner, files: Mapping[str, File]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for path, file in files.items():
        text: Any = file.text.splitlines()
        if path in (ENVIRONMENT, BUILDS):
            wanted = variables(runner.files[path].text if path in runner.files else "")
            pairs = variables(file.text).items()
            text = {key: shown(key, value, wanted.get(key)) for key, value in pairs}
        elif path == PRUNER:
            text = "as declared" if path in runner.files and file.text == runner.files[path].text else "another"
        seen[path] = {"content": text, "mode": f"{file.mode:04o}", "owner": file.owner}
    return seen


def _cancel_lost(lost: Iterable[Build], policy: Policy) -> Step:
    what = f"cancel {', '.join(map(str, lost))}, which a dead runner has left running"
    return Step(what, lambda: _change().cancel(policy, lost))


def _change() -> Any:
    """Return what changes a runner: who finds it as declared, which is most of the time, does without."""
    from . import steps as _drone_runner_change

    return _drone_runner_change


def _both(verbs: tuple[str, str], words: list[str]) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: must("systemctl", verbs[0], *words), lambda: must("systemctl", verbs[1], *words)
