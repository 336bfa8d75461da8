# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan that takes a host from what it executes to what is declared, and the report of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._change import Plan, Step
from .._problem import Problem
from . import binfmt_d, qemu
from . import steps as make
from .kernel import ROOT, TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._platform import Architecture, Platform
    from .kernel import Handler, Kernel
    from .wish import Wish
    from .world import World

ON_DISK = "the QEMU on disk"  # what a handler has to run


def faults(architecture: Architecture, wanted: Handler, world: World) -> list[str]:
    """Return what is wrong with the handler of an architecture, in words; nothing where all is as wanted."""
    kernel = world.kernel
    answering = kernel.of(architecture)
    found = kernel.named(wanted.name)
    if found is None:
        other = f"; {answering[0].name} takes its programs" if answering else ""
        return [f"there is no handler {wanted.name}{other}"]
    result = []
    if kernel.state == "off":
        result.append("binfmt_misc is switched off as a whole")
    if not found.enabled:
        result.append(f"{found.name} is disabled")
    if not found.fits(architecture):
        result.append(f"magic and mask of {found.name} do not fit programs of linux/{architecture.oci}")
    if found.interpreter != wanted.interpreter:
        result.append(f"{found.name} runs {found.interpreter}, not {wanted.interpreter}")
    result += [text for flag, text in _flag_faults(found, wanted).items() if flag]
    if answering and answering[0].name != found.name:
        result.append(f"{answering[0].name} was registered later and takes its programs")
    verdict = world.verdicts.get(architecture.oci)
    if verdict is not None and verdict.trouble:
        result.append(verdict.trouble)
    return result


def _flag_faults(found: Handler, wanted: Handler) -> dict[str, str]:
    differ = set(found.flags) ^ set(wanted.flags)
    missing = set(wanted.flags) - set(found.flags)
    swallowed = "which expects it and swallows an argument of each program"
    texts = {
        "F": "has no flag F, so it works neither in containers nor in chroots",
        "P": f"lacks flag P for {found.interpreter}"
        + (f", {swallowed}" if qemu.expects_p(found.interpreter) else ", so programs lose their argv[0]")
        if "P" in missing
        else f"has flag P, which {found.interpreter} does not understand",
        "C": "has no flag C, so setuid programs such as sudo fail" if "C" in missing else "has flag C, unasked",
        "O": "has no flag O, so unreadable programs fail" if "O" in missing else "has flag O, unasked",
    }
    if {"C", "O"} <= differ:
        del texts["O"]  # C brings it
    return {flag: f"{found.name} {text}" for flag, text in texts.items() if flag in differ}


def plan(wish: Wish, world: World, programs: qemu.Programs) -> Plan:
    """Return the way from the world to the wish."""
    before, after = as_diff(wish, world), as_diff(wish, world)
    steps: list[Step] = []
    for handler in world.kernel.handlers:
        if _is_unwanted(wish, handler):
            after.pop(handler.name)
            steps.append(make.removal(handler))
    for architecture in wish.architectures:
        wanted = wish.handlers.get(architecture.oci)
        troubles = faults(architecture, wanted, world) if wanted else []
        fresh = wish.image.step(architecture) if wanted and wish.image else None
        if wanted and fresh:
            steps.append(fresh)
            after[wanted.interpreter] = f"as in {wish.image}"
            troubles.append(f"another {wanted.interpreter} is taken out of {wish.image}")
        if wanted and troubles:
            after[wanted.name] = {**wanted.as_diff(), "gets its programs": True}
            after.pop(wanted.name + TEMPORARY, None)
            if wish.verify:
                after[wanted.name]["runs"] = ON_DISK
            old = world.kernel.named(wanted.name)
            steps.append(make.registration(architecture, wanted, old, troubles, programs if wish.verify else None))
    if (steps or wish.handlers) and world.kernel.state != "on":
        steps[:0] = make.enable_steps(world.kernel)
        after["binfmt_misc"] = "on"
    if steps:
        _demand_rights(world.kernel, steps)
    if wish.persistent:
        for path, text in _files(wish, world).items():
            after.pop(path, None)
            if text is not None:
                after[path] = text
            steps.append(binfmt_d.step(path, text))
    for path, step in wish.obsolete.items():
        after.pop(path)
        steps.append(step)
    return Plan(before, after, steps)


def _demand_rights(kernel: Kernel, steps: Iterable[Step]) -> None:
    """Raise a Problem where the kernel cannot be changed, before anything is."""
    mounted = kernel.state in ("on", "off")
    if kernel.writable if mounted else os.geteuid() == 0:
        return
    raise Problem(
        f"{ROOT}/register cannot be written, and there is to do: {', '.join(step.summary for step in steps)}",
        "run it as root (become: true), and not in a container whose /proc/sys is read-only",
    )


def as_diff(wish: Wish, world: World) -> dict[str, Any]:
    """Return the world as far as this wish is concerned, as a person reads it in a diff."""
    kernel = world.kernel
    result: dict[str, Any] = {"binfmt_misc": kernel.state}
    for handler in kernel.handlers:
        if handler.is_qemu or handler.name in {wanted.name for wanted in wish.handlers.values()}:
            result[handler.name] = handler.as_diff()
    for architecture in wish.architectures:
        name = wish.handlers[architecture.oci].name if architecture.oci in wish.handlers else ""
        if name in result:
            answering = kernel.of(architecture)
            result[name]["gets its programs"] = bool(answering) and answering[0].name == name
            verdict = world.verdicts.get(architecture.oci)
            if verdict is not None:
                result[name]["runs"] = verdict.trouble or ON_DISK
        if wish.image and name:
            kept = wish.image.as_diff(architecture)
            result.update({wish.image.path(architecture): kept} if kept else {})
    result.update({path: "kept" for path in wish.obsolete if os.path.exists(path)})
    if wish.persistent:
        result.update({file.path: file.text for file in world.files if file.directory == binfmt_d.OWN})
    return result


def _is_unwanted(wish: Wish, handler: Handler) -> bool:
    if not handler.is_qemu:
        return False
    if wish.present:
        return wish.exclusive and handler.name not in {wanted.name for wanted in wish.handlers.values()}
    return any(handler.runs(a) or handler.name == f"qemu-{a.qemu}" for a in wish.architectures)


def _files(wish: Wish, world: World) -> dict[str, str | None]:
    """Return what has to become of the files in /etc/binfmt.d."""
    changes: dict[str, str | None] = {}
    if not wish.present or wish.exclusive:
        changes = binfmt_d.without(world.files, lambda handler: _is_unwanted(wish, handler))
    own = {file.name: file for file in world.files if file.directory == binfmt_d.OWN}
    for architecture in wish.architectures:
        wanted = wish.handlers.get(architecture.oci)
        if wanted is not None and not binfmt_d.says(own.get(f"{wanted.name}.conf"), wanted, architecture):
            changes[os.path.join(binfmt_d.OWN, f"{wanted.name}.conf")] = binfmt_d.text_of(wanted)
    return changes


def as_result(platform: Platform, wanted: Handler | None, world: World, programs: qemu.Programs) -> dict[str, Any]:
    """Return what a module says of one platform; its problems are what keeps it from what is `wanted`."""
    architecture = platform.arch
    native = architecture.oci in world.native
    handler = world.handler(architecture)
    verdict = world.verdicts.get(architecture.oci)
    boot = next((entry for entry in reversed(world.boot) if entry.runs(architecture)), None)
    problems = faults(architecture, wanted, world) if wanted else []
    if native and handler is not None:
        problems.append(f"{handler.name} takes programs that the CPU runs itself, and much faster")
    return {
        "platform": str(platform),
        "native": native,
        "name": handler.name if handler else None,
        "interpreter": handler.interpreter if handler else None,
        "flags": handler.flags if handler else "",
        "credentials": bool(handler and "C" in handler.flags),
        "enabled": bool(handler and handler.enabled and world.kernel.state != "off"),
        "version": programs.version(handler.interpreter) if handler else None,
        "kernel_version": verdict.version if verdict else None,
        "persistent": bool(handler and boot) and _pair(boot) == _pair(handler),
        "verified": True if native else not verdict.trouble if verdict else None,
        "problems": problems,
    }


def _pair(handler: Handler | None) -> tuple[str, str] | None:
    return (handler.interpreter, handler.flags) if handler else None
