# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a module does at this moment, for the controller to show while it waits: one line in a file on the host.

plugins/action/buildx_image.py gives a module the name of the file, and reads it through the connection every few seconds. The
file is made when there is something to say, which most runs have not. It can be read by its user alone, goes with the module,
and what a killed one leaves is removed as its other temporary files are (`_files.sweep`).
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable

# The module argument that names the file. No option: Module takes it out before the others are looked at.
ARGUMENT = "_multiarch_progress"
# Where root's is, and where it is for others.
RUN, OTHERS = "/run/multiarch.drone", "/tmp"
LONGEST = 160

_now: dict[str, Any] = {}


def begin(name: object, hide: Callable[[str], str]) -> None:
    """Tell from now on what goes on, in the file of this name; `hide` takes secrets out."""
    if isinstance(name, str) and re.fullmatch("[0-9a-f]{16}", name):
        _now.update(name=name, hide=hide)


def wanted() -> bool:
    """Return whether somebody waits for words."""
    return bool(_now)


def tell(text: str) -> None:
    """Say what goes on now. It never fails: who works does not stop for want of words."""
    if not _now:
        return
    line = "".join(char if char.isprintable() else " " for char in _now["hide"](text))[:LONGEST]
    data = line.encode("utf-8", "replace") + b"\n"
    try:
        if "file" not in _now:
            _now["path"] = path = _path(_now["name"])
            _now["file"] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.pwrite(_now["file"], data, 0)
        os.ftruncate(_now["file"], len(data))
    except OSError:
        end()


def end() -> None:
    """Remove the file: nothing goes on."""
    try:
        if "file" in _now:
            os.close(_now["file"])
            os.unlink(_now["path"])
    except OSError:
        pass
    _now.clear()


def duration(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 3 min, 2 h 5 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _path(name: str) -> str:
    directory = OTHERS
    if os.geteuid() == 0:
        from ._files import make_directory  # only a change needs it

        directory = RUN
        make_directory(directory, 0o700)
    # As `_files` names what it may sweep.
    return os.path.join(directory, f"multiarch.drone.{os.getpid()}.{name}")
