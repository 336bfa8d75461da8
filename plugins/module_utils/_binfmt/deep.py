# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Execute what the triggers of packages do: threads, memory, signals, processes, large files (deep.c), and say what breaks.

QEMU has versions that run a program of a hundred bytes, and crash in ldconfig.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import zlib
from typing import TYPE_CHECKING

from .._platform import by_machine
from .._problem import Problem
from . import probe, qemu
from .deep_programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._platform import Architecture

PATIENCE = 60.0  # seconds; 0.3 are usual, on a busy machine some
# The steps of deep.c, in their order; it says the name of each as it begins.
STEPS = (
    "numbers",
    "memory",
    "heap",
    "signals",
    "threads",
    "processes",
    "exec",
    "large files",
    "directories",
    "clocks",
    "done",
)
MFD_NOEXEC_SEAL = 0x8  # linux/memfd.h: all that vm.memfd_noexec=2 leaves


def trouble(architecture: Architecture, interpreter: str | None = None) -> str:
    """Return the step that fails and how, by the kernel's handler or by the QEMU at `interpreter`; "" where none does."""
    program = zlib.decompress(base64.b85decode(PROGRAMS[architecture.oci]))

    def execute(path: str, descriptors: tuple[int, ...]) -> probe.Run:
        with _empty_file() as file:
            return _execute(path, descriptors, file, interpreter)

    return judge(probe.anywhere(program, execute))


def unproven() -> str:
    """Return why this host says nothing of QEMU: the CPU's own program fails as well, by a limit or a policy; or nothing."""
    try:
        own = by_machine(os.uname().machine).arch
    except Problem:  # a CPU that we have no program for
        return ""
    failed = trouble(own)
    return (
        f"the deep check proves nothing on this host, since the CPU's own program fails as well: {failed}"
        if failed
        else ""
    )


def judge(run: probe.Run) -> str:
    """Return what the program's end says: "threads: it ended by SIGSEGV", or nothing."""
    begun, said = "start", ""
    noise: list[str] = []
    for line in run.said.splitlines():
        if line in STEPS:
            begun, noise = line, []
        elif line.startswith(f"{begun}: "):
            said = line[len(begun) + 2 :]
        else:
            noise.append(line.strip())
    if begun == "done" and run.status == 0:
        return ""
    if not said:
        if run.status is None:
            said = noise.pop()  # the kernel's error, or that it did not end
        elif run.status < 0:
            said = f"it ended by {_name(-run.status)}"
        else:
            said = f"it ended with status {run.status}"
        words = " ".join(filter(None, noise))[:200]
        said += f", saying {words!r}" if words else ""
    return f"{begun}: {said}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _execute(path: str, descriptors: tuple[int, ...], file: int, interpreter: str | None) -> probe.Run:
    # Its child executes the path again, for which the handler has to be there; by QEMU itself that is left out.
    arguments, executable = ["probe", path], path
    if interpreter is not None:
        wrapper = qemu.expects_p(interpreter)
        arguments = [interpreter, path, "probe", ""] if wrapper else ["qemu", path, ""]
        executable = interpreter
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        arguments,
        executable=executable,
        pass_fds=descriptors,
        env={},
        cwd="/",
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_no_core,  # pylint: disable=subprocess-popen-preexec-fn
    )
    ended, output = True, b""
    try:
        output, _none = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        ended = False
    finally:
        # Children of a program that crashed may wait for ever.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if not ended:
            output = process.communicate()[0]
    said = output.decode("utf-8", "replace")
    return (
        probe.Run(process.returncode, said)
        if ended
        else probe.Run(None, f"{said}\nit does not go on ({PATIENCE:.0f} s)")
    )


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def _empty_file() -> Iterator[int]:
    """Give a file that may grow over 4 GiB, and takes no room; it has no name, so that nothing is left of it."""
    for flags in (0, MFD_NOEXEC_SEAL):
        try:
            descriptor = os.memfd_create("multiarch-probe", flags)
        except OSError:
            continue
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryFile() as file:
        yield file.fileno()
