# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The driver `docker-container`: BuildKit in a container of a Docker daemon (docker/buildx: driver/docker-container).

A container that differs is stopped and renamed, not removed; its volume, which is the cache, stays where it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Mapping

from .._docker.cli import context_host
from .._problem import Problem
from .driver import Driver
from .node import MISSING, aside, ask_containers, daemon_options, image_of
from .options import check_flag, check_number, check_restart, check_size, check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._change import Step
    from .._docker.cli import Docker
    from .node import Running
    from .store import Builder, Node, Store


class ContainerDriver(Driver):
    """Nodes that are containers."""

    name = "docker-container"
    options = {
        "image": check_text,
        "network": check_text,
        "memory": check_size,
        "memory-swap": check_size,
        "cpu-period": check_number,
        "cpu-quota": check_number,
        "cpu-shares": check_number,
        "cpuset-cpus": check_text,
        "cpuset-mems": check_text,
        "cgroup-parent": check_text,
        "restart-policy": check_restart,
        "default-load": check_flag,
        "provenance-add-gha": check_flag,
        "allow-untrusted-image": check_flag,
    }
    env = True
    daemon = True
    takes_endpoint = True
    compared = True

    def endpoint(self, where: str, given: str, builder: str, node: str, store: Store) -> str:
        """Return a daemon's address or context as buildx stores it: the default context by its address."""
        if not given:
            return store.key()
        if not re.match(r"(unix|tcp|ssh|npipe|fd)://.|[a-zA-Z0-9][a-zA-Z0-9_.+-]*\Z", given):
            raise Problem(
                f"{where}: {given!r} is neither a Docker context nor a daemon's address",
                "write unix://…, tcp://… or ssh://…",
            )
        if given == "default":
            return context_host(store.env, "default")
        if "://" not in given and not context_host(store.env, given):
            raise Problem(f"{where}: there is no Docker context {given!r}", "see `docker context ls`, as the same user")
        return given

    def forces_network_host(self, node: Node) -> bool:
        """Return whether the container has the host's network, for which buildx always adds the entitlement."""
        return node.driver_opts.get("network") == "host"

    def look(self, docker: Docker, builder: Builder, raw: bytes | None) -> Callable[[], dict[str, Running]]:
        """Start to ask for each node's container."""
        return ask_containers(docker, builder)

    def must_look(self, wished: Builder, stored: Builder | None, *, same: bool, bootstrap: bool) -> Builder | None:
        """Return the declared builder: its containers may be there although its file is not."""
        return wished

    def drift(self, node: Node, config: Mapping[str, Any], now: Running) -> list[str]:
        """Return where a container differs from what its node declares."""
        from .drift import drift

        return drift(node, config, now)

    def identity(self, node: Node, now: Running) -> str:
        """Return the container's ID."""
        return str(now.container.get("Id") or "")

    def before_start(
        self,
        docker: Docker,
        nodes: Sequence[Node],
        now: Mapping[str, Running],
        outdated: Mapping[str, Sequence[str]],
        *,
        bootstrap: bool,
        timeout: float,
    ) -> Iterable[Step]:
        """Yield the steps that pull images, before anything stops, and set containers aside."""
        from .steps import pull, set_aside

        for node in nodes:
            there = now.get(node.name)
            if bootstrap and there and not there.image and (not there.container or node.name in outdated):
                yield pull(docker, node, timeout)  # a registry may be slow, or say no
        for node in nodes:
            if node.name in outdated:
                yield set_aside(docker, node, now[node.name].status, outdated[node.name] or ["recreate: always"])

    def remember(self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, now: Mapping[str, Running]) -> Any:
        """Return whose volume was there already, of the nodes without a container."""
        return {
            node.name
            for node in nodes
            if now[node.name].status == MISSING
            and not docker.run(*daemon_options(node), "volume", "inspect", node.volume, check=False).rc
        }

    def stop(
        self,
        docker: Docker,
        name: str,
        nodes: Sequence[Node],
        raw: bytes,
        now: Mapping[str, Running],
        outdated: Iterable[str],
        memory: Any,
    ) -> None:
        """Remove the containers that were made; those that stood still stand still again."""
        for node in nodes:
            reach = daemon_options(node)
            missing = now[node.name].status == MISSING
            if node.name in outdated or missing:
                docker.run(*reach, "rm", "--force", node.container, check=False)
                if missing and node.name not in memory:
                    docker.run(*reach, "volume", "rm", node.volume, check=False)
            elif now[node.name].status == "stopped":
                docker.run(*reach, "stop", node.container, check=False)

    def discard(self, docker: Docker, nodes: Sequence[Node]) -> None:
        """Remove the containers that were set aside."""
        for node in nodes:
            docker.run(*daemon_options(node), "rm", "--force", aside(node.container), check=False)

    def empty_cache(self, docker: Docker, node: Node, timeout: float) -> Step | None:
        """Return the step that empties the volume, which the new container has taken over."""
        from .steps import empty_cache

        return empty_cache(docker, node, timeout)

    def removal(
        self,
        docker: Docker,
        name: str,
        nodes: Sequence[Node],
        raw: bytes,
        *,
        keep_cache: bool,
        left: list[str] | None = None,
    ) -> Iterable[Step]:
        """Yield the steps that remove the containers."""
        from .steps import remove_container

        for node in nodes:
            yield remove_container(docker, node, keep_cache=keep_cache)

    def image(self, node: Node, now: Running | None) -> dict[str, Any] | None:
        """Return which image a container shall run, and which it runs."""
        container = now.container if now else {}
        config = container.get("Config") or {}
        return {"declared": image_of(node), "runs": config.get("Image"), "id": container.get("Image")}

    def stopped_hint(self, node: Node) -> str:
        """Return what a build does about a container that does not run."""
        return "buildx starts it with the next build"
