# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Execute a program of a platform, and look at what really runs it: the proof that nothing else can give.

BuildKit finds its platforms in the same way (moby/buildkit, util/archutil); this looks closer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from typing import TYPE_CHECKING, Callable, NamedTuple

from .._files import write_atomically
from .._platform import by_machine
from .._problem import Problem
from . import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._platform import Architecture

ARGUMENTS = ("probe", "x", "y")
PATIENCE = 10.0  # seconds; 5 ms are usual
MEMORY = ""
# Some hosts mount /tmp with noexec, some /run, some /dev/shm; hardly one all of them.
DIRECTORIES = ("/tmp", "/run", "/var/lib", "/dev/shm", "/var/tmp")
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
    program = elf.program(architecture, unseen=unseen)
    return anywhere(program, lambda path, descriptors: _execute(path, descriptors, look))


def anywhere(program: bytes, execute: Callable[[str, tuple[int, ...]], Run]) -> Run:
    """Let `execute` have a program as a path that can be executed, and the descriptors that this needs.

    Raise a Problem where this host executes no file of ours at all, which says nothing of any QEMU.
    """
    refused = []
    for place in _places():
        try:
            with _file(place, program) as (path, descriptors):
                try:
                    return execute(path, descriptors)
                except OSError as error:
                    refusal = error
        except OSError as error:  # no room, no right to write
            refused.append(f"{place or 'memory'}: {error.strerror}")
            continue
        # A mount with noexec, or a policy? Then it refuses the CPU's own programs too.
        if refusal.errno not in (errno.EACCES, errno.EPERM) or _executes(place):
            return Run(None, refusal.strerror or str(refusal))
        refused.append(f"{path}: {refusal.strerror}")
    raise Problem(
        f"programs of platforms cannot be tried out, since this host executes none of ours ({'; '.join(refused)})",
        "mount one of these directories without noexec, or set verify: false",
    )


def trouble() -> str:
    """Return why nothing can be executed for a proof on this host, or nothing."""
    if _memory_works():
        return ""
    try:
        run(by_machine(os.uname().machine).arch)
    except Problem as problem:
        return str(problem)
    return ""


def _executes(place: str) -> bool:
    """Say whether a program of the CPU itself runs from a place."""
    try:
        own = elf.program(by_machine(os.uname().machine).arch)
        with _file(place, own) as (path, descriptors):
            return not _execute(path, descriptors, None).trouble
    except (OSError, Problem):
        return False


def _execute(path: str, descriptors: tuple[int, ...], look: Callable[[str], None] | None) -> Run:
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
    try:
        if look is not None:
            exe = f"/proc/{process.pid}/exe"
            _await_exec(exe)
            look(exe)
        output, _none = process.communicate(b"", PATIENCE)
    except subprocess.TimeoutExpired:
        return Run(None, f"it did not end within {PATIENCE:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()
    return Run(process.returncode, output.decode("utf-8", "replace").strip()[:200])


def _await_exec(exe: str) -> None:
    """Wait until a child process is not this program any more: Popen may return a moment before the kernel says so."""
    own = os.stat("/proc/self/exe")
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # it has ended already
        while os.path.samestat(os.stat(exe), own) and time.monotonic() < end:
            time.sleep(0.001)


def _places() -> Iterator[str]:
    """Give the places from which a program may be executed: memory ("") first, then directories."""
    yield MEMORY
    yield from dict.fromkeys((os.environ.get("TMPDIR", DIRECTORIES[0]), *DIRECTORIES))


@contextlib.contextmanager
def _file(place: str, program: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give a path that executes `program`, and the descriptors that it needs."""
    if place == MEMORY:
        descriptor = _memory()
        try:
            os.write(descriptor, program)
            # No file, so neither a full disk nor a mount with noexec is in the way.
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)
        return
    # A name that the next write into the directory sweeps away where this process is killed.
    path = os.path.join(place, f".multiarch.drone.{os.getpid()}.{os.urandom(8).hex()}")
    try:
        write_atomically(path, program, mode=0o755)
        yield path, ()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _memory() -> int:
    """Return a file in memory; OSError where the kernel lets nobody execute one (vm.memfd_noexec=2)."""
    try:
        return os.memfd_create("multiarch-probe", MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create("multiarch-probe", 0)


def _memory_works() -> bool:
    try:
        os.close(_memory())
    except OSError:
        return False
    return True
