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
from .node import ask_for
from .store import Store, check_name
from .wish import wish_of

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
    with contextlib.nullcontext() if check_mode else store.lock(".multiarch.drone.lock"):
        if params["state"] == "absent":
            result = _absent(docker, store, params, check_mode)
        elif params["driver"] == "docker":
            result = _engine(docker, store, params, check_mode)
        else:
            result = _present(docker, store, params, check_mode)
    return result


def _present(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    wish = wish_of(params, store)
    asked = ask_for(docker, store, wish, bootstrap=params["bootstrap"])
    from .facts import entry
    from .plan import Change, Options

    keep_cache = params["keep_cache"] is not False
    options = Options(params["recreate"], params["bootstrap"], keep_cache, params["default"], params["timeout"])
    change = Change(docker, store, wish, options)
    try:
        world = change.read(asked)
        plan = change.plan(world)
        rest, reread_rest = _beside(docker, store, params, change.clearance(world))

        def reread() -> dict[str, Any]:
            nonlocal world
            world = change.read()
            return change.state(world)

        result = carry_out(plan, check_mode=check_mode, reread=reread)
        if result["changed"] and not check_mode:
            change.discard()
        result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    finally:
        change.close()
    result["builder"] = entry(world.stored, world.running, store.current()) if world.stored else None
    result["drift"] = [f"{node}: {text}" for node, texts in change.found.items() for text in texts]
    result["warnings"] = list(wish.warnings)
    return result


def _absent(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name = params["name"]
    if name == "default" or context_host(store.env, name):
        raise Problem(f"{name!r} is a Docker context's own builder", "it goes with its context")
    from .remove import builder_steps

    stored = store.builder(name)
    steps = builder_steps(docker, store, stored, keep_cache=bool(params["keep_cache"])) if stored else ()
    plan = Plan({"builder": "present" if stored else "absent"}, {"builder": "absent"}, list(steps))
    rest, reread_rest = _beside(docker, store, params, Plan({}, {}))

    def reread() -> dict[str, Any]:
        return {"builder": "absent" if store.builder(name) is None else "present"}

    result = carry_out(plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    return {**result, "builder": None, "drift": [], "warnings": []}


def _engine(docker: Docker, store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    from .docker_driver import engine
    from .facts import entry

    own = engine(docker, store, params)
    rest, reread_rest = _beside(docker, store, params, Plan({}, {}))

    def reread() -> dict[str, Any]:
        return {**own.plan.after, **({"default": store.current() == ""} if params["default"] is not None else {})}

    result = carry_out(own.plan, check_mode=check_mode, reread=reread)
    result = _both(result, carry_out(rest, check_mode=check_mode, reread=reread_rest))
    told = {**entry(own.builder, own.running, params["name"]), "default": store.current() == ""}
    return {**result, "builder": told, "drift": [], "warnings": []}


def _beside(
    docker: Docker, store: Store, params: Mapping[str, Any], plan: Plan
) -> tuple[Plan, Callable[[], Mapping[str, Any]]]:
    """Return a plan with what the task changes beside its builder after its own, and what reads that again."""
    if params["exclusive"] is None and not params["remove_orphans"]:
        return plan, lambda: plan.after
    from .remove import Beside

    beside = Beside(docker, store, params)
    whole = beside.add(plan)
    return whole, lambda: {**whole.after, **beside.state(whole)}


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of two plans, of which the second cannot be taken back and so came after the first was proven."""
    return {
        "changed": first["changed"] or second["changed"],
        "steps": [*first["steps"], *second["steps"]],
        "diff": {side: {**first["diff"][side], **second["diff"][side]} for side in ("before", "after")},
    }
