# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person is told of a builder: its nodes, what runs for them, problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from .drivers import driver_of
from .node import RUNNING, cannot_build
from .store import CONFIG_FILE, Node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .node import Running
    from .store import Builder


def entry(builder: Builder, now: Mapping[str, Running], current: str) -> dict[str, Any]:
    """Return one builder as both modules return it; what is null here takes a look at the kernel, or at the cache."""
    return {
        "name": builder.name,
        "driver": builder.driver,
        "default": current == builder.name,
        "nodes": [_node(builder, node, now.get(node.name)) for node in builder.nodes],
    }


def _node(builder: Builder, node: Node, now: Running | None) -> dict[str, Any]:
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "status": now.status if now else "unknown",
        "platforms": list(now.platforms) if now else [],
        "platforms_declared": list(node.platforms),
        "platforms_native": None,
        "platforms_emulated": None,
        "driver_opts": {
            name: "hidden" if name.startswith("env.") else value for name, value in node.driver_opts.items()
        },
        "flags": list(node.flags),
        "buildkit_version": (now.version if now else "") or None,
        "image": driver_of(builder.driver).image(node, now),
        "cache_bytes": None,
        "problems": list(_problems(builder, node, now)) if now else [],
    }


def _problems(builder: Builder, node: Node, now: Running) -> Iterable[str]:
    driver = driver_of(builder.driver)
    if now.error:
        yield now.error
    elif now.status != RUNNING:
        yield f"it is {now.status}: {driver.stopped_hint(node)}"
    for platform in cannot_build(node, now):
        yield f"declares {platform}, which its BuildKit cannot execute"
    if len(builder.nodes) > 1 and not node.platforms:
        yield "declares no platforms: buildx prefers an emulating node that does"
    if driver.compared:
        yield from driver.drift(node, node.config() if CONFIG_FILE in node.files else {}, now)
