# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a change, each with its way back: the user's files, the start, the containers of the driver docker-container."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Step
from .._problem import Problem
from .node import aside, daemon_options, image_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._docker.cli import Docker
    from .driver import Driver
    from .node import Running
    from .store import Node, Store


def write_builder(store: Store, name: str, summary: str, old: bytes | None, new: bytes) -> Step:
    """Return the step that puts a builder's file in the place of the old one, which is kept until the change holds."""
    relative = os.path.join("instances", name)

    def apply() -> None:
        with store.transaction() as txn:
            txn.expect(relative, old)
            txn.keep(relative)
            try:
                txn.write(relative, new)
            except Problem:
                txn.let_go(relative)
                raise

    def undo() -> None:
        with store.transaction() as txn:
            txn.expect(relative, new)
            txn.put_back(relative)

    return Step(summary, apply, undo)


def set_default(store: Store, name: str, what: str) -> Step:
    """Return the step that makes a builder the default one; "" is the Docker context's own."""
    kept = store.default_files()

    def apply() -> None:
        with store.transaction() as txn:
            txn.set_default(name)

    def undo() -> None:
        with store.transaction() as txn:
            txn.restore(kept)

    return Step(f"make {what} the default builder", apply, undo)


def forget_builder(store: Store, name: str, raw: bytes | None) -> Step:
    """Return the step after which a user's files know a builder no more."""
    relative = os.path.join("instances", name)
    kept: dict[str, bytes | None] = {}

    def apply() -> None:
        with store.transaction() as txn:
            txn.expect(relative, raw)
            if store.current() == name:
                kept.update(store.default_files())
                txn.set_default("")
            txn.write(relative, None)
            txn.write(os.path.join("activity", name), None)
            txn.let_go(relative)

    def undo() -> None:
        with store.transaction() as txn:
            txn.restore({relative: raw, **kept})

    return Step(f"remove the builder {name}", apply, undo)


def start(
    driver: Driver,
    docker: Docker,
    name: str,
    nodes: Sequence[Node],
    raw: bytes,
    now: Mapping[str, Running],
    outdated: Iterable[str],
    timeout: float,
) -> Step:
    """Return the step that starts every node and proves that it answers and builds what it declares."""
    memory: list[Any] = []

    def apply() -> None:
        memory[:] = [driver.remember(docker, name, nodes, raw, now)]
        try:
            check_answers(nodes, driver.start(docker, name, nodes, raw, timeout))
            driver.prove(docker, name, nodes, raw, timeout)
        except Problem:
            undo()
            raise

    def undo() -> None:
        driver.stop(docker, name, nodes, raw, now, outdated, memory[0])

    return Step(f"start {name}: every node must answer", apply, undo)


def check_answers(nodes: Iterable[Node], now: Mapping[str, Running]) -> None:
    """Raise a Problem where a node does not answer, or executes less than it declares."""
    from .node import RUNNING, cannot_build

    for node in nodes:
        there = now.get(node.name)
        # buildx ends well although a node that it could not even ask is left out.
        if there is None or there.status != RUNNING or there.error:
            why = (there and (there.error or there.status)) or "buildx reports nothing about it"
            raise Problem(
                f"node {node.name} at {node.endpoint} does not answer: {why}",
                "look at that BuildKit, and at the way to it",
            )
        missing = cannot_build(node, there)
        if missing:
            raise Problem(
                f"node {node.name} declares {', '.join(missing)}, and its BuildKit executes only {', '.join(there.platforms)}",
                "register QEMU there (multiarch.drone.binfmt_qemu), or declare the platform on a node that has it",
            )


# Containers


def pull(docker: Docker, node: Node, timeout: float) -> Step:
    """Return the step that pulls a node's image."""
    reach, image = daemon_options(node), image_of(node)
    return Step(
        f"pull {image}",
        lambda: docker.run(*reach, "pull", "--quiet", image, timeout=timeout),
        lambda: docker.run(*reach, "image", "rm", image, check=False),
    )


def set_aside(docker: Docker, node: Node, status: str, why: Iterable[str]) -> Step:
    """Return the step that stops and renames a node's container, so that its successor gets its name and its volume."""
    reach, container = daemon_options(node), node.container

    def apply() -> None:
        docker.run(*reach, "rm", "--force", aside(container), check=False)  # of a run that was killed
        # In this order: a container that runs under another name would keep the volume from the next one.
        docker.run(*reach, "stop", container)
        try:
            docker.run(*reach, "rename", container, aside(container))
        except Problem:
            docker.run(*reach, "start", container, check=False)
            raise

    def undo() -> None:
        docker.run(*reach, "rename", aside(container), container)
        if status != "stopped":
            docker.run(*reach, "start", container)

    aspects = ", ".join(dict.fromkeys(difference.split(":")[0] for difference in why))
    return Step(f"make {container} anew, its cache kept ({aspects})", apply, undo)


def remove_container(docker: Docker, node: Node, *, keep_cache: bool) -> Step:
    """Return the step that removes a node's container, and the volume with its cache; neither can be put back."""
    reach = daemon_options(node)

    def apply() -> None:
        # With what a task that was killed has set aside: it would hold the volume.
        gone = docker.run(*reach, "rm", "--force", node.container, aside(node.container), check=False)
        if gone.rc and re.sub(r"(?im)^error.*no such container.*$", "", gone.err).strip():
            raise gone.problem()
        if not keep_cache:
            gone = docker.run(*reach, "volume", "rm", node.volume, check=False)
            if gone.rc and not re.search("no such volume", gone.err, re.IGNORECASE):
                raise gone.problem()

    return Step(f"remove {node.container}{'' if keep_cache else ' and its cache'}", apply)


def empty_cache(docker: Docker, node: Node, timeout: float) -> Step:
    """Return the step that empties a node's cache."""
    command = ("exec", node.container, "buildctl", "prune", "--all")
    return Step(f"empty the cache of {node.name}", lambda: docker.run(*daemon_options(node), *command, timeout=timeout))
