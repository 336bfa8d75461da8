# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner, from the module's options to its result: wish, world, plan, and the world again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, carry_out
from .._platform import by_machine
from .._problem import Problem
from .._values import check_values
from .plan import as_diff, as_diff_absent, as_diff_drained, as_result, plan, plan_absent, plan_drained, stranger
from .variables import secret_values, variables
from .wish import ARGUMENTS, ENVIRONMENT, UNIT, Runner, bips, declare
from .world import Policy, World, read, tools

if TYPE_CHECKING:
    from .._arguments import Module
    from .._drone.client import Drone


def work(module: Module) -> dict[str, Any]:
    """Return the result of drone_runner."""
    wanted = dict(module.params)
    check_values(ARGUMENTS, wanted)
    module.no_log_values.update(filter(None, secret_values(wanted)))
    wanted["name"] = wanted["name"] or os.uname().nodename.partition(".")[0]
    policy = Policy(wanted["drain_timeout"], wanted["on_drain_timeout"], _client(module), wanted["name"])
    if wanted["state"] == "present":
        return _present(module, wanted, policy)
    return _absent(module, policy) if wanted["state"] == "absent" else _drained(module, policy)


def _present(module: Module, wanted: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    runner = _runner(wanted)
    module.no_log_values.add(runner.secret)
    world = read(runner.image, policy.drone, runner.name)
    if not world.docker and not module.check_mode:
        raise Problem("no Docker engine runs on this host", "start it first: role multiarch.drone.docker_engine")
    if world.strangers:
        module.warn(f"another runner runs on this host as well ({', '.join(world.strangers)}): drain and remove it")
    if policy.drone:
        _warn_of_long_builds(module, policy.drone, wanted["stop_timeout"])
    if not wanted["validate_certs"] and not policy.drone:  # whose client has warned
        module.warn("validate_certs is false: whoever answers in the server's place gets the runner's secret")
    refused = "" if runner.own_network else _ping(wanted, runner.secret)
    if world.builds and not policy.drone:
        _warn_of_unreported_builds(module, wanted, runner, world)
    seen = [world]

    def reread() -> dict[str, Any]:
        seen.append(read(runner.image))  # without the server: what the change has lost there is looked for afterwards
        return as_diff(runner, seen[-1])

    steps = plan(runner, world, policy, wanted["ready_timeout"], refused)
    result = carry_out(steps, check_mode=module.check_mode, reread=reread)
    waited = world.builds if any("drain" in step for step in result["steps"]) else ()
    return {
        **result,
        "runner": {**as_result(runner, seen[-1], waited), "reaches_server": not refused},
        "cancelled": [*map(str, world.lost), *_cancel_lost_by(result, module, policy)],
    }


def _absent(module: Module, policy: Policy) -> dict[str, Any]:
    world = read("", policy.drone, policy.name)
    foreign = stranger(world)
    if foreign:
        module.warn(f"{foreign.what}: it stays, and so does all that belongs to it")
        return {**carry_out(Plan({}, {}), check_mode=module.check_mode), "cancelled": []}
    result = carry_out(
        plan_absent(world, policy),
        check_mode=module.check_mode,
        reread=lambda: as_diff_absent(read("")),
    )
    return {**result, "cancelled": [*map(str, world.lost), *_cancel_lost_by(result, module, policy)]}


def _drained(module: Module, policy: Policy) -> dict[str, Any]:
    result = carry_out(
        plan_drained(read(""), policy), check_mode=module.check_mode, reread=lambda: as_diff_drained(read(""))
    )
    return {**result, "cancelled": _cancel_lost_by(result, module, policy)}


def _cancel_lost_by(result: Mapping[str, Any], module: Module, policy: Policy) -> list[str]:
    """Cancel the builds that a change has lost: those whose end the server did not let the old runner report.

    So it is where the RPC secret was rotated on the server while builds ran. The runner is as declared all the same: what
    cannot be cancelled is a warning.
    """
    if module.check_mode or not policy.drone or not any(UNIT in step for step in result["steps"]):
        return []
    try:
        lost = read("", policy.drone, policy.name).lost
        if lost:
            from .queue import cancel

            cancel(policy.drone, lost)
    except (Problem, OSError) as error:
        module.warn(f"Drone may go on to show builds of {policy.name} as running; cancel them there: {error}")
        return []
    return [str(build) for build in lost]


def _client(module: Module) -> Drone | None:
    """Return the server's client where there is an administrator's token for it."""
    if not module.params["drone_token"]:
        return None
    if not module.params["drone_url"]:
        raise Problem("drone_token is of no use without drone_url", "name the server as well")
    from .._drone.client import Drone

    drone = Drone.of(module)
    drone.need_admin("the server's queue")
    return drone


def _runner(wanted: Mapping[str, Any]) -> Runner:
    """Return the declared runner, checked against what this host reaches."""
    lacks = [option for option in ("drone_url", "rpc_secret") if not wanted[option]]
    if lacks:
        raise Problem(f"a runner needs {' and '.join(lacks)}", "give them: without them it would crash in a loop")
    mounted = [wanted[option] for option in ("docker_config", "ca_path") if wanted[option]]
    runner = declare(wanted, tools(mounted), by_machine(os.uname().machine))
    if bips(wanted):
        from . import bridges

        bridges.check(bips(wanted), runner, wanted["registries"])
    return runner


def _warn_of_long_builds(module: Module, drone: Drone, stop_timeout: int) -> None:
    """Warn where a build may run for longer than whoever stops Docker waits for it."""
    slow = [row for row in drone.repos() if row.get("active") and row.get("timeout", 0) * 60 > stop_timeout]
    if slow:
        longest = max(slow, key=lambda row: row["timeout"])
        module.warn(
            f"a build of {longest['slug']} may take {longest['timeout']} minutes, and who stops Docker or the machine "
            f"waits for {stop_timeout} s: raise stop_timeout"
        )


def _warn_of_unreported_builds(module: Module, wanted: Mapping[str, Any], runner: Runner, world: World) -> None:
    """Warn where the server no longer takes the secret of the runner that has builds, and nobody can cancel them."""
    file = world.files.get(ENVIRONMENT)
    old = variables(file.text).get("DRONE_RPC_SECRET", "") if file else ""
    if old and old != runner.secret:
        module.no_log_values.add(old)
        if not runner.own_network and _ping(wanted, old):
            module.warn(
                f"the server does not take the secret any more with which this runner has {', '.join(world.builds)}: Drone "
                "will go on to show them as running; cancel them there, or give drone_token"
            )


def _ping(wanted: Mapping[str, Any], secret: str) -> str:
    """Return why the server would not serve a runner with this secret, or ""."""
    from .queue import ping

    return ping(
        wanted["drone_url"],
        secret,
        validate_certs=wanted["validate_certs"],
        ca_path=wanted["ca_path"],
        timeout=min(wanted["timeout"], 10),
    )
