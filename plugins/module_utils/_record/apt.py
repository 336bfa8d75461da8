# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one gate to apt: what an installation would bring, what a removal would take, and both of them done.

apt-get and not its Python library: bare hosts have no python3-apt, and check mode must not install it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOCK_SECONDS = 120
TIMEOUT = 3600
# No question, no package that restarts what it likes, and the administrator's version of each configuration file.
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
OPTIONS = (
    *("-q", "-y", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"),
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
)
# Never what nobody named: neither a package that another one replaces, nor one that nothing needs any more.
INSTALL = ("install", "--no-install-recommends", "--no-remove")


class Simulated(NamedTuple):
    """What apt would do: the packages that would come and go, and why it would not ("" where it would)."""

    comes: tuple[str, ...]
    goes: tuple[str, ...]
    refusal: str


def update() -> None:
    """Read the archives' package lists again."""
    _call("update", "-q")


def simulate_install(names: Iterable[str]) -> Simulated:
    """Return what an installation would do, removals included."""
    return _simulate("install", "--no-install-recommends", *names)


def simulate_remove(names: Iterable[str], *, purge: bool) -> Simulated:
    """Return what a removal would do, those included that need what is removed."""
    return _simulate("purge" if purge else "remove", *names)


def install(names: Iterable[str]) -> None:
    """Install packages with what they depend on; a package that would have to go for them is refused."""
    _call(*INSTALL, *OPTIONS, *names)


def remove(names: Iterable[str], *, purge: bool = False) -> None:
    """Remove packages, which nothing else needs (see `simulate_remove`); what they brought stays."""
    _call("purge" if purge else "remove", "--no-auto-remove", *OPTIONS, *names)


def _simulate(command: str, *rest: str) -> Simulated:
    done = _run([command, "--simulate", "--no-auto-remove", *OPTIONS, *rest])
    return parse(done.stdout + ("" if done.returncode == 0 else done.stderr), done.returncode)


def parse(text: str, code: int) -> Simulated:
    """Read apt-get's simulation: lines of Inst, Remv and Purg, and E: where it refuses."""
    comes = re.findall(r"^Inst (\S+) (?!\[)", text, re.MULTILINE)
    goes = re.findall(r"^(?:Remv|Purg) (\S+)", text, re.MULTILINE)
    errors = re.findall(r"^E: (.+)$", text, re.MULTILINE)
    refusal = "; ".join(errors) or f"exit code {code}" if code else ""
    return Simulated(_names(comes), _names(goes), refusal)


def _names(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found)))


def _call(*arguments: str) -> None:
    done = _run(list(arguments))
    if done.returncode == 0:
        return
    text = done.stdout + done.stderr
    errors = re.findall(r"^E: (.+)$", text, re.MULTILINE) or (text.strip().splitlines() or ["nothing"])[-1:]
    hint = "look at its sources and its network" if arguments[0] == "update" else "run it by hand to see all of it"
    raise Problem(f"apt-get {arguments[0]} failed ({done.returncode}): {'; '.join(errors)}", hint, stdout=text[-4000:])


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    if not shutil.which("apt-get"):
        raise Problem(
            "this host has no apt-get, and the roles know the packages of Debian and Ubuntu alone",
            "install the packages yourself, and leave them out here",
        )
    try:
        # AnsibleModule.run_command belongs to the module, and this is below it.
        return subprocess.run(  # pylint: disable=ansible-bad-function
            ["apt-get", *arguments],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Problem(
            f"apt-get {arguments[0]} did not end within an hour", "look at its sources and its network"
        ) from error
