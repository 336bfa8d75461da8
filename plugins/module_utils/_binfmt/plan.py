# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which foreign platforms a host executes: the wish, the world, what is between them, and the report of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from .._change import Plan, Step
from .._platform import by_machine
from .._problem import Problem
from . import binfmt_d, qemu
from . import kernel as _binfmt
from .kernel import TEMPORARY, Handler, Kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._platform import Architecture, Platform
    from .binfmt_d import File
    from .qemu_image import Image

ON_DISK = "the QEMU on disk"  # what a handler has to run
# CPUs that may run another architecture's programs themselves; only executing one tells.
RELATIVES = {"amd64": ("386",), "arm64": ("arm",), "386": ("amd64",), "arm": ("arm64",), "mips64": (), "mips64le": ()}


class Verdict(NamedTuple):
    """What executing a program of an architecture showed."""

    trouble: str  # "" where the interpreter's file, as it is on disk, ran it well
    version: str | None = None  # of the QEMU that really ran


class World(NamedTuple):
    """What the kernel, /etc/binfmt.d and the CPU say."""

    kernel: Kernel
    files: Sequence[File] = ()
    boot: Sequence[Handler] = ()  # what the files make of the kernel at boot
    native: frozenset[str] = frozenset()  # OCI names of the architectures that the CPU runs itself
    verdicts: Mapping[str, Verdict] = {}  # by OCI name, where one was executed

    def handler(self, architecture: Architecture) -> Handler | None:
        """Return the entry that gets programs of an architecture, or else the one that should."""
        answering = self.kernel.of(architecture)
        return answering[0] if answering else self.kernel.named(f"qemu-{architecture.qemu}")


class Wish(NamedTuple):
    """What the user declares."""

    architectures: tuple[Architecture, ...]
    present: bool = True
    exclusive: bool = False
    persistent: bool = True
    verify: bool = True
    handlers: Mapping[str, Handler] = {}  # wanted, by OCI name; none for native ones
    image: Image | None = None  # where QEMU has to be taken out of first
    obsolete: Mapping[str, Step] = {}  # paths of QEMU that nothing needs any more, and how they go


def read(architectures: Iterable[Architecture], programs: qemu.Programs, *, verify: bool) -> World:
    """Return the world as far as these architectures go; with `verify` by executing a program of each."""
    kernel = _binfmt.read()
    architectures = tuple(architectures)
    native = frozenset(a.oci for a in architectures if is_native(a))
    files = binfmt_d.read()
    world = World(kernel, files, binfmt_d.at_boot(files), native)
    verdicts = {}
    if verify:
        for architecture in architectures:
            handler = world.handler(architecture)
            if architecture.oci not in native and handler is not None:
                verdicts[architecture.oci] = try_out(architecture, handler.interpreter, programs)
    return world._replace(verdicts=verdicts)


def is_native(architecture: Architecture) -> bool:
    """Say whether the CPU runs this architecture itself, whatever handlers there are."""
    try:
        own = by_machine(os.uname().machine).architecture
    except Problem:  # a CPU that we have no name for: all that we know is foreign to it
        return False
    if architecture.oci == own:
        return True
    if architecture.oci not in RELATIVES.get(own, ()):
        return False
    from . import probe

    return not probe.run(architecture, unseen=True).trouble


def try_out(architecture: Architecture, interpreter: str, programs: qemu.Programs) -> Verdict:
    """Execute a program of an architecture, and compare what ran it with the file at `interpreter`."""
    seen: list[Verdict] = []

    def look(exe: str) -> None:
        if programs.same(exe, interpreter):
            seen.append(Verdict("", programs.version(interpreter)))
            return
        version = programs.version(exe)
        try:
            target = os.readlink(exe)
        except OSError:  # it has ended already, as no emulator would: its status says more
            return
        what = "is not there any more" if not os.path.exists(interpreter) else "has other content now"
        told = f"QEMU {version}" if version else target
        seen.append(Verdict(f"the kernel runs an old {told}: {interpreter} {what}", version))

    from . import probe

    run = probe.run(architecture, look)
    if run.trouble or not seen:
        return Verdict(run.trouble, seen[0].version if seen else None)
    return seen[0]


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
    before, after = view(wish, world), view(wish, world)
    steps: list[Step] = []
    for handler in world.kernel.handlers:
        if _is_unwanted(wish, handler):
            after.pop(handler.name)
            steps.append(_change().removal(handler))
    for architecture in wish.architectures:
        wanted = wish.handlers.get(architecture.oci)
        troubles = faults(architecture, wanted, world) if wanted else []
        fresh = wish.image.step(architecture) if wanted and wish.image else None
        if wanted and fresh:
            steps.append(fresh)
            after[wanted.interpreter] = f"as in {wish.image}"
            troubles.append(f"another {wanted.interpreter} is taken out of {wish.image}")
        if wanted and troubles:
            after[wanted.name] = {**wanted.shown(), "gets its programs": True}
            after.pop(wanted.name + TEMPORARY, None)
            if wish.verify:
                after[wanted.name]["runs"] = ON_DISK
            old = world.kernel.named(wanted.name)
            steps.append(_change().registration(architecture, wanted, old, troubles, programs if wish.verify else None))
    if (steps or wish.handlers) and world.kernel.state != "on":
        steps[:0] = _change().enable_steps(world.kernel)
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
        f"{_binfmt.ROOT}/register cannot be written, and there is to do: {', '.join(step.summary for step in steps)}",
        "run it as root (become: true), and not in a container whose /proc/sys is read-only",
    )


def view(wish: Wish, world: World) -> dict[str, Any]:
    """Return the world as far as this wish is concerned, as a person reads it in a diff."""
    kernel = world.kernel
    result: dict[str, Any] = {"binfmt_misc": kernel.state}
    for handler in kernel.handlers:
        if handler.is_qemu or handler.name in {wanted.name for wanted in wish.handlers.values()}:
            result[handler.name] = handler.shown()
    for architecture in wish.architectures:
        name = wish.handlers[architecture.oci].name if architecture.oci in wish.handlers else ""
        if name in result:
            answering = kernel.of(architecture)
            result[name]["gets its programs"] = bool(answering) and answering[0].name == name
            verdict = world.verdicts.get(architecture.oci)
            if verdict is not None:
                result[name]["runs"] = verdict.trouble or ON_DISK
        if wish.image and name:
            shown = wish.image.shown(architecture)
            result.update({wish.image.path(architecture): shown} if shown else {})
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


def report(platform: Platform, wanted: Handler | None, world: World, programs: qemu.Programs) -> dict[str, Any]:
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


def _change() -> Any:
    """Return what makes the steps: where all is as wished, which is most of the time, it is not loaded."""
    from . import steps as _emulation_change

    return _emulation_change
