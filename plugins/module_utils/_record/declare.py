# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role brings onto a host and takes back, from the module's options to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._change import carry_out
from .._docker.packages import check_names
from . import apt
from .plan import Made, brought, missing, plan_absent, plan_forget, plan_present, take_back, view
from .world import Entry, World, read

if TYPE_CHECKING:
    from .._arguments import Module


def work(module: Module) -> dict[str, Any]:
    """Return the result of host_record."""
    wanted = module.params
    role, packages = wanted["role"], tuple(wanted["packages"])
    check_names(packages)
    if wanted["state"] == "absent" and wanted["items"]:
        return _forget(role, wanted["items"], check_mode=module.check_mode)
    if wanted["state"] == "absent":
        return _absent(role, packages, purge=wanted["purge"], check_mode=module.check_mode)
    things = Made(wanted["files"], wanted["made"], wanted["items"])
    return _present(role, packages, things, check_mode=module.check_mode)


def _present(role: str, packages: tuple[str, ...], things: Made, *, check_mode: bool) -> dict[str, Any]:
    files = tuple(things.files)
    world = read(role, packages, files)
    names = missing(world, packages)
    comes: tuple[str, ...] = ()
    lists = True
    if names:
        if not check_mode:
            apt.update()  # always: a new image has young but empty package lists
        simulated = apt.simulate_install(names)
        if check_mode and simulated.refusal and not simulated.goes:
            # The run reads the archives' lists first: what check mode's old ones lack proves nothing.
            comes, lists = tuple(sorted(names)), False
        else:
            comes = brought(simulated, names)
    plan = plan_present(world, role, comes, names, things)
    told = sorted({*names, *comes})
    result = carry_out(plan, check_mode=check_mode, reread=lambda: _again(role, packages, files, told))
    return {**result, "packages": list(comes), "complete": lists, "kept": {}, "recorded": _recorded(world, role)}


def _recorded(world: World, role: str) -> dict[str, list[str]]:
    entry = world.roles.get(role, Entry())
    return {"packages": list(entry.packages), "files": list(entry.files), "items": list(entry.items)}


def _again(role: str, packages: tuple[str, ...], files: tuple[str, ...], told: list[str]) -> dict[str, Any]:
    world = read(role, tuple(told) + packages, files)
    return view(world, world.roles.get(role, Entry()), told)


def _forget(role: str, items: list[str], *, check_mode: bool) -> dict[str, Any]:
    world = read(role, (), ())
    result = carry_out(plan_forget(world, role, items), check_mode=check_mode)
    return {**result, "packages": [], "complete": True, "kept": {}, "recorded": _recorded(world, role)}


def _absent(role: str, packages: tuple[str, ...], *, purge: bool, check_mode: bool) -> dict[str, Any]:
    world = read(role, packages, ())
    taken = take_back(world, role, packages, purge=purge)
    plan = plan_absent(world, role, taken, purge=purge)
    result = carry_out(plan, check_mode=check_mode)
    return {
        **result,
        "packages": list(taken.packages),
        "complete": True,
        "kept": dict(taken.kept),
        "recorded": _recorded(world, role),
    }
