# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How entries come into the kernel's binfmt_misc and go from it, and how it is brought up.

Kernel: Documentation/admin-guide/binfmt-misc.rst, fs/binfmt_misc.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from .._problem import Problem
from . import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .kernel import Handler

MODULES = "/lib/modules"
MODULES_DISABLED = "/proc/sys/kernel/modules_disabled"


def load(*, dry: bool = False) -> None:
    """Load the kernel module binfmt_misc; `dry` only asks whether there is one."""
    release = os.uname().release
    modules = os.path.join(MODULES, release)
    hint = "it needs CONFIG_BINFMT_MISC; in a container, load it on the machine (modprobe binfmt_misc)"
    if not os.path.isdir(modules):
        hint = f"{modules} is not there: after an upgrade of the kernel, reboot; in a container, load it on the machine"
    what = "the kernel has no binfmt_misc, and its module cannot be loaded"
    if dry and _are_modules_disabled():
        raise Problem(
            f"{what}: kernel.modules_disabled is 1", "load binfmt_misc at boot, before that is set, and reboot"
        )
    _run(["modprobe", *(["--dry-run"] if dry else []), "binfmt_misc"], what, hint)


def _are_modules_disabled() -> bool:
    """Say whether the kernel takes no modules any more: what `modprobe --dry-run` does not ask."""
    try:
        with open(MODULES_DISABLED, encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def mount() -> None:
    """Mount the kernel's files where everybody expects them."""
    if os.path.exists(os.path.join(kernel.ROOT, "register")):
        return  # loading the module brought it up
    _run(
        ["mount", "-t", "binfmt_misc", "binfmt_misc", kernel.ROOT],
        f"{kernel.ROOT} cannot be mounted",
        "it needs root's rights, and a kernel with binfmt_misc",
    )


def unmount() -> None:
    """Take a mount back."""
    _run(["umount", kernel.ROOT], f"{kernel.ROOT} cannot be unmounted", "it is left mounted")


def register(handler: Handler) -> None:
    """Give the kernel a new entry."""
    try:
        _write("register", handler.line())
    except OSError as error:
        known = {
            errno.EEXIST: f"there is an entry named {handler.name} already",
            errno.ENOENT: f"{handler.interpreter} is not there",
            errno.EINVAL: f"the kernel does not take {handler.line()}: is it older than 4.8, which brought flag F?",
        }
        what = known.get(error.errno or 0, f"{kernel.ROOT}/register: {error.strerror}")
        raise Problem(f"cannot register {handler.name}: {what}") from error


def remove(name: str) -> None:
    """Take an entry from the kernel; an entry that is gone already is no error."""
    try:
        _write(name, "-1")
    except FileNotFoundError:
        return


def enable(name: str, on: bool) -> None:
    """Switch one entry on or off."""
    _write(name, "1" if on else "0")


def switch(on: bool) -> None:
    """Switch binfmt_misc on or off as a whole."""
    _write("status", "1" if on else "0")


@contextmanager
def exclusive_lock(*, may_mount: bool = True) -> Iterator[None]:
    """Keep everybody else who asks for it off this kernel's handlers, hosts in other containers too.

    Containers of one kernel have no file in common but the kernel's own, so the lock is taken on one of those. Where
    it may not be mounted (see `kernel.read`), there are no handlers to protect.
    """
    try:
        status = os.open(os.path.join(kernel.ROOT, "status"), os.O_RDONLY)
    except OSError:
        with _locked_unmounted() if may_mount else nullcontext():
            yield
        return
    try:
        fcntl.flock(status, fcntl.LOCK_EX)
        yield
    finally:
        os.close(status)


@contextmanager
def _locked_unmounted() -> Iterator[None]:
    """Take the same lock where binfmt_misc is not mounted yet: by a process with a mount that nobody else sees.

    Hosts that are provisioned side by side for the first time all begin so.
    """
    script = 'mount -t binfmt_misc binfmt_misc "$0" && exec 9<"$0/status" && flock 9 && echo locked && exec cat'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, kernel.ROOT]
    try:
        holder = subprocess.Popen(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        yield
        return
    with holder:  # which closes the pipes: `cat` ends, and the lock with it
        if holder.stdout is not None:
            holder.stdout.readline()  # nothing where there is no binfmt_misc to lock: loading it is still to come
        yield


def _run(command: list[str], what: str, hint: str) -> None:
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        raise Problem(f"{what}: {command[0]}: {error.strerror}", hint) from error
    if done.returncode != 0:
        raise Problem(f"{what}: {done.stdout.decode('utf-8', 'replace').strip()}", hint)


def _write(name: str, text: str) -> None:
    # Write-only and without O_CREAT, in one write(): the kernel takes each as a whole.
    file = os.open(os.path.join(kernel.ROOT, name), os.O_WRONLY)
    try:
        os.write(file, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(file)
