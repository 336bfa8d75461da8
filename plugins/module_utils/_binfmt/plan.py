# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan that takes a host from what it executes to what is declared, and the report of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._change import Plan, Step
from .._problem import Problem
from . import binfmt_d, cpu, qemu
from . import steps as make
from .kernel import ROOT, TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._platform import Architecture, Platform
    from .binfmt_d import Booted
    from .kernel import Handler
    from .restart import Restart
    from .wish import Wish
    from .world import World

ON_DISK = "the QEMU on disk"  # what a handler has to run
ANOTHER_QEMU = "take another version of QEMU (source: image, with an image such as tonistiigi/binfmt:qemu-v10.0.4)"


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
    prove = wish.verify and not world.unproven
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
            if prove:
                after[wanted.name]["runs"] = ON_DISK
            old = world.kernel.named(wanted.name)
            steps.append(
                make.registration(
                    architecture, wanted, old, troubles, programs if prove else None, deep=wish.deep and prove
                )
            )
    if (steps or wish.handlers) and world.kernel.state != "on":
        _demand_nothing_lost(wish, world)
        steps[:0] = make.enable_steps(world.kernel)
        after["binfmt_misc"] = "on"
    if steps:
        _demand_rights(world, steps)
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


def _demand_nothing_lost(wish: Wish, world: World) -> None:
    """Raise a Problem where a mount would take platforms away that nobody gave up."""
    asked = {architecture.oci for architecture in wish.architectures}
    lost = [] if wish.exclusive else sorted(set(world.inherited) - asked)
    if lost:
        raise Problem(
            "this user namespace inherits handlers, and one of its own hides all of them: "
            f"{', '.join(f'linux/{name}' for name in lost)} would not run any more",
            "list these platforms as well, or set exclusive: true to give them up, or declare handlers in the parent "
            "user namespace (on the host of this container)",
        )


def _demand_rights(world: World, steps: Iterable[Step]) -> None:
    """Raise a Problem where the kernel cannot be changed, before anything is."""
    mounted = world.kernel.state in ("on", "off")
    if world.kernel.writable if mounted else world.root:
        return
    raise Problem(
        f"{ROOT}/register cannot be written, and this is to be done: {', '.join(step.summary for step in steps)}",
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
    result.update({path: "kept" for path in wish.obsolete if path in world.kept})
    if wish.persistent:
        result.update({file.path: file.text for file in world.files if file.directory == binfmt_d.OWN})
        result.update({form.path: form.text for form in world.restart.formats})
    return result


def _is_unwanted(wish: Wish, handler: Handler) -> bool:
    if not handler.is_qemu:
        return False
    if wish.present:
        return wish.exclusive and handler.name not in {wanted.name for wanted in wish.handlers.values()}
    return any(handler.runs(a) or handler.name == f"qemu-{a.qemu}" for a in wish.architectures)


def _files(wish: Wish, world: World) -> dict[str, str | None]:
    """Return what has to become of the files in /etc/binfmt.d, and of the formats of binfmt-support."""
    changes: dict[str, str | None] = {}
    if not wish.present or wish.exclusive:
        changes = binfmt_d.without(world.files, lambda handler: _is_unwanted(wish, handler))
        for form in world.restart.formats:
            if form.handler and _is_unwanted(wish, form.handler):
                changes[form.path] = None
    for architecture in wish.architectures:
        wanted = wish.handlers.get(architecture.oci)
        if wanted is not None:
            files = binfmt_d.after(world.files, changes)
            changes.update(binfmt_d.with_rule(files, wanted, architecture))
    return {path: text for path, text in changes.items() if text is not None or path in _paths(world)}


def _paths(world: World) -> set[str]:
    return {file.path for file in world.files} | {form.path for form in world.restart.formats}


def _at_boot(world: World, changes: Mapping[str, str | None]) -> list[Booted]:
    """Return what the kernel has after a restart once these changes are made."""
    files = [] if world.restart.trouble else binfmt_d.after(world.files, changes)
    return binfmt_d.at_boot(files, [form for form in world.restart.formats if form.path not in changes])


def boot_faults(wish: Wish, world: World) -> dict[str, list[str]]:
    """Return by OCI name what makes a restart undo the wish, in words: known before anything is changed."""
    changes = _files(wish, world) if wish.persistent else {}
    booted = _at_boot(world, changes)
    result: dict[str, list[str]] = {}
    for architecture in wish.architectures if wish.persistent else ():
        wanted = wish.handlers.get(architecture.oci)
        found = result.setdefault(architecture.oci, [])
        taking = [entry for entry in booted if entry.handler.runs(architecture)]
        if wanted is not None:
            found += _boot_faults(architecture, wanted, taking, world.restart)
        elif not wish.present and architecture.oci in world.inherited:
            found.append("its handler is inherited from the parent user namespace, and can only be removed there")
        elif not wish.present:
            found += [f"{e.path} brings {e.handler.name} back at boot" for e in taking if e.handler.is_qemu]
    return result


def boot_faults_as_found(wish: Wish, world: World) -> dict[str, list[str]]:
    """Return the same where nothing is changed, for handlers that somebody's file in /etc/binfmt.d is to bring back."""
    booted = _at_boot(world, {})
    result: dict[str, list[str]] = {}
    for architecture in wish.architectures:
        wanted = wish.handlers.get(architecture.oci)
        own = [file for file in world.files if file.directory == binfmt_d.OWN]
        if (
            wanted is None
            or not wanted.interpreter
            or not any(handler.runs(architecture) for file in own for handler in file.handlers)
        ):
            continue
        taking = [entry for entry in booted if entry.handler.runs(architecture)]
        result[architecture.oci] = list(_boot_faults(architecture, wanted, taking, world.restart))
    return result


def _boot_faults(
    architecture: Architecture, wanted: Handler, taking: Sequence[Booted], restart: Restart
) -> Iterable[str]:
    own = os.path.join(binfmt_d.OWN, f"{wanted.name}.conf")
    if restart.trouble:
        yield (
            f"{wanted.name} is gone after a restart: {restart.trouble}; set persistent: false to accept that, and "
            "declare it again after each restart"
        )
    if taking and not _same(taking[-1].handler, wanted):
        found = taking[-1]
        yield (
            f"after a restart {found.handler.name} of {found.path} takes its programs"
            + ("" if restart.trouble else f", since that is applied after {own}")
            + f" (it runs {found.handler.interpreter} with flags {found.handler.flags}); change or remove it there"
        )
    elif not taking and not restart.trouble:
        yield f"{wanted.name} is gone after a restart: a later file registers something else under that name"


def as_result(
    platform: Platform, wish: Wish, world: World, programs: qemu.Programs, boot: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return what a module says of one platform; its problems are what keeps it from what is wished."""
    architecture = platform.arch
    lacking = cpu.lacking(platform) if architecture.oci in world.native else ""
    native = architecture.oci in world.native and not lacking
    handler = world.handler(architecture)
    inherited = world.inherited.get(architecture.oci)
    verdict = inherited or world.verdicts.get(architecture.oci)
    wanted = wish.handlers.get(architecture.oci)
    booted = [entry.handler for entry in _at_boot(world, {}) if entry.handler.runs(architecture)]
    problems = [*(faults(architecture, wanted, world) if wanted else []), *boot.get(architecture.oci, ())]
    version = programs.version(handler.interpreter) if handler else None
    really = verdict.version if verdict else None
    if lacking:
        problems.append(
            f"programs of {platform} do not run: {lacking}, and QEMU cannot help, since handlers do not tell variants "
            "apart; remove it from platforms, or use another host"
        )
    elif native and handler is not None:
        problems.append(f"{handler.name} takes programs that the CPU runs itself, and much faster")
    if world.unproven and not native:
        problems.append(world.unproven)
    broken = world.deep.get(architecture.oci, "")
    if broken:
        problems.append(f"{broken}: {deep_words(platform, really)}; {ANOTHER_QEMU}")
    elif world.unproven_deep and not native:
        problems.append(world.unproven_deep)
    return {
        "platform": str(platform),
        "native": native,
        "inherited": inherited is not None,
        "name": handler.name if handler else None,
        "interpreter": handler.interpreter if handler else inherited.interpreter if inherited else None,
        "flags": handler.flags if handler else "",
        "credentials": bool(handler and "C" in handler.flags),
        "enabled": inherited is not None or bool(handler and handler.enabled and world.kernel.state != "off"),
        "version": version,
        "kernel_version": really,
        "persistent": bool(handler and booted) and _same(booted[-1], handler),
        "verified": False if lacking else True if native else not (verdict.trouble or broken) if verdict else None,
        "problems": problems,
    }


def deep_words(platform: Platform, version: str | None) -> str:
    """Say whose programs break, with which QEMU."""
    return f"{f'QEMU {version}' if version else 'this QEMU'} does not run well what packages of {platform} do"


def _same(one: Handler, other: Handler | None) -> bool:
    return other is not None and (one.interpreter, one.flags) == (other.interpreter, other.flags)
