# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role brings onto a host, and what it takes back: the record, the world, and the plan between them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Mapping

from .._change import Plan, Step
from .._problem import Problem
from . import apt
from .world import Entry, World, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

THERE_BEFORE = "it was there before, or an earlier version of the collection brought it"
NOT_EMPTY = "other files are in it"
MOUNTED = "something is mounted on it"


@dataclass(frozen=True)
class Made:
    """What the tasks of a role make beside packages."""

    files: Sequence[str] = ()  # that the next tasks make, where they are not there yet
    made: Sequence[str] = ()  # that earlier tasks made
    items: Sequence[str] = ()  # what else was made, in the role's words


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


def plan_present(world: World, role: str, comes: Sequence[str], names: Sequence[str], things: Made) -> Plan:
    """Return the plan that records what comes, packages and files that are not there yet, and installs the packages."""
    old = world.roles.get(role, Entry())
    files = [*(path for path in things.files if path not in world.files), *things.made]
    new = Entry(*(_joined(*pair) for pair in zip((old.packages, old.files, old.items), (comes, files, things.items))))
    steps = []
    if new != old:
        added = [
            name
            for had, has in ((old.packages, new.packages), (old.files, new.files), (old.items, new.items))
            for name in has
            if name not in had
        ]
        steps.append(
            Step(
                f"record {', '.join(added)}",
                lambda: write_record({**world.roles, role: new}),
                lambda: write_record(world.roles),
            )
        )
    if names:
        steps.append(Step(f"install {', '.join(names)}", lambda: apt.install(names), _taking_back(comes)))
    before = view(world, old, [*names, *comes])
    after = {**before, "record": _shown(new), "installed": sorted({*before["installed"], *names, *comes})}
    return Plan(before, after, steps)


def _joined(had: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*had, *more}))


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
    return {"packages": sorted(entry.packages), "files": sorted(entry.files), "items": sorted(entry.items)}


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
    files = [path for path in entry.files if path in world.files]
    for path in _not_empty(files, world):
        files.remove(path)
        kept[path] = MOUNTED if path in world.mounts else NOT_EMPTY
    return Taken(tuple(goes), tuple(sorted(files, reverse=True)), kept)


def _not_empty(files: Sequence[str], world: World) -> list[str]:
    """Return the directories that hold something else than what goes, or on which something is mounted."""
    stays: list[str] = []
    for path in sorted(files, reverse=True):  # what is in a directory comes before it
        if path in world.mounts or any(name not in files or name in stays for name in world.within.get(path, ())):
            stays.append(path)
    return stays


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
    # What another package needs, and a directory with files of others, stays ours, for the next time.
    new = Entry(
        tuple(name for name in old.packages if name in taken.kept),
        tuple(path for path in old.files if path in taken.kept),
    )
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


def plan_forget(world: World, role: str, items: Sequence[str]) -> Plan:
    """Return the plan that forgets some of the role's items, which its tasks have taken back."""
    old = world.roles.get(role, Entry())
    new = replace(old, items=tuple(item for item in old.items if item not in items))
    gone = [item for item in old.items if item in items]
    steps = [
        Step(
            f"forget {', '.join(gone)}",
            lambda: write_record({**world.roles, role: new}),
            lambda: write_record(world.roles),
        )
    ]
    return Plan({"record": _shown(old)}, {"record": _shown(new)}, steps if gone else [])


def _removal(path: str) -> Callable[[], object]:
    def remove() -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)

    return remove
