# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host executes: the kernel's handlers, the files of binfmt.d, the CPU, and what executing a program shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Mapping, NamedTuple, Sequence

from .._platform import by_machine
from .._problem import Problem
from . import binfmt_d, kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._platform import Architecture
    from . import qemu
    from .binfmt_d import File
    from .kernel import Handler, Kernel

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


def read(architectures: Iterable[Architecture], programs: qemu.Programs, *, verify: bool) -> World:
    """Return the world as far as these architectures go; with `verify` by executing a program of each."""
    found = kernel.read()
    architectures = tuple(architectures)
    native = frozenset(a.oci for a in architectures if is_native(a))
    files = binfmt_d.read()
    world = World(found, files, binfmt_d.at_boot(files), native)
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
