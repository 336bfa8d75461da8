# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a builder is changed so that at every moment, failure and kill included, the old one or the new one works.

1. buildx makes the new builder in a directory of its own (`BUILDX_CONFIG`): whatever it refuses, nothing is touched.
2. What runs and differs makes way without being lost: a container is set aside, a deployment stays beside the new one.
3. The new builder starts from that directory, and every node must answer and know its platforms.
4. Only then its file is moved into the user's state, under buildx's lock. What was replaced is removed last.

If the task is killed between two of these, the user's file still names the old builder, which buildx starts again with the
next build. The comparison is pure; the steps do nothing until they are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._change import Plan, Step
from .._problem import Problem
from .drivers import driver_of
from .node import RUNNING
from .wish import stored_state, wished_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._docker.cli import Docker
    from .driver import Driver
    from .store import Node, Store
    from .wish import Wish
    from .world import Options, World


class Way(NamedTuple):
    """The way to a declared builder: the change, which can be taken back, and what is cleared away when it holds."""

    change: Plan
    clearance: Plan
    outdated: Mapping[str, str]  # by node: the identity of what is to be replaced
    drift: Mapping[str, list[str]]  # by node: where what runs differs


def plan(docker: Docker, store: Store, wish: Wish, world: World, options: Options) -> Way:
    """Compare, and return the steps that make the declared builder."""
    driver = driver_of(wish.builder.driver)
    _check_driver(wish, world, options)
    before = state(wish, world, options, {})
    after = _wanted(wish, world, options)
    drift = {node.name: list(before.get(f"{node.name} drift") or ()) for node in _compared(driver, wish, world)}
    outdated = _outdated(driver, wish, world, options, drift)
    steps = list(_steps(docker, store, wish, world, options, before, after, outdated, drift)) if before != after else []
    way = Way(Plan(before, after, steps), _clearance(docker, wish, world, options, outdated), outdated, drift)
    if steps and world.staged is not None:
        if driver.moves and world.stored is not None and options.recreate == "never":
            raise Problem(
                f"the deployments of {wish.builder.name} differ from what is declared, and recreate is never",
                "recreate: auto makes new ones beside them, and removes the old ones when the new ones answer",
            )
        driver.check_staged(docker, wish.builder.name, world.staged)
    return way


def state(wish: Wish, world: World, options: Options, outdated: Mapping[str, str]) -> dict[str, Any]:
    """Return the world in the form in which it is compared and shown; `outdated` is what was to be replaced."""
    driver = driver_of(wish.builder.driver)
    found = stored_state(wish, world.stored)
    for node in _compared(driver, wish, world):
        now = world.running[node.name]
        found[f"{node.name} drift"] = driver.drift(node, wish.config, now)
        if options.bootstrap:
            found[f"{node.name} status"] = now.status
        if options.recreate == "always":
            replaced = node.name in outdated and driver.identity(node, now) != outdated[node.name]
            found[f"{node.name} created anew"] = replaced
    if options.default is not None:
        found["default"] = world.current == wish.builder.name
    return found


def _wanted(wish: Wish, world: World, options: Options) -> dict[str, Any]:
    driver = driver_of(wish.builder.driver)
    wanted = wished_state(wish)
    for node in _compared(driver, wish, world):
        wanted[f"{node.name} drift"] = []
        if options.bootstrap:
            wanted[f"{node.name} status"] = RUNNING
        if options.recreate == "always":
            wanted[f"{node.name} created anew"] = bool(driver.identity(node, world.running[node.name]))
    if options.default is not None:
        wanted["default"] = options.default
    return wanted


def _compared(driver: Driver, wish: Wish, world: World) -> Iterable[Node]:
    """Yield the nodes, as buildx stores them and by their declared names, of which what runs is compared."""
    if driver.compared:
        for node in driver.as_declared(world.target, wish.builder).nodes:
            if node.name in world.running:
                yield node


def _check_driver(wish: Wish, world: World, options: Options) -> None:
    name, driver = wish.builder.name, wish.builder.driver
    if world.stored is not None and world.stored.driver != driver and options.recreate != "always":
        raise Problem(
            f"the builder {name} exists with the driver {world.stored.driver}, not {driver}",
            "take another name, or recreate: always, which replaces it",
        )


def _outdated(
    driver: Driver, wish: Wish, world: World, options: Options, drift: Mapping[str, list[str]]
) -> dict[str, str]:
    """Return the nodes of which what runs must be made anew; a Problem where that is forbidden."""
    outdated: dict[str, str] = {}
    stored = driver.as_declared(world.stored, wish.builder).nodes if world.stored is not None else ()
    owned = {node.name for node in stored}
    for node in _compared(driver, wish, world):
        now, differences = world.running[node.name], drift[node.name]
        identity = driver.identity(node, now)
        if not identity:
            continue
        if differences and node.name not in owned and options.recreate != "always":
            raise Problem(
                f"a container {node.container} is there, and no builder of this user has it: {'; '.join(differences)}",
                "where it is another user's, name the node otherwise; where it is nobody's, recreate: always replaces it",
                drift=differences,
            )
        if differences and options.recreate == "never":
            raise Problem(
                f"node {node.name} differs from what is declared, and recreate is never: {'; '.join(differences)}",
                "recreate: auto makes it anew",
                drift=differences,
            )
        if differences or options.recreate == "always":
            outdated[node.name] = identity
    return outdated


def _steps(
    docker: Docker,
    store: Store,
    wish: Wish,
    world: World,
    options: Options,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    outdated: Mapping[str, str],
    drift: Mapping[str, list[str]],
) -> Iterable[Step]:
    from .steps import set_default, start, write_builder

    name, driver, nodes = wish.builder.name, driver_of(wish.builder.driver), world.target.nodes
    why = {node: drift[node] for node in outdated}
    yield from driver.before_start(
        docker, nodes, world.running, why, bootstrap=options.bootstrap, timeout=options.timeout
    )
    unlike = [key for key in {**after, **before} if key != "default" and before.get(key) != after.get(key)]
    raw = world.staged if world.staged is not None else world.raw or b""
    if options.bootstrap and unlike:
        running = driver.beside(world.target, world.stored, world.running)
        yield start(driver, docker, name, nodes, raw, running, outdated, options.timeout)
    if world.staged is not None:
        verb, what = "create", wish.builder.driver
        if world.stored is not None:
            verb = "change"
            what = ", ".join(driver.changed_aspects(unlike))
        yield write_builder(store, name, f"{verb} the builder {name} ({what})", world.raw, raw)
    if options.default is not None and before["default"] != after["default"]:
        wanted = name if after["default"] else ""
        yield set_default(store, wanted, wanted or "the Docker context")


def _clearance(docker: Docker, wish: Wish, world: World, options: Options, outdated: Mapping[str, str]) -> Plan:
    """Return what is to be cleared away once the new builder is proven: nothing of it can be put back."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    steps: list[Step] = []
    if world.stored is not None and world.staged is not None:
        old = driver_of(world.stored.driver)
        kept = {(node.name, node.endpoint) for node in world.target.nodes}
        nodes = [node for node in world.stored.nodes if (node.name, node.endpoint) not in kept]
        raw = world.raw or b""
        for node in nodes:
            gone = list(old.removal(docker, wish.builder.name, [node], raw, keep_cache=options.keep_cache))
            if gone:
                before[old.place(node)], after[old.place(node)] = "there", "gone"
            steps += gone
    driver = driver_of(wish.builder.driver)
    for node in wish.builder.nodes:
        if node.name in outdated and not options.keep_cache and options.bootstrap:
            step = driver.empty_cache(docker, node, options.timeout)
            if step:
                before[f"{node.name} cache"], after[f"{node.name} cache"] = "kept", "emptied"
                steps.append(step)
    return Plan(before, after, steps)
