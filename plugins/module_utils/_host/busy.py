# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is in the middle of: a lock, a drain, an engine that starts. What is read meanwhile may be otherwise at once.

Nothing here waits, and no lock is kept: who holds one goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._docker.engine import Unit

DPKG_LOCK = "/var/lib/dpkg/lock-frontend"


def locks(name: str) -> list[str]:
    """Return who else is at work on what a layer reads, by the locks that they hold."""
    if name in ("engine", "qemu") and _is_locked_by_a_process(DPKG_LOCK):
        return [f"apt or dpkg is at work on this host ({DPKG_LOCK} is locked)"]
    if name == "qemu":
        from .._binfmt.kernel import ROOT

        path = os.path.join(ROOT, "status")
        if _is_locked(path):
            return [f"another task changes this kernel's handlers ({path} is locked)"]
    if name == "builders":
        from .._buildx.store import OUR_LOCK, Store

        path = os.path.join(Store(dict(os.environ)).dir, OUR_LOCK)
        if _is_locked(path):
            return [f"another task changes builders of this user ({path} is locked)"]
    return []


def moves(unit: Unit, later: Unit) -> list[str]:
    """Return whether the engine did not stay as it was, between one moment and a later one."""
    if unit.moving or later.moving:
        return ["the Docker engine starts, stops or reloads just now"]
    if (unit.pid, unit.active) != (later.pid, later.active):
        return ["the Docker engine was started or stopped while it was read"]
    return []


def drains() -> list[str]:
    """Return whether the runner ends its builds, or starts; both take a while."""
    from .._runner.wish import UNIT
    from .._runner.world import services

    state = services(UNIT)[0].state
    words = {"deactivating": "ends its builds", "activating": "starts"}
    return [f"the runner {words[state]} just now ({UNIT})"] if state in words else []


def traces(name: str, params: Mapping[str, Any]) -> object:
    """Return what changes when somebody else changes what a layer reads; to be compared before and after."""
    if name == "engine":
        return _stats(f"{glob.escape(os.path.realpath(params['path']))}*")
    if name == "qemu":
        from .._binfmt import binfmt_d, kernel

        return kernel.read(), binfmt_d.read()
    if name == "builders":
        from .._buildx.store import Store

        return _stats(
            *(os.path.join(Store(dict(os.environ)).dir, part) for part in ("instances/*", "current", "defaults/*"))
        )
    if name == "buildkitd":
        from .._buildkitd.wish import CONFIG, UNITS

        return _stats(f"{UNITS}/buildkitd@*.service", f"{CONFIG}/*/*")
    from .._runner import wish

    return _stats(*wish.paths())


def _stats(*patterns: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for pattern in patterns:
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                stat = os.lstat(path)
                found[path] = (stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode, stat.st_uid)
    return found


def _is_locked(path: str) -> bool:
    """Say whether somebody holds a lock (flock) on a file; ours is given back at once, and whoever else waits for it, waits."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _is_locked_by_a_process(path: str) -> bool:
    """Say whether a process holds a lock of the other kind (fcntl): apt gives up where it meets ours, so it is not tried."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file]
    except OSError:
        return False
    return _holds(rows, inode)


def _holds(rows: Iterable[list[str]], inode: int) -> bool:
    # 1: POSIX  ADVISORY  WRITE 4711 08:01:123456 0 EOF (kernel: Documentation/filesystems/proc.rst)
    return any(len(row) >= 6 and row[1] == "POSIX" and row[5].rpartition(":")[2] == str(inode) for row in rows)
