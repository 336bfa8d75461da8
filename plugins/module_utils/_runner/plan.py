# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a host's Drone runner as it was found to what is declared: the steps, and what the diff and the result say. Without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._change import Plan, Step
from .._problem import Problem
from .variables import shown, variables
from .wish import BUILDS, CONTAINER, ENVIRONMENT, HEAD, PRUNER, TIMER, UNIT, UNITS, Runner
from .world import Policy, World, drains, runs

if TYPE_CHECKING:
    from .._files import File


def plan(runner: Runner, world: World, policy: Policy, ready: float, refused: str) -> Plan:
    """Return the steps to the declared runner; `refused` says why the server would not serve it."""
    _refuse_strangers(world)
    wrong = _wrong(runner, world)
    restart = runs(runner, world) != "what is declared" or not world.pinged
    if restart and refused:
        raise Problem(refused, "nothing was changed: check drone_url, rpc_secret and the server")
    units = [
        (unit, state, wanted)
        for unit, state, wanted in ((UNIT, world.service, True), (TIMER, world.timer, runner.prunes))
        if state.enabled != wanted or (unit == TIMER and state.active != wanted)
    ]
    before, after = as_diff(runner, world), _promise(runner)
    if world.image and not (wrong or restart or units or world.lost):
        return Plan(before, after)
    from . import steps  # who finds the runner as declared, which is most of the time, does without

    found: list[Step] = []
    change = steps.Change(runner, world, policy, ready)
    if not world.image:
        found.append(change.pull())
    if wrong:
        found.append(change.write(wrong, rehearse=restart))
    if restart:
        found.append(change.restart())
    found += [steps.enable(unit, state, wanted, now=unit == TIMER) for unit, state, wanted in units]
    return Plan(before, after, found, [steps.cancel_lost(policy, world.lost)] if world.lost else [])


def as_diff(runner: Runner, world: World) -> dict[str, Any]:
    """Return the runner as the diff shows it: of secrets only whether they are the declared ones."""
    return {
        "image": runner.image if world.image else "not here",
        **_files_shown(runner, world.files),
        "service": {
            "active": world.service.active,
            "enabled": world.service.enabled,
            "runs": runs(runner, world),
            "pinged its server": world.pinged,
        },
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_absent(world: World, policy: Policy) -> Plan:
    """Return the steps after which a host has no runner; what builds have left behind stays."""
    _refuse_strangers(world)
    before, after = as_diff_absent(world), as_diff_absent(World())
    if before == after:
        return Plan(before, after)
    from . import steps

    found: list[Step] = []
    if world.service.active or drains(world):
        found.append(steps.drain_and_stop(world, policy))
    for unit, state in ((UNIT, world.service), (TIMER, world.timer)):
        if state.enabled or (unit == TIMER and state.active):
            found.append(steps.enable(unit, state, False, now=True))
    if world.files:
        found.append(steps.remove(world))
    return Plan(before, after, found, [steps.cancel_lost(policy, world.lost)] if world.lost else [])


def as_diff_absent(world: World) -> dict[str, Any]:
    """Return what there is of a runner that shall not be."""
    return {
        "files": sorted(world.files),
        "service": {"active": world.service.active or drains(world), "enabled": world.service.enabled},
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_drained(world: World, policy: Policy) -> Plan:
    """Return the step after which the runner of a host has ended its builds and takes none, until it is started again."""
    before, after = as_diff_drained(world), {"service": {"active": False}}
    if before == after:
        return Plan(before, after)
    from . import steps

    return Plan(before, after, [steps.drain_and_stop(world, policy)])


def as_diff_drained(world: World) -> dict[str, Any]:
    """Return whether the runner may have builds."""
    return {"service": {"active": world.service.active or drains(world)}}


def as_result(runner: Runner, world: World, waited: Iterable[str]) -> dict[str, Any]:
    """Return what the result says of a declared runner."""
    return {
        "name": runner.name,
        "server": runner.server,
        "image": runner.image,
        "platform": runner.platform,
        "capacity": int(runner.environment["DRONE_RUNNER_CAPACITY"]),
        "privileged_images": runner.privileged_images,
        "healthy": runs(runner, world) == "what is declared" and world.pinged and world.service.active,
        "builds": list(world.builds),
        "waited_for": list(waited),
    }


def stranger(world: World) -> Problem | None:
    """Return what is in a runner's place and is of somebody else, or None."""
    if world.container and not world.container.mark:
        return Problem(
            f"a container {CONTAINER} is there already, which this module has not made",
            f"drain and remove it: docker stop -t 3600 {CONTAINER}; docker rm {CONTAINER}",
        )
    unit = f"{UNITS}/{UNIT}"
    if unit in world.files and not world.files[unit].text.startswith(HEAD):
        return Problem(f"{unit} is there already, which this module has not made", f"stop {UNIT} and remove the file")
    return None


def _refuse_strangers(world: World) -> None:
    problem = stranger(world)
    if problem:
        raise problem


def _wrong(runner: Runner, world: World) -> list[str]:
    wrong = [path for path, file in runner.files.items() if world.files.get(path) != file]
    return [*wrong, *(path for path in world.files if path not in runner.files)]


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
            if path in runner.files and file.text != runner.files[path].text and variables(file.text) == wanted:
                text["#"] = "lines that set nothing, or another order"  # a change that the diff does not show is none
        elif path == PRUNER:
            text = "as declared" if path in runner.files and file.text == runner.files[path].text else "another"
        seen[path] = {"content": text, "mode": f"{file.mode:04o}", "owner": file.owner}
    return seen
