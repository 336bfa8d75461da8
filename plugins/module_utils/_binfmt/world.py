# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host executes: the kernel's handlers, the files of binfmt.d, the CPU, and what executing a program shows."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Mapping, NamedTuple, Sequence

from .._platform import ARCHITECTURES
from . import binfmt_d, kernel, restart
from .cpu import is_native
from .restart import Restart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._platform import Architecture
    from . import qemu
    from .binfmt_d import File
    from .kernel import Handler, Kernel


class Verdict(NamedTuple):
    """What executing a program of an architecture showed."""

    trouble: str  # "" where the interpreter's file, as it is on disk, ran it well
    version: str | None = None  # of the QEMU that really ran
    interpreter: str | None = None  # what really ran, where nobody could say so beforehand


class World(NamedTuple):
    """What the kernel, /etc/binfmt.d and the CPU say."""

    kernel: Kernel
    files: Sequence[File] = ()
    restart: Restart = Restart()
    native: frozenset[str] = frozenset()  # OCI names of the architectures that the CPU runs itself
    verdicts: Mapping[str, Verdict] = {}  # by OCI name, where one was executed
    inherited: Mapping[str, Verdict] = {}  # by OCI name: what runs by handlers of the parent user namespace
    deep: Mapping[str, str] = {}  # by OCI name: what a program that does what packages do met, "" where it ran well
    unproven: str = ""  # why nothing can be executed for a proof here
    unproven_deep: str = ""  # why that program proves nothing here
    root: bool = True
    kept: frozenset[str] = frozenset()  # paths of QEMU that were taken out of images

    def handler(self, architecture: Architecture) -> Handler | None:
        """Return the entry that gets programs of an architecture, or else the one that should."""
        answering = self.kernel.of(architecture)
        disabled = (handler for handler in self.kernel.handlers if handler.is_qemu and handler.runs(architecture))
        return answering[0] if answering else self.kernel.named(f"qemu-{architecture.qemu}") or next(disabled, None)

    def version(self, architecture: Architecture) -> str | None:
        """Return the version of the QEMU that ran a program of an architecture."""
        verdict = self.inherited.get(architecture.oci) or self.verdicts.get(architecture.oci)
        return verdict.version if verdict else None

    def inherits(self, architectures: Iterable[Architecture], *, alone: bool) -> bool:
        """Say whether handlers of the parent user namespace run all of these, and where asked for no others."""
        asked, lent = {architecture.oci for architecture in architectures}, set(self.inherited)
        return self.kernel.inherited and (lent == asked if alone else lent >= asked)


def read(architectures: Iterable[Architecture], programs: qemu.Programs, *, verify: bool, deep: bool = False) -> World:
    """Return the world as far as these architectures go; with `verify` by executing a program of each, a `deep` one too."""
    architectures = tuple(architectures)
    world = _read(architectures, programs, verify=verify)
    return dig(world, architectures) if deep else world


def dig(world: World, architectures: Iterable[Architecture]) -> World:
    """Execute the deep program of each architecture that a handler runs well."""
    from . import deep

    executed = {**world.inherited, **world.verdicts}
    sound = [a for a in architectures if a.oci in executed and not executed[a.oci].trouble]
    found = {architecture.oci: deep.trouble(architecture) for architecture in sound}
    if any(found.values()):
        unproven = deep.unproven()
        if unproven:
            return world._replace(unproven_deep=unproven)
    return world._replace(deep=found)


def _read(architectures: Sequence[Architecture], programs: qemu.Programs, *, verify: bool) -> World:
    found = kernel.read()
    native = frozenset(a.oci for a in architectures if is_native(a))
    world = World(found, binfmt_d.read(), restart.read(), native, root=os.geteuid() == 0)
    if found.inherited:  # nothing but executing tells what runs, and all that runs is lost by a mount
        foreign = [a for a in ARCHITECTURES.values() if a.oci not in native and not is_native(a)]
        verdicts = {a.oci: try_out(a, None, programs) for a in foreign}
        return world._replace(inherited={name: verdict for name, verdict in verdicts.items() if not verdict.trouble})
    if not verify:
        return world
    from . import probe

    unproven = probe.trouble()
    verdicts = {}
    for architecture in architectures if not unproven else ():
        handler = world.handler(architecture)
        if architecture.oci not in native and handler is not None:
            verdicts[architecture.oci] = try_out(architecture, handler.interpreter, programs)
    return world._replace(verdicts=verdicts, unproven=unproven)


def try_out(architecture: Architecture, interpreter: str | None, programs: qemu.Programs) -> Verdict:
    """Execute a program of an architecture, and compare what ran it with the file at `interpreter` where that is known."""
    seen: list[Verdict] = []

    def look(exe: str) -> None:
        if interpreter is None:
            with contextlib.suppress(OSError):  # it has ended already
                seen.append(Verdict("", programs.version(exe), os.readlink(exe)))
            return
        if programs.same(exe, interpreter):
            seen.append(Verdict("", programs.version(interpreter)))
            return
        version = programs.version(exe)
        try:
            target = os.readlink(exe)
        except OSError:  # it has ended already, as no emulator would: its status says more
            return
        what = "is not there any more" if not os.path.exists(interpreter) else "has other content now"
        name = f"QEMU {version}" if version else target
        seen.append(Verdict(f"the kernel runs an old {name}: {interpreter} {what}", version))

    from . import probe

    run = probe.run(architecture, look)
    if run.trouble or not seen:
        return Verdict(run.trouble, seen[0].version if seen else None)
    return seen[0]
