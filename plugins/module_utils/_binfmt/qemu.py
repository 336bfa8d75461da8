# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""QEMU's programs: where a host has them, which of them a handler can use, and which version they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Callable

from .._files import make_directory, write_atomically
from .._platform import ARCHITECTURES
from .._problem import Problem
from . import elf
from .cpu import runs_file_of
from .kernel import LONGEST_INTERPRETER, canonical
from .regular import read_regular

if TYPE_CHECKING:
    from .._platform import Architecture

# Where distributions put the QEMU of an architecture. Debian's and Ubuntu's wrapper comes first, since their packages
# register it too: `ARCH-binfmt-P` is QEMU under a name that makes it expect flag P.
PACKAGED = ("/usr/libexec/qemu-binfmt/{}-binfmt-P", "/usr/bin/qemu-{}-static", "/usr/bin/qemu-{}")
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
INSTALL = "install the package qemu-user-static (role multiarch.drone.qemu does)"
ELSEWHERE = (
    "install {0}'s own package of a static QEMU, where it has one (the role knows Debian's and Ubuntu's alone), or take QEMU out of an "
    "image (source: image) or from a directory (source: path)"
)
LOOSE = ("qemu-{}-static", "qemu-{}", "{}-binfmt-P")  # their names in a directory of somebody's own
CACHE = "/run/multiarch.drone/qemu.json"
# With P the kernel tells QEMU by AT_FLAGS that argv[0] is there (Linux 5.12); QEMU listens since 6.0.
KERNEL_TELLS_P = (5, 12)
QEMU_HEARS_P = (6, 0)


def find(architecture: Architecture, directory: str | None = None) -> str:
    """Return the path of the static QEMU of an architecture, as the package has it or in `directory`.

    A dynamic one is no use: flag F opens it once, and in a container its loader and libraries are missing.
    """
    if directory is None:
        candidates = [path.format(architecture.qemu) for path in PACKAGED]
        where, hint = "on this host", INSTALL if _has_apt() else ELSEWHERE.format(_release())
    else:
        candidates = [os.path.join(directory, name.format(architecture.qemu)) for name in LOOSE]
        where, hint = f"in {directory}", f"it has to hold one of {', '.join(map(os.path.basename, candidates))}"
    there = [path for path in candidates if os.path.lexists(path)]
    troubles = []
    for path in there:
        trouble = unusable(path)
        if not trouble:
            return path
        troubles.append(trouble)
    if troubles:
        raise Problem("; ".join(troubles), hint)
    if directory is None:
        others = [a for a in ARCHITECTURES.values() if _packaged(a)]
        if others:
            version = Programs().version(_packaged(others[0]))
            raise Problem(
                f"{f'QEMU {version}' if version else 'the QEMU'} of {_release()} has no {architecture.oci}: there is no static QEMU "
                f"for linux/{architecture.oci} {where}",
                f"the QEMU that is installed has none for it (for {', '.join(a.oci for a in others)} it has): take a newer one "
                "(source: image or path), or remove it from platforms",
            )
    raise Problem(f"there is no static QEMU for linux/{architecture.oci} {where}", hint)


def _packaged(architecture: Architecture) -> str:
    """Return where the distribution has the QEMU of an architecture, or nothing."""
    return next(filter(os.path.lexists, (path.format(architecture.qemu) for path in PACKAGED)), "")


def _release() -> str:
    """Return the distribution's name and release, as it calls itself."""
    for path in OS_RELEASE:
        with contextlib.suppress(OSError):
            match = re.search(
                r"^PRETTY_NAME=[\"']?(.*?)[\"']?\s*$", read_regular(path).decode("utf-8", "replace"), re.MULTILINE
            )
            if match:
                return match[1]
    return "this distribution"


def _has_apt() -> bool:
    """Say whether the distribution is Debian or one of its children, whose package the role can install."""
    for path in OS_RELEASE:
        with contextlib.suppress(OSError):
            text = read_regular(path).decode("utf-8", "replace")
            return bool(re.search(r"^ID(_LIKE)?=.*\b(debian|ubuntu)\b", text, re.MULTILINE))
    return True


def unusable(path: str) -> str:
    """Return why no handler can use the program at `path`, or nothing."""
    if not path.startswith("/") or re.search(r"[\s:\0-\x1f]", path):
        return f"{path!r} cannot be an interpreter: the kernel's and binfmt.d's rules take no space, colon or newline"
    if len(os.fsencode(path)) > LONGEST_INTERPRETER:
        return f"{path} cannot be an interpreter: it is longer than the kernel's {LONGEST_INTERPRETER} bytes"
    try:
        binary = elf.read(path)
    except Problem as problem:
        return str(problem)
    if not binary.static:
        return f"{path} is dynamic: in containers its libraries are missing, so it has to be a static QEMU"
    if not os.access(path, os.X_OK):
        return f"{path} is not executable"
    if not runs_file_of(binary.machine):
        return f"{path} is a program for another CPU than this host's {os.uname().machine}"
    return ""


def expects_p(interpreter: str) -> bool:
    """Say whether this interpreter cannot work without flag P: it would take the program's argument for a name."""
    return interpreter.endswith("-binfmt-P")


def flags(interpreter: str, version: str | None, credentials: bool) -> str:
    """Return the flags with which an interpreter works: F always, P where it expects or understands it, C by wish."""
    understands = numbers(version or "") >= QEMU_HEARS_P and numbers(os.uname().release) >= KERNEL_TELLS_P
    p = "P" if expects_p(interpreter) or understands else ""
    return canonical(f"{p}OF{'C' if credentials else ''}")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (10, 0) of 10.0.13-rc1."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


class Programs:
    """What the QEMU at a path is: its version and a hash of its content.

    Starting QEMU for its version takes 7 ms and hashing it 15 ms, so both are kept in /run, by what the file is
    (device, inode, size, times): a converged host is asked often.
    """

    def __init__(self, cache: str = CACHE) -> None:
        self._cache = cache
        self._changed = False
        self._known: dict[str, dict[str, str]] = {}
        try:
            known = json.loads(read_regular(cache))
            # Only root writes there; anything else would let its writer choose what we believe.
            if os.stat(cache).st_uid == os.geteuid() and isinstance(known, dict):
                self._known = known
        except (OSError, ValueError):
            pass

    def version(self, path: str) -> str | None:
        """Return the version that the QEMU at `path` tells; None where it tells none."""
        return self._of(path, "version", self._ask) or None

    def same(self, one: str, other: str) -> bool:
        """Say whether two paths, such as /proc/PID/exe and a file, have the same content."""
        try:
            a, b = os.stat(one), os.stat(other)
        except OSError:
            return False
        if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino):
            return True
        # Hosts in containers share a kernel and have files of their own: only other content is another QEMU.
        return a.st_size == b.st_size and self._of(one, "sha256", self._hash) == self._of(other, "sha256", self._hash)

    def save(self) -> None:
        """Keep what was learned; where that is impossible, it is learned again."""
        if not self._changed:
            return
        try:
            make_directory(os.path.dirname(self._cache))
            write_atomically(self._cache, json.dumps(self._known), mode=0o600)
        except OSError:
            pass

    def _of(self, path: str, what: str, find_out: Callable[[str], str]) -> str:
        try:
            stat = os.stat(path)
        except OSError:
            return ""
        key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
        known = self._known.setdefault(key, {})
        if what not in known:
            known[what] = find_out(path)
            self._changed = True
        return known[what]

    @staticmethod
    def _ask(path: str) -> str:
        try:
            # Under its own name, Debian's wrapper would take --version for a program to run.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                ["qemu", "--version"],
                executable=path,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        match = re.search(rb"version (\d[\w.+-]*)", done.stdout)
        return match.group(1).decode() if match else ""

    @staticmethod
    def _hash(path: str) -> str:
        return hashlib.sha256(read_regular(path)).hexdigest()
