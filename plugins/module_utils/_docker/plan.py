# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From daemon.json and the engine as they were found to what is declared: steps and diff. Without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._change import Plan, Step
from . import daemon_json, steps

if TYPE_CHECKING:
    from .wish import Wish
    from .world import World


def plan(world: World, wish: Wish) -> Plan:
    """Return the steps from the world to the wish; taking back a change brings the engine back too."""
    found: list[Step] = []
    change = steps.Change(world, wish)
    if wish.config != world.config or wish.ours != world.ours or (world.pending and not wish.follow):
        found.append(change.write())
    if wish.follow:
        found.append(change.follow())
    return Plan(as_diff(world, world, wish), _promise(world, wish), found)


def as_diff(world: World, first: World, wish: Wish) -> dict[str, Any]:
    """Return the world as the diff shows it, without secrets; `first` is the world before any change."""
    seen: dict[str, Any] = {
        "daemon.json": _shown(first.config, world.config),
        "pending": world.pending,
    }
    if wish.config == first.config:  # else it only repeats the file's difference
        seen["declared"] = _shown(first.ours, world.ours)
    if first.engine and world.engine:
        seen["engine"] = daemon_json.running(wish.options, world.engine.info, world.engine.containerd_store)
    return seen


def _promise(world: World, wish: Wish) -> dict[str, Any]:
    after: dict[str, Any] = {
        "daemon.json": _shown(world.config, wish.config),
        "pending": "",
    }
    if wish.config == world.config:
        after["declared"] = _shown(world.ours, wish.ours)
    if world.engine:
        after["engine"] = daemon_json.promised(wish.options)
    return after


def _shown(first: Any, now: Any) -> Any:
    return daemon_json.without_secrets(first, now)[1]
