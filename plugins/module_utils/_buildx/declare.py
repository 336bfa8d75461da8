# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the module buildx_builder does, from parameters to result.

What a converged builder does not need is imported where it is needed, and what it needs for the answers is while it waits.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, carry_out
from .._docker.cli import Docker, context_host
from .._problem import Problem
from .store import OUR_LOCK, Store, check_name
from .wish import wish_of
from .world import Options, ask, by_stored_name, read

if TYPE_CHECKING:
    from collections.abc import Callable


def declare(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make a builder what the parameters say, and return the module's result."""
    docker, store = Docker(params["docker_cli"]), Store(dict(os.environ))
    check_name(params["name"])
    exclusive = params["exclusive"]
    if exclusive is not None and params["state"] == "present" and params["name"] not in exclusive:
        raise Problem(f"exclusive leaves out {params['name']}, which shall be present", "add it")
    # One play at a time for each user. buildx's own lock is taken only for moments, so that builds go on meanwhile.
    with contextlib.nullcontext() if check_mode else store.exclusive_lock(OUR_LOCK):
        if params["state"] == "absent":
            result = _absent(docker, store, params, check_mode)
        elif params["driver"] == "docker":
            result = _engine(docker, store, params, check_mode)
        else:
            result = _present(docker, store, params, check_mode)
    return result


def variables(params: Mapping[str, Any]) -> list[str]:
    """Return the values of the variables that nodes set for their daemons, which may be secrets; the arguments are unchecked."""
    nodes = params.get("nodes")
    found = []
    for node in nodes if isinstance(nodes, list) else [nodes]:
        opts = node.get("driver_opts") if isinstance(node, Mapping) else None
        for name, value in opts.items() if isinstance(opts, Mapping) else ():
            # What is short, or a number, stands in every output: hidden, it would make that unreadable.
            if str(name).startswith("env.") and len(str(value)) >= 6 and not str(value).isdigit():
                found.append(str(value))
    return found


def _present(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    left: list[str] = []
    wish = wish_of(params, store)
    asked = ask(docker, store, wish, bootstrap=params["bootstrap"])
    from .drivers import driver_of
    from .facts import entry
    from .plan import plan, state

    keep_cache = params["keep_cache"] is not False
    options = Options(params["recreate"], params["bootstrap"], keep_cache, params["default"], params["timeout"])
    world = read(docker, store, wish, options, asked)
    way = plan(docker, store, wish, world, options)
    made = world.stored is None
    rest, reread_rest = _beside(docker, store, params, way.clearance, left)

    def reread() -> dict[str, Any]:
        nonlocal world
        world = read(docker, store, wish, options, again=True)
        return state(wish, world, options, way.outdated)

    result = carry_out(way.change, check_mode=check_mode, reread=reread)
    if result["changed"] and not check_mode:
        with store.transaction() as txn:
            txn.let_go(os.path.join("instances", wish.builder.name))
        driver_of(wish.builder.driver).discard(docker, wish.builder.nodes)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    result["builder"] = entry(world.stored, by_stored_name(wish, world), store.current()) if world.stored else None
    result["drift"] = [f"{node}: {text}" for node, texts in way.drift.items() for text in texts]
    result["made"] = made
    result["warnings"] = [*wish.warnings, *left]
    return result


def _absent(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name = params["name"]
    if name == "default" or context_host(store.env, name):
        raise Problem(f"{name!r} is a Docker context's own builder", "it goes with its context")
    from .remove import builder_steps

    left: list[str] = []
    stored = store.builder(name)
    steps = builder_steps(docker, store, stored, keep_cache=bool(params["keep_cache"]), left=left) if stored else ()
    plan = Plan({"builder": "present" if stored else "absent"}, {"builder": "absent"}, list(steps))
    rest, reread_rest = _beside(docker, store, params, Plan({}, {}), left)

    def reread() -> dict[str, Any]:
        return {"builder": "absent" if store.builder(name) is None else "present"}

    result = carry_out(plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    return {**result, "builder": None, "drift": [], "made": False, "warnings": left}


def _engine(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    from .docker_driver import engine
    from .facts import entry

    left: list[str] = []
    own = engine(docker, store, params)
    rest, reread_rest = _beside(docker, store, params, Plan({}, {}), left)

    def reread() -> dict[str, Any]:
        return {**own.plan.after, **({"default": store.current() == ""} if params["default"] is not None else {})}

    result = carry_out(own.plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    builder = {**entry(own.builder, own.running, params["name"]), "default": store.current() == ""}
    return {**result, "builder": builder, "drift": [], "made": False, "warnings": left}


def _beside(
    docker: Docker, store: Store, params: Mapping[str, Any], plan: Plan, left: list[str]
) -> tuple[Plan, Callable[[], Mapping[str, Any]]]:
    """Return a plan with what the task changes beside its builder after its own, and what reads that again."""
    if params["exclusive"] is None and not params["remove_orphans"]:
        return plan, lambda: plan.after
    from .remove import Beside

    beside = Beside(docker, store, params, left)
    whole = beside.add(plan)
    return whole, lambda: {**whole.after, **beside.state(whole)}


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of two plans, of which the second cannot be taken back and so came after the first was proven."""
    return {
        "changed": first["changed"] or second["changed"],
        "steps": [*first["steps"], *second["steps"]],
        "diff": {side: {**first["diff"][side], **second["diff"][side]} for side in ("before", "after")},
    }
