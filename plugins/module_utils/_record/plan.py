# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role brings onto a host, and what it takes back: the record, the world, and the plan between them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping

from .._change import Plan, Step
from .._problem import Problem
from . import apt
from .world import Entry, World, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

THERE_BEFORE = "it was there before, or an earlier version of the collection brought it"


@dataclass(frozen=True)
class Taken:
    """What a role takes back, and what stays, with the reason."""

    packages: tuple[str, ...]
    files: tuple[str, ...]
    kept: Mapping[str, str]


def missing(world: World, packages: Sequence[str]) -> list[str]:
    """Return the packages that are to come."""
    return [name for name in dict.fromkeys(packages) if not world.packages[name]]


def brought(simulated: apt.Simulated, names: Sequence[str]) -> tuple[str, ...]:
    """Return all packages that an installation brings; raise a Problem where something would have to go for it."""
    if simulated.goes:
        raise Problem(
            f"for {', '.join(names)} apt would remove {', '.join(simulated.goes)}",
            "remove it yourself first, or declare the packages that the host has; nothing was changed",
        )
    if simulated.refusal:
        raise Problem(f"apt cannot install {', '.join(names)}: {simulated.refusal}", "look at: apt-cache policy")
    return simulated.comes


def plan_present(world: World, role: str, comes: Sequence[str], names: Sequence[str], files: Sequence[str]) -> Plan:
    """Return the plan that records what comes, packages and files that are not there yet, and installs the packages."""
    old = world.roles.get(role, Entry())
    made = [path for path in files if path not in world.files and path not in old.files]
    new = Entry(tuple(sorted({*old.packages, *comes})), tuple(sorted({*old.files, *made})))
    steps = []
    if new != old:
        steps.append(
            Step(
                f"record {', '.join([*comes, *made])}",
                lambda: write_record({**world.roles, role: new}),
                lambda: write_record(world.roles),
            )
        )
    if names:
        steps.append(Step(f"install {', '.join(names)}", lambda: apt.install(names), _taking_back(comes)))
    before = view(world, old, [*names, *comes])
    after = {**before, "record": _shown(new), "installed": sorted({*before["installed"], *names, *comes})}
    return Plan(before, after, steps)


def _taking_back(comes: Sequence[str]) -> Callable[[], object]:
    def undo() -> None:
        gone = apt.simulate_remove(comes, purge=False)
        if {*gone.goes} <= {*comes}:
            apt.remove(comes)

    return undo


def view(world: World, entry: Entry, packages: Sequence[str]) -> dict[str, Any]:
    """Return what the diff shows: the role's entry, and which of the packages are installed."""
    return {"record": _shown(entry), "installed": sorted({name for name in packages if world.packages.get(name)})}


def _shown(entry: Entry) -> dict[str, Any]:
    return {"packages": sorted(entry.packages), "files": sorted(entry.files)}


def take_back(world: World, role: str, packages: Sequence[str], *, purge: bool) -> Taken:
    """Decide what goes: what the record says is ours and nobody else needs; with `purge` the named packages too."""
    entry = world.roles.get(role, Entry())
    others = {name for other, held in world.roles.items() if other != role for name in held.packages}
    named = [name for name in packages if world.packages[name]]
    ours = [name for name in entry.packages if world.packages[name]]
    goes = list(dict.fromkeys([*ours, *(named if purge else ())]))
    kept = {} if purge else {name: THERE_BEFORE for name in named if name not in ours}
    if goes:
        for name, needed_by in needed(goes, purge=purge, simulate=apt.simulate_remove).items():
            goes.remove(name)
            kept[name] = f"{', '.join(needed_by)} needs it"
    for name in [name for name in goes if name in others]:
        goes.remove(name)
        kept[name] = "another role of the collection has it"
    return Taken(tuple(goes), tuple(path for path in entry.files if path in world.files), kept)


def needed(names: Sequence[str], *, purge: bool, simulate: Callable[..., apt.Simulated]) -> dict[str, tuple[str, ...]]:
    """Return the packages whose removal would take others that are not named, and which others."""
    if {*simulate(names, purge=purge).goes} <= {*names}:
        return {}
    found = {}
    for name in names:
        others = tuple(other for other in simulate([name], purge=purge).goes if other not in names)
        if others:
            found[name] = others
    return found


def plan_absent(world: World, role: str, taken: Taken, *, purge: bool) -> Plan:
    """Return the plan that removes what is to go, and what the role's entry said of it."""
    old = world.roles.get(role, Entry())
    # What another package needs stays ours, for the next time.
    new = Entry(tuple(name for name in old.packages if name in taken.kept))
    steps = []
    if taken.packages:
        verb = "purge" if purge else "remove"
        steps.append(
            Step(
                f"{verb} {', '.join(taken.packages)}",
                lambda: apt.remove(taken.packages, purge=purge),
                lambda: apt.install(taken.packages),
            )
        )
    steps += [Step(f"remove {path}", _removal(path)) for path in taken.files]
    if old != new:
        steps.append(
            Step(
                "forget what was recorded",
                lambda: write_record({**world.roles, role: new}),
                lambda: write_record(world.roles),
            )
        )
    before = view(world, old, [*taken.packages, *old.packages])
    before["files"] = sorted(taken.files)
    after = {
        "record": _shown(new),
        "installed": sorted({*before["installed"]} - {*taken.packages}),
        "files": [],
    }
    return Plan(before, after, steps)


def _removal(path: str) -> Callable[[], object]:
    def remove() -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    return remove
