# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record on a host of what the roles installed, made and started there, and what of it is there now."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Mapping

from .._docker.packages import installed
from .._files import File, make_directory, put_all
from .._problem import Problem

PATH = "/var/lib/multiarch.drone/record.json"
DPKG = "/var/lib/dpkg/status"
# What the playbooks write before they install Python on a host, which no module can: packages, one a line.
BOOTSTRAP = "python"
ABOUT = "Written by Ansible (multiarch.drone): what its roles installed and made on this host, and may take away again."


@dataclass(frozen=True)
class Entry:
    """What one role did on this host: packages that it brought, files that it made, and what else, in its own words."""

    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.packages or self.files or self.items)


@dataclass(frozen=True)
class World:
    """The record by role, and what of the packages and files that concern us is there."""

    roles: Mapping[str, Entry]
    packages: Mapping[str, str] = field(default_factory=dict)  # versions, "" for what is not installed
    files: frozenset[str] = frozenset()
    within: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what directories among the files hold
    mounts: frozenset[str] = frozenset()  # those of the directories on which something is mounted


def read(role: str, packages: tuple[str, ...], files: tuple[str, ...]) -> World:
    """Return the record, and whether the named packages and files, and those of the role's entry, are there."""
    roles = read_record()
    entry = roles.get(role, Entry())
    try:
        with open(DPKG, encoding="utf-8", errors="replace") as file:
            status = file.read()
    except OSError:
        status = ""
    there = frozenset(path for path in (*files, *entry.files) if os.path.lexists(path))
    directories = [path for path in there if os.path.isdir(path) and not os.path.islink(path)]
    return World(
        roles,
        installed(status, [*packages, *entry.packages]),
        there,
        {path: tuple(os.path.join(path, name) for name in os.listdir(path)) for path in directories},
        mount_points() & frozenset(directories),
    )


def mount_points(path: str = "/proc/self/mountinfo") -> frozenset[str]:
    """Return where something is mounted; os.path.ismount does not see a bind mount of the same file system."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            found = [line.split(" ")[4] for line in file if line.count(" ") > 4]
    except OSError:
        return frozenset()
    return frozenset(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), point) for point in found)


def read_record(path: str = PATH) -> dict[str, Entry]:
    """Return the record by role; a host without one has an empty one."""
    roles = _read(path)
    before = roles.get(BOOTSTRAP, Entry())
    brought = tuple(sorted({*before.packages, *_bootstrapped(path)}))
    return {**roles, BOOTSTRAP: replace(before, packages=brought)} if brought != before.packages else roles


def _read(path: str) -> dict[str, Entry]:
    try:
        with open(path, encoding="utf-8") as file:
            roles = json.load(file)["roles"]
        return {
            role: Entry(tuple(entry["packages"]), tuple(entry["files"]), tuple(entry.get("items", ())))
            for role, entry in roles.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}", "run the task as root (become)") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(
            f"{path} is damaged: {error!r}", "remove it: what was installed before then counts as there before"
        ) from error


def _bootstrapped(path: str) -> list[str]:
    try:
        with open(os.path.join(os.path.dirname(path), BOOTSTRAP), encoding="utf-8", errors="replace") as file:
            return re.findall(r"^[a-z0-9][a-z0-9.+-]*(?::[a-z0-9]+)?$", file.read(), re.MULTILINE)
    except OSError:
        return []


def write_record(roles: Mapping[str, Entry], path: str = PATH) -> None:
    """Write the record at once; an empty one is no file."""
    entries: dict[str, Any] = {
        role: {"packages": sorted(entry.packages), "files": sorted(entry.files), "items": sorted(entry.items)}
        for role, entry in roles.items()
        if entry
    }
    directory = os.path.dirname(path)
    make_directory(directory)
    text = json.dumps({"about": ABOUT, "roles": entries}, indent=2, sort_keys=True) + "\n"
    put_all({path: File(text) if entries else None, os.path.join(directory, BOOTSTRAP): None})
    if not entries:
        with contextlib.suppress(OSError):  # other files are in it
            os.rmdir(directory)
