# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What brings handlers back after a restart: systemd-binfmt or OpenRC's service binfmt, and binfmt-support after it.

Only files are read: `systemctl` takes ten milliseconds, in each task on each host. systemd: systemd.unit(5).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Callable, NamedTuple

from .kernel import Handler
from .regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/"  # where the host's files are
UNIT_PATH = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
BINFMT_MISC = "/proc/sys/fs/binfmt_misc"
MOUNTS = ("proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount")
FORMATS = "/var/lib/binfmts"  # binfmt-support's own record of what it registers


class Format(NamedTuple):
    """A format that binfmt-support registers at boot."""

    path: str
    text: str
    handler: Handler | None  # None where it goes by a file's extension


class Restart(NamedTuple):
    """What a restart of the host does with binfmt_misc."""

    trouble: str = ""  # why the files of binfmt.d are not applied
    formats: tuple[Format, ...] = ()  # what binfmt-support then registers under names that are still free


def read() -> Restart:
    """Return what a restart of this host does."""
    return Restart(_trouble(), tuple(_formats()))


def _trouble() -> str:
    if os.path.isdir(_path("run/systemd/system")):
        return _unit_trouble("systemd-binfmt.service")
    if os.path.isdir(_path("run/openrc")):
        levels = _path("etc/runlevels")
        if any(os.path.lexists(os.path.join(levels, level, "binfmt")) for level in _names(levels)):
            return ""
        return "OpenRC's service binfmt is in no runlevel (rc-update add binfmt boot)"
    return "neither systemd nor OpenRC runs here, so nothing applies them"


def _unit_trouble(name: str) -> str:
    """Return why systemd does not start a unit at boot, or nothing."""
    text = _unit(name)
    if text is None:
        return f"{name} is not installed"
    if not text.strip():
        return f"{name} is masked (systemctl unmask {name})"
    return _unmet(name, text)


def _unit(name: str) -> str | None:
    """Return a unit's file with its drop-ins; "" where it is masked, None where there is none."""
    for directory in UNIT_PATH:
        path = _path(directory, name)
        if os.path.lexists(path):
            if os.path.realpath(path) == "/dev/null":
                return ""
            text = _text(path)
            break
    else:
        return None
    if not text.strip():
        return ""
    drop_ins: dict[str, str] = {}
    for folder in (f"{name}.d", f"{name.rpartition('.')[2]}.d"):
        for directory in UNIT_PATH:
            for file in _names(_path(directory, folder)):
                if file.endswith(".conf"):
                    drop_ins.setdefault(file, _path(directory, folder, file))
    return "\n".join([text, *(_text(drop_ins[file]) for file in sorted(drop_ins))])


def _unmet(name: str, text: str) -> str:
    """Return which of a unit's conditions keeps it off, or nothing."""
    conditions: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and key.strip().startswith("Condition"):
            conditions.append((key.strip()[len("Condition") :], value.strip()))
            if not value.strip():  # it takes back all that were before
                conditions.clear()
    alternatives = []
    for key, value in conditions:
        holds = _holds(key, value.lstrip("|"))
        text = f"its condition Condition{key}={value} does not hold here"
        if value.startswith("|"):
            alternatives.append((holds, text))
        elif not holds:
            return f"{name} does not start: {text}"
    if alternatives and not any(holds for holds, _text in alternatives):
        return f"{name} does not start: {alternatives[0][1]}"
    return ""


def _holds(key: str, value: str) -> bool:
    negated, value = value.startswith("!"), value.lstrip("!").strip()
    tests: dict[str, Callable[[str], bool]] = {
        "Virtualization": _is_virtual,
        "PathIsReadWrite": _is_writable,
        "PathIsMountPoint": _is_mounted_at_boot,
        "PathExists": lambda path: os.path.exists(_path(path)),
        "PathIsDirectory": lambda path: os.path.isdir(_path(path)),
        # What we write ourselves is there by then.
        "DirectoryNotEmpty": lambda path: path == "/etc/binfmt.d" or bool(_names(_path(path))),
        "KernelCommandLine": lambda word: word in re.split(r"[\s=]", _text(_path("proc/cmdline"))),
    }
    # Of a condition that is not listed here nothing is claimed.
    return key not in tests or tests[key](value) is not negated


def _is_mounted_at_boot(path: str) -> bool:
    if path != BINFMT_MISC:
        return os.path.ismount(_path(path))
    if any(line.split()[1:2] == [BINFMT_MISC] for line in _text(_path("etc/fstab")).splitlines()):
        return True
    automount = _unit(MOUNTS[0])
    if automount and not _unmet(MOUNTS[0], automount):
        return True
    wants = [_path(directory, "sysinit.target.wants", MOUNTS[1]) for directory in UNIT_PATH]
    mount = _unit(MOUNTS[1])
    return any(map(os.path.lexists, wants)) and bool(mount) and not _unmet(MOUNTS[1], mount or "")


def _is_writable(path: str) -> bool:
    try:
        return not os.statvfs(_path(path)).f_flag & os.ST_RDONLY
    except OSError:
        return False


def _is_virtual(kind: str) -> bool:
    release = _text(_path("proc/sys/kernel/osrelease")).lower()
    wsl = "microsoft" in release or "wsl" in release
    marks = ("run/systemd/container", ".dockerenv", "run/.containerenv")
    container = wsl or any(os.path.exists(_path(mark)) for mark in marks)
    names = {_text(_path("run/systemd/container")).strip()}
    if wsl:
        names.add("wsl")
    if container:
        names |= {"container", "yes", "true", "1"}
    return kind in names


def _formats() -> Iterator[Format]:
    """Give the formats that binfmt-support registers, as far as it is installed and started."""
    if not os.path.exists(_path("usr/sbin/update-binfmts")):
        return
    if os.path.isdir(_path("run/systemd/system")) and _unit("binfmt-support.service") == "":
        return
    for name in _names(_path(FORMATS)):
        path = _path(FORMATS, name)
        text = _text(path)
        lines = text.split("\n")
        if len(lines) >= 6:  # package, type, offset, magic, mask, interpreter, detector, credentials, preserve, fix
            kind, offset, magic, mask, interpreter = lines[1:6]
            yes = [line == "yes" for line in [*lines[7:10], "", "", ""][:3]]
            flags = "".join(flag for flag, on in zip("CPF", yes) if on)
            handler = None
            if kind == "magic":
                handler = Handler.from_fields(name, offset, magic, mask, interpreter, flags)
            yield Format(path, text, handler)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return read_regular(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _path(*parts: str) -> str:
    return os.path.join(ROOT, *(part.lstrip("/") for part in parts))
