# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What daemon.json and the engine shall be: the declared options, compared with what is there. Without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from .._problem import Problem
from . import daemon_json, next_start
from .engine import version_tuple

if TYPE_CHECKING:
    from .world import World

# The first engine whose containerd image store builds for several platforms.
CONTAINERD_STORE_SINCE = (24, 0)
STORE = "containerd-snapshotter"
# daemon.json as a person declares it, as an argument spec.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "options": {"type": "dict", "default": {}},
    "defaults": {"type": "dict", "default": {}},
    "containerd_store": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
    "engine_version": {"type": "str", "default": ""},
    "path": {"type": "path", "default": "/etc/docker/daemon.json"},
}


@dataclass(frozen=True)
class Store:
    """Whether the containerd image store is declared (None: not by us), and why."""

    value: bool | None
    reason: str


@dataclass(frozen=True)
class Wish:
    """The way to go: what daemon.json and the record shall say, and what the engine must do for it."""

    options: Mapping[str, Any]
    config: Mapping[str, Any]
    ours: Mapping[str, Any]
    follow: str  # "restart", "reload", or ""
    replaced: Mapping[str, Any]  # values of others in whose place ours stand


def store(world: World, wanted: str, to_come: str = "") -> Store:
    """Decide about the containerd image store; `auto` never hides what an engine already holds.

    `to_come` is the version of the engine that a host without one will have.
    """
    now = daemon_json.features(world.config).get(STORE)
    if wanted == "false":
        return Store(False, "as declared")
    if wanted == "auto" and now is not None:
        mine = STORE in daemon_json.features(world.ours)
        return Store(bool(now) if mine else None, "as daemon.json says already")
    if wanted == "auto" and world.engine and world.engine.containerd_store:
        return Store(None, "the engine uses it by itself")
    version = world.version or to_come
    if version and version_tuple(version) < CONTAINERD_STORE_SINCE:
        if wanted == "true":
            raise Problem(
                f"Docker {version} has no containerd image store",
                "use 24.0 or later (Docker's own packages, or Debian 13), or set it to false",
            )
        return Store(None, f"Docker {version} has none; 24.0 is the first that has")
    if wanted == "true":
        return Store(True, "as declared")
    images, containers = world.held
    if images or containers:
        return Store(None, f"the engine holds {images} images and {containers} containers, which it would hide")
    return Store(True, "the engine holds no images and no containers")


def with_defaults(
    world: World, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options with those defaults that this engine can have, and why it cannot have the others."""
    result, left_out = dict(options), {}
    for name, value in defaults.items():
        if name in options:
            continue
        config = daemon_json.merge(world.config, daemon_json.declared({name: value}), world.ours, world.replaced)
        refusal = next_start.refusals(config, world.info, world.flags, world.plugins).get(name)
        if refusal:
            left_out[name] = refusal.what
        else:
            result[name] = value
    return result, left_out


def compare(world: World, options: Mapping[str, Any]) -> Wish:
    """Return the way from the world to the declared options."""
    wish = daemon_json.declared(options)
    before = (world.ours, world.replaced)
    config = daemon_json.merge(world.config, wish, *before)
    follow = ""
    if world.engine:
        engine = world.engine
        now = dict(world.config)
        if STORE in daemon_json.features(wish):
            # What the engine does counts, not that the file now says so too: a restart for nothing ends builds.
            now["features"] = {**daemon_json.features(now), STORE: engine.containerd_store}
        needs = {
            world.pending,
            daemon_json.follow(now, config),
            daemon_json.follow(
                daemon_json.running(wish, engine.info, engine.containerd_store), daemon_json.promised(wish)
            ),
        }
        follow = next((need for need in ("restart", "reload") if need in needs), "")
    ours, replaced = (take(world.config, wish, *before) for take in (daemon_json.owned, daemon_json.replaces))
    return Wish(wish, config, ours, follow, replaced)
