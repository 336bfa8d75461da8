# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a builder is changed so that at every moment, failure and kill included, the old one or the new one works.

1. buildx makes the new builder in a directory of its own (`BUILDX_CONFIG`): whatever it refuses, nothing was touched.
2. Containers that differ are stopped and renamed, not removed; their volume, which is the cache, stays where it is.
3. The new builder starts from that directory, and every node must answer and know its platforms.
4. Only then its file is moved into the user's state, under buildx's lock. What was set aside is removed last.

Should the task be killed between two of these, the user's file still names the old builder, whose container buildx starts,
or makes again on the same volume, with the next build.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._change import Plan, Step
from .._problem import Problem
from .drift import drift
from .drivers import DRIVERS
from .node import MISSING, RUNNING, Running, aside, ask_for, cannot_build, daemon_options, image_of, inspected
from .store import Builder, Node, Store, parse
from .wish import differs, stored_state, wished_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._docker.cli import Docker
    from .node import Asked
    from .wish import Wish


class Options(NamedTuple):
    """What a task says about the way of a change."""

    recreate: str = "auto"
    bootstrap: bool = True
    keep_cache: bool = True
    default: bool | None = None
    timeout: int = 300


class World(NamedTuple):
    """What is there: the builder as stored, what runs for the nodes that are declared, and which builder is the default."""

    raw: bytes | None
    stored: Builder | None
    running: Mapping[str, Running]
    current: str


class Change:
    """The way from what is there to a declared builder. `close` removes what the change needed for itself."""

    def __init__(self, docker: Docker, store: Store, wish: Wish, options: Options) -> None:
        self.docker = docker
        self.store = store
        self.wish = wish
        self.options = options
        self.name = wish.builder.name
        self.driver = wish.builder.driver
        self.contained = self.driver == "docker-container"
        self.staging = ""
        self.staged: tuple[bytes, Builder] | None = None
        self.volumes: dict[str, bool] = {}  # by node: whether its volume was there before we started it
        self.deployed = False  # whether deployments in a cluster are ours alone
        self.outdated: dict[str, str] = {}  # by node: the container to be replaced
        self.found: dict[str, list[str]] = {}  # by node: where its container differed

    def close(self) -> None:
        """Remove the directory in which the new builder was made."""
        if self.staging:
            shutil.rmtree(self.staging, ignore_errors=True)

    # What is there

    def read(self, asked: Asked | None = None) -> World:
        """Return what is there, of what was `asked` already where the caller had something else to do meanwhile."""
        asked = asked or ask_for(self.docker, self.store, self.wish, bootstrap=self.options.bootstrap)
        if self.contained or asked.stored is None or asked.answers is dict:
            now: Mapping[str, Running] = asked.answers()
        else:
            now = self._answering(asked)
        current = self.store.current() if self.options.default is not None else ""
        return World(asked.raw, asked.stored, now, current)

    def _answering(self, asked: Asked) -> Mapping[str, Running]:
        """Return the nodes that run elsewhere; one that does not answer, after waiting for it, is a Problem, not a change."""
        now = asked.answers()
        if any(node.status != RUNNING for node in now.values()):
            now = self._booted(self.wish.builder.nodes, asked.raw or b"")
        _check_platforms(self.wish.builder.nodes, now)
        return now

    def state(self, world: World) -> dict[str, Any]:
        """Return the world in the form in which it is compared and shown."""
        state = stored_state(self.wish, world.stored)
        target = self._target(world)
        for node in target.nodes:
            now = world.running.get(node.name)
            if now is None or not self.contained:
                continue
            state[f"{node.name} drift"] = drift(node, self.wish.config, now)
            if self.options.bootstrap:
                state[f"{node.name} status"] = now.status
            if self.options.recreate == "always":
                replaced = node.name in self.outdated and now.container.get("Id") != self.outdated[node.name]
                state[f"{node.name} created anew"] = replaced
        if self.options.default is not None:
            state["default"] = world.current == self.name
        return state

    def _wanted(self, world: World, target: Builder) -> dict[str, Any]:
        wanted = wished_state(self.wish)
        for node in target.nodes:
            now = world.running.get(node.name)
            if now is None or not self.contained:
                continue
            wanted[f"{node.name} drift"] = []
            if self.options.bootstrap:
                wanted[f"{node.name} status"] = RUNNING
            if self.options.recreate == "always":
                wanted[f"{node.name} created anew"] = bool(now.container)
        if self.options.default is not None:
            wanted["default"] = self.options.default
        return wanted

    def _target(self, world: World) -> Builder:
        """Return the builder as buildx has stored it, or will: made in a directory of its own where it differs from the wish."""
        if world.stored is not None and not differs(self.wish, world.stored):
            return world.stored
        if self.staged is None:
            self.staged = self._stage()
        return self.staged[1]

    # The way there

    def plan(self, world: World) -> Plan:
        """Compare, and return the steps that make the declared builder."""
        target = self._target(world)
        before, after = self.state(world), self._wanted(world, target)
        self._check_driver(world)
        self.outdated = self._outdated(world, target, before)
        steps = list(self._steps(world, target, before, after)) if before != after else []
        return Plan(before, after, steps)

    def _check_driver(self, world: World) -> None:
        if world.stored is not None and world.stored.driver != self.driver and self.options.recreate != "always":
            raise Problem(
                f"the builder {self.name} exists with the driver {world.stored.driver}, not {self.driver}",
                "take another name, or recreate: always, which replaces it",
            )

    def _outdated(self, world: World, target: Builder, before: Mapping[str, Any]) -> dict[str, str]:
        """Return the nodes whose container must be made anew; a Problem where that is forbidden."""
        outdated: dict[str, str] = {}
        for node in target.nodes:
            now = world.running.get(node.name)
            if now is None or not now.container:
                continue
            differences = before.get(f"{node.name} drift") or []
            self.found[node.name] = differences
            owned = world.stored is not None and node.name in {mine.name for mine in world.stored.nodes}
            if differences and not owned and self.options.recreate != "always":
                raise Problem(
                    f"a container {node.container} is there, and no builder of this user has it: {'; '.join(differences)}",
                    "where it is another user's, name the node otherwise; where it is nobody's, recreate: always replaces it",
                    drift=differences,
                )
            if differences and self.options.recreate == "never":
                raise Problem(
                    f"node {node.name} differs from what is declared, and recreate is never: {'; '.join(differences)}",
                    "recreate: auto makes its container anew and keeps the cache",
                    drift=differences,
                )
            if differences or self.options.recreate == "always":
                outdated[node.name] = str(now.container["Id"])
        return outdated

    def _steps(
        self, world: World, target: Builder, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> Iterable[Step]:
        for node in target.nodes:
            now = world.running.get(node.name)
            if now is None or now.image or not (self.contained and self.options.bootstrap):
                continue
            if not now.container or node.name in self.outdated:
                yield self._pull(node)  # before anything stops: a registry may be slow, or say no
        for node in target.nodes:
            if node.name in self.outdated:
                yield self._set_aside(
                    node, world.running[node.name], before.get(f"{node.name} drift") or ["recreate: always"]
                )
        unlike = [name for name in after if name != "default" and before.get(name) != after[name]]
        if self.staged is not None and world.stored is not None and world.stored.driver == "kubernetes":
            yield self._clear_cluster(world)
        if self.options.bootstrap and unlike:
            yield Step(
                f"start {self.name}: every node must answer",
                lambda: self._start(target, world),
                lambda: self._stop(target, world),
            )
        if self.staged is not None:
            verb = "create" if world.stored is None else "change"
            what = (
                ", ".join(name for name in unlike if not name.endswith((" status", " drift")))
                if world.stored
                else self.driver
            )
            raw = self.staged[0]
            yield Step(
                f"{verb} the builder {self.name} ({what})",
                lambda: self._write(world.raw, raw),
                lambda: self._put_back(raw),
            )
        if self.options.default is not None and before["default"] != after["default"]:
            yield self._default_step(after["default"])

    def clearance(self, world: World) -> Plan:
        """Return what is to be cleared away once the new builder is proven: nothing of it can be put back."""
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        steps: list[Step] = []
        wished = {(node.name, node.endpoint) for node in self.wish.builder.nodes}
        for node in world.stored.nodes if world.stored else ():
            if (node.name, node.endpoint) not in wished and world.stored:
                from .remove import removal

                gone = list(removal(self.docker, world.stored.driver, [node], keep_cache=self.options.keep_cache))
                if gone:
                    before[f"{node.container} at {node.endpoint}"] = "there"
                    after[f"{node.container} at {node.endpoint}"] = "gone"
                steps += gone
        for node in self.wish.builder.nodes:
            if node.name in self.outdated and not self.options.keep_cache and self.options.bootstrap:
                before[f"{node.name} cache"], after[f"{node.name} cache"] = "kept", "emptied"
                steps.append(Step(f"empty the cache of {node.name}", lambda node=node: self._prune(node)))  # type: ignore[misc]
        return Plan(before, after, steps)

    def _default_step(self, wanted: bool) -> Step:
        kept = self.store.default_files()

        def apply() -> None:
            with self.store.lock():
                self.store.set_default(self.name if wanted else "")

        def undo() -> None:
            with self.store.lock():
                for name, data in kept.items():
                    self.store.write(name, data)

        return Step(f"make {self.name if wanted else 'the Docker context'} the default builder", apply, undo)

    def _write(self, expected: bytes | None, data: bytes) -> None:
        with self._locked(expected) as relative:
            self.store.keep(relative)
            try:
                self.store.write(relative, data)
            except Problem:
                self.store.let_go(relative)
                raise

    def _put_back(self, written: bytes) -> None:
        with self._locked(written) as relative:
            self.store.put_back(relative)

    @contextlib.contextmanager
    def _locked(self, expected: bytes | None) -> Iterator[str]:
        """Hold buildx's lock, under which the builder's file is still what it was taken for; give its name."""
        relative = os.path.join("instances", self.name)
        with self.store.lock():
            if self.store.read(relative) != expected:
                raise Problem(
                    f"{self.store.path(self.name)} was changed by something else meanwhile", "run the task again"
                )
            yield relative

    # Making the new builder beside the old one

    def _stage(self) -> tuple[bytes, Builder]:
        """Let buildx make the declared builder in a directory of its own, and return its file."""
        if not self.staging:
            self.staging = tempfile.mkdtemp(prefix="multiarch.drone-")
        env = {"BUILDX_CONFIG": self.staging}
        config = os.path.join(self.staging, "wish.toml")
        if self.wish.source:
            from .. import _toml

            with open(config, "w", encoding="utf-8") as file:
                file.write(_toml.dump(self.wish.source))
        for index, node in enumerate(self.wish.builder.nodes):
            words = ["--name", self.name, "--driver", self.driver, "--node", node.name]
            words += ["--append"] if index else []
            words += ["--platform", ",".join(node.platforms)] if node.platforms else []
            for name, value in node.driver_opts.items():
                words += ["--driver-opt", _csv(f"{name}={value}")]
            words += ["--buildkitd-flags", shlex.join(node.flags)] if node.flags else []
            words += ["--buildkitd-config", config] if self.wish.source else []
            words += [node.endpoint] if DRIVERS[self.driver].endpoint else []
            self.docker.run("buildx", "create", *words, env=env)
        store = Store({**self.store.env, **env})
        raw = store.read(os.path.join("instances", self.name)) or b""
        staged = parse(raw, f"what buildx made of the builder {self.name}")
        if differs(self.wish, staged):
            made, wanted = stored_state(self.wish, staged), wished_state(self.wish)
            unlike = [
                f"{name}: {made.get(name)!r}, not {wanted[name]!r}" for name in wanted if made.get(name) != wanted[name]
            ]
            raise Problem(
                f"buildx made another builder than the declared one: {'; '.join(unlike)}",
                "please report this, with the version of buildx",
            )
        return raw, staged

    # Containers

    def _pull(self, node: Node) -> Step:
        reach, image = daemon_options(node), image_of(node)
        return Step(
            f"pull {image}",
            lambda: self.docker.run(*reach, "pull", "--quiet", image, timeout=self.options.timeout),
            lambda: self.docker.run(*reach, "image", "rm", image, check=False),
        )

    def _set_aside(self, node: Node, now: Running, why: Iterable[str]) -> Step:
        reach, container = daemon_options(node), node.container

        def apply() -> None:
            self.docker.run(*reach, "rm", "--force", aside(container), check=False)  # of a run that was killed
            # In this order: a container that runs under another name would keep the volume from the next one.
            self.docker.run(*reach, "stop", container)
            try:
                self.docker.run(*reach, "rename", container, aside(container))
            except Problem:
                self.docker.run(*reach, "start", container, check=False)
                raise

        def undo() -> None:
            self.docker.run(*reach, "rename", aside(container), container)
            if now.status != "stopped":
                self.docker.run(*reach, "start", container)

        aspects = ", ".join(dict.fromkeys(difference.split(":")[0] for difference in why))
        return Step(f"make {container} anew, its cache kept ({aspects})", apply, undo)

    def _clear_cluster(self, world: World) -> Step:
        """Return the step without which a change never gets into a cluster: buildx leaves a deployment that is there as it is."""
        if self.options.recreate == "never":
            raise Problem(
                f"the deployments of {self.name} differ from what is declared, and recreate is never",
                "recreate: auto makes them anew",
            )
        raw = world.raw or b""
        # Nothing to take back: with the old file, which is put back, buildx makes them again for the next build.
        return Step(f"remove the old deployments of {self.name}", lambda: self._clear(raw), lambda: None)

    def _clear(self, raw: bytes) -> None:
        from .remove import remove_deployments

        remove_deployments(self.docker, self.name, raw, keep_cache=self.options.keep_cache)

    def _start(self, target: Builder, world: World) -> None:
        """Start every node and prove that it answers and builds what it declares; what was started for nothing goes away again."""
        for node in target.nodes if self.contained else ():
            if world.running[node.name].status == MISSING:
                found = self.docker.run(*daemon_options(node), "volume", "inspect", node.volume, check=False)
                self.volumes[node.name] = not found.rc
        if self.driver == "kubernetes" and self.staged:
            # A deployment that is there already is another user's builder of the same name.
            there = inspected(self.docker, self.name, raw=self.staged[0]).values()
            self.deployed = all(node.status == "inactive" for node in there)
        try:
            self._booted(target.nodes, self.staged[0] if self.staged else world.raw or b"")
        except Problem:
            self._stop(target, world)
            raise

    def _booted(self, nodes: Iterable[Node], raw: bytes) -> dict[str, Running]:
        """Have buildx start every node, and return them when each answers and executes what it declares."""
        if self.driver == "remote":
            from .reach import await_all

            await_all(self.docker, nodes)
        try:
            now = inspected(self.docker, self.name, "--bootstrap", raw=raw, timeout=self.options.timeout)
        except Problem as problem:
            raise Problem("a node does not answer", problem.what, **problem.facts) from problem
        for node in nodes:
            told = now.get(node.name)
            # buildx ends well although a node that it could not even ask is left out.
            if told is None or told.status != RUNNING or told.error:
                why = (told and (told.error or told.status)) or "buildx says nothing of it"
                raise Problem(
                    f"node {node.name} at {node.endpoint} does not answer: {why}",
                    "look at that BuildKit, and at the way to it",
                )
        _check_platforms(nodes, now)
        return now

    def _stop(self, target: Builder, world: World) -> None:
        """Take back a start: what was made for it is removed, containers that stood still stand still again."""
        if self.deployed and self.staged:
            self._clear(self.staged[0])
        for node in target.nodes if self.contained else ():
            now, reach = world.running[node.name], daemon_options(node)
            if node.name in self.outdated or now.status == MISSING:
                self.docker.run(*reach, "rm", "--force", node.container, check=False)
                if self.volumes.get(node.name) is False:
                    self.docker.run(*reach, "volume", "rm", node.volume, check=False)
            elif now.status == "stopped":
                self.docker.run(*reach, "stop", node.container, check=False)

    def _prune(self, node: Node) -> None:
        self.docker.run(
            *daemon_options(node), "exec", node.container, "buildctl", "prune", "--all", timeout=self.options.timeout
        )

    def discard(self) -> None:
        """Remove what was kept and set aside, by this task or by one that was killed, when the new builder holds."""
        self.store.let_go(os.path.join("instances", self.name))
        for node in self.wish.builder.nodes if self.contained else ():
            self.docker.run(*daemon_options(node), "rm", "--force", aside(node.container), check=False)


def _check_platforms(nodes: Iterable[Node], now: Mapping[str, Running]) -> None:
    for node in nodes:
        told = now.get(node.name)
        missing = cannot_build(node, told) if told else []
        if told and missing:
            raise Problem(
                f"node {node.name} declares {', '.join(missing)}, and its BuildKit executes only {', '.join(told.platforms)}",
                "register QEMU there (multiarch.drone.binfmt_qemu), or declare the platform on a node that has it",
            )


def _csv(field: str) -> str:
    """Return a driver option as one field: buildx reads each --driver-opt as a line of CSV."""
    return '"' + field.replace('"', '""') + '"' if re.search(r'[",\n]', field) else field
