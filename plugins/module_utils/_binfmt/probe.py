# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Execute a program of a platform, and look at what really runs it: the proof that nothing else can give.

BuildKit finds its platforms in the same way (moby/buildkit, util/archutil); this looks closer.
"""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, NamedTuple

from .._files import temporary_directory, write_atomically
from . import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._platform import Architecture

ARGUMENTS = ("probe", "x", "y")
PATIENCE = 10.0  # seconds; 5 ms are usual
MFD_EXEC = 0x10  # linux/memfd.h, since 6.3: older kernels know no such flag and need none


class Run(NamedTuple):
    """How the program ended."""

    status: int | None  # None: the kernel did not start it, or it did not end
    said: str = ""  # the kernel's error, or what was printed

    @property
    def trouble(self) -> str:
        """What is wrong, or nothing."""
        if self.status == len(ARGUMENTS):
            return ""
        if self.status is None:
            return f"a program for it does not run ({self.said})"
        if self.status == len(ARGUMENTS) - 1:
            return "an argument of each program is swallowed: flag P does not fit the interpreter"
        printed = f", printing {self.said!r}" if self.said else ""
        return f"a program for it ends with {self.status} instead of {len(ARGUMENTS)}{printed}"


def run(architecture: Architecture, look: Callable[[str], None] | None = None, *, unseen: bool = False) -> Run:
    """Execute the argc program; while it waits, call `look` with the path of what executes it."""
    with _file(elf.program(architecture, unseen=unseen)) as (path, descriptors):
        try:
            # No environment: QEMU_LOG_FILENAME, QEMU_CPU and their like change what QEMU does.
            # run_command waits for the end, and this has to be looked at while it runs.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                ARGUMENTS,
                executable=path,
                pass_fds=descriptors,
                env={},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            return Run(None, error.strerror or str(error))
        try:
            if look is not None:
                look(f"/proc/{process.pid}/exe")
            output, _none = process.communicate(b"", PATIENCE)
        except subprocess.TimeoutExpired:
            return Run(None, f"it did not end within {PATIENCE:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                process.communicate()
        return Run(process.returncode, output.decode("utf-8", "replace").strip()[:200])


@contextmanager
def _file(program: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give a path that executes `program`, and the descriptors that it needs."""
    descriptor = _memory()
    if descriptor is not None:
        try:
            os.write(descriptor, program)
            # No file, so neither a full disk nor a mount with noexec is in the way.
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)
        return
    # Not below /run, which may be mounted with noexec.
    with temporary_directory(large=True) as directory:
        path = os.path.join(directory, "program")
        write_atomically(path, program, mode=0o755)
        yield path, ()


def _memory() -> int | None:
    """Return a file in memory; None where the kernel lets nobody execute one (vm.memfd_noexec=2)."""
    for flags in (MFD_EXEC, 0):
        try:
            return os.memfd_create("multiarch-probe", flags)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue
            return None
    return None
