# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is there of a declared builder: its file, what runs for its nodes, and the builder that buildx makes of the wish.

Asking and hearing are apart: what a task needs for the answers is imported meanwhile. Nothing here starts anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple

from .drivers import driver_of
from .store import Builder, Store, parse
from .wish import differs

if TYPE_CHECKING:
    from .._docker.cli import Docker
    from .node import Running
    from .wish import Wish


class Options(NamedTuple):
    """What a task says about the way of a change."""

    recreate: str = "auto"
    bootstrap: bool = True
    keep_cache: bool = True
    default: bool | None = None
    timeout: int = 300


class World(NamedTuple):
    """What is there, and what buildx makes of the wish where that is something else."""

    raw: bytes | None
    stored: Builder | None
    running: Mapping[str, Running]  # by the nodes' declared names
    current: str  # the default builder; "" where nobody asks
    target: Builder  # as buildx has stored it, or will
    staged: bytes | None  # the file of the target, where it is to be written


class Asked(NamedTuple):
    """A builder's file as it was read, and the way to the answers of those who were asked what runs for it."""

    raw: bytes | None
    stored: Builder | None
    same: bool  # the file says what is declared
    answers: Callable[[], Mapping[str, Running]] | None


def ask(docker: Docker, store: Store, wish: Wish, *, bootstrap: bool) -> Asked:
    """Read what is stored under a declared builder's name, and start to ask what runs for it."""
    name, driver = wish.builder.name, driver_of(wish.builder.driver)
    raw = store.read(os.path.join("instances", name))
    stored = None if raw is None else parse(raw, store.path(name))
    same = stored is not None and not differs(wish, stored)
    of_driver = stored if stored is not None and stored.driver == driver.name else None
    whom = driver.must_look(wish.builder, of_driver, same=same, bootstrap=bootstrap)
    return Asked(raw, stored, same, driver.look(docker, whom, raw if of_driver else None) if whom else None)


def read(
    docker: Docker, store: Store, wish: Wish, options: Options, asked: Asked | None = None, *, again: bool = False
) -> World:
    """Return what is there, of what was `asked` already where the caller had something else to do meanwhile.

    When it is read `again`, after a change, no other builder is made of a wish that the file fulfils.
    """
    asked = asked or ask(docker, store, wish, bootstrap=options.bootstrap)
    driver, raw, stored = driver_of(wish.builder.driver), asked.raw, asked.stored
    found: Mapping[str, Running] = asked.answers() if asked.answers else {}
    if stored is not None and asked.same and options.bootstrap:
        found = driver.settled(docker, wish.builder.nodes, raw or b"", found, options.timeout)
    mine = stored if stored is not None and stored.driver == driver.name else None
    names = [node.name for node in wish.builder.nodes]
    running = driver.running(mine, names, found)
    current = store.current() if options.default is not None else ""
    always = options.recreate == "always"
    if (
        stored is not None
        and asked.same
        and (again or not driver.must_move(stored, wish.config, running, always=always))
    ):
        return World(raw, stored, running, current, stored, None)
    from .stage import stage

    driver.check_owner(wish.builder, mine, found)
    staged, target = stage(docker, store, wish, driver.successor(wish.builder, mine, found))
    return World(raw, stored, running, current, target, staged)


def by_stored_name(wish: Wish, world: World) -> dict[str, Running]:
    """Return what runs by the names under which the nodes are stored."""
    if world.stored is None:
        return {}
    driver, names = driver_of(world.stored.driver), [node.name for node in wish.builder.nodes]
    found = {node.name: world.running.get(driver.declared_name(node.name, names)) for node in world.stored.nodes}
    return {name: now for name, now in found.items() if now is not None}
