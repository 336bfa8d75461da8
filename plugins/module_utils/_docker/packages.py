# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Docker's packages are called, by release and by who makes them, and which of them a host has. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Mapping

from .._passwords import without_passwords
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian Policy 5.6.1, and as apt takes it an architecture. No option of apt's, and no minus behind it, with which apt removes.
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9-]+)?")


@dataclass(frozen=True)
class Packages:
    """The packages of an engine, of the buildx plugin ("" where there is none), and the engine's version where it is an old one."""

    engine: tuple[str, ...]
    buildx: str
    version: str = ""


# Tested: Debian 12 and 13. The others are their archives' names, held to recorded package lists.
RELEASES = {
    ("debian", "12"): Packages(("docker.io",), "", "20.10"),
    ("debian", "13"): Packages(("docker.io", "docker-cli"), "docker-buildx"),
    ("debian", "14"): Packages(("docker.io", "docker-cli"), "docker-buildx"),
    ("ubuntu", "22.04"): Packages(("docker.io",), "docker-buildx"),
    ("ubuntu", "24.04"): Packages(("docker.io",), "docker-buildx"),
    ("ubuntu", "25.10"): Packages(("docker.io",), "docker-buildx"),
}
# Debian's testing and Ubuntu's development releases have a codename before they have a version.
CODENAMES = {
    "bookworm": "12",
    "trixie": "13",
    "forky": "14",
    "jammy": "22.04",
    "noble": "24.04",
    "questing": "25.10",
}
# Engines that are no distribution's: Docker's own, and Microsoft's build of moby.
MAKERS = {
    "docker": Packages(("docker-ce", "docker-ce-cli", "containerd.io"), "docker-buildx-plugin"),
    "moby": Packages(("moby-engine", "moby-cli", "moby-containerd"), "moby-buildx"),
}
# By the package that only one of them has.
SOURCE_OF = {"docker.io": "distribution", "docker-ce": "docker", "moby-engine": "moby"}
WORDS = {
    "distribution": "the distribution's Docker",
    "docker": "Docker's own docker-ce",
    "moby": "Microsoft's moby-engine",
}


def release(distribution: Mapping[str, str]) -> tuple[str, str]:
    """Return a distribution's id and version; a testing release is known by its codename alone."""
    codename = re.split(r"[/ ]", distribution["codename"])[0]
    return distribution["id"], distribution["version"] or CODENAMES.get(codename, "")


def check_names(names: Iterable[str]) -> None:
    """Raise a Problem for the first name that no package has."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise Problem(
                f"packages: {without_passwords(name)[:80]!r} is not a valid name of a package",
                "write it as apt list shows it, without a version",
            )


def installed(status: str, names: Iterable[str]) -> dict[str, str]:
    """Return the versions of Debian packages in a text of dpkg's status file, "" for what is not installed.

    A name that an installed package provides counts as installed: in Debian 14 and Ubuntu 25.10 qemu-user-static is one.
    """
    # Looked for, not parsed: the file has megabytes.
    status = f"\n{status}\n\n"
    versions = {}
    for name in names:
        # One package has several entries where several architectures of it are installed.
        own = [_version(entry) for entry in _entries(status, f"\nPackage: {name}\n") if _is_installed(entry)]
        versions[name] = own[-1] if own else _provided(status, name)
    return versions


def _provided(status: str, name: str) -> str:
    """Return the version of the installed package that provides a name, or ""."""
    pattern = re.compile(rf"^Provides:(?:.*[ ,])?{re.escape(name)}(?=[ ,:(]|$)", re.MULTILINE)
    for match in pattern.finditer(status):
        start = status.rindex("\n\n", 0, match.start()) + 1 if "\n\n" in status[: match.start()] else 0
        entry = status[start : status.index("\n\n", match.start()) + 1]
        if _is_installed(entry):
            return _version(entry)
    return ""


def _entries(status: str, head: str) -> Iterator[str]:
    start = status.find(head)
    while start >= 0:
        end = status.index("\n\n", start)
        yield status[start : end + 1]
        start = status.find(head, end)


def _is_installed(entry: str) -> bool:
    return "\nStatus: install ok installed\n" in entry or "\nStatus: hold ok installed\n" in entry


def _version(entry: str) -> str:
    match = re.search(r"^Version: (.+)$", entry, re.MULTILINE)
    return match.group(1) if match else ""


def foreign(status: str, snap: bool) -> str:
    """Return what stands where an engine belongs, and is none that the roles can take; "" where nothing does."""
    if snap:
        return "Docker as a snap (/snap/docker), whose configuration is not the role's to write"
    if installed(status, ["podman-docker"])["podman-docker"] and not source(status):
        return "podman-docker, which is Podman under the name of docker"
    return ""


def source(status: str) -> str:
    """Return where the installed engine came from ("distribution", "docker", "moby"), or "" where none is installed."""
    there = {name for name, version in _by_own_name(status, SOURCE_OF).items() if version}
    return next((SOURCE_OF[name] for name in SOURCE_OF if name in there), "")


def _by_own_name(status: str, names: Iterable[str]) -> dict[str, str]:
    # docker-ce provides docker.io in some versions: here only a package itself counts.
    text = f"\n{status}\n\n"
    return {
        name: next((_version(entry) for entry in _entries(text, f"\nPackage: {name}\n") if _is_installed(entry)), "")
        for name in names
    }
