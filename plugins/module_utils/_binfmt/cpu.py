# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the CPU runs itself: architectures, decided by executing, and their levels, by its flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._platform import ARCHITECTURES, by_machine
from .._problem import Problem

if TYPE_CHECKING:
    from .._platform import Architecture, Platform

# CPUs that may run another architecture's programs themselves; only executing one tells. Both ways: a kernel of 64 bits
# may have programs of 32 alone (Raspberry Pi OS), and under `linux32` it says that it is one of 32.
RELATIVES = {"amd64": ("386",), "arm64": ("arm",), "386": ("amd64",), "arm": ("arm64",)}
# What each level of the x86-64 psABI adds, in the names of /proc/cpuinfo (abm is LZCNT, pni SSE3).
X86_LEVELS = {
    "v2": ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"),
    "v3": ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"),
    "v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
ARM_LEVELS = ("v5", "v6", "v7", "v8")
ARM_MACHINES = {"armv5": "v5", "armv6": "v6", "armv7": "v7"}  # how `uname -m` begins; others are v8
CPUINFO = "/proc/cpuinfo"


def is_native(architecture: Architecture) -> bool:
    """Say whether the CPU runs this architecture itself, whatever handlers there are."""
    try:
        own = by_machine(os.uname().machine).architecture
    except Problem:  # a CPU that we have no name for: all that we know is foreign to it
        return False
    if architecture.oci == own:
        return True
    if architecture.oci not in RELATIVES.get(own, ()):
        return False
    from . import probe

    return not probe.run(architecture, unseen=True).trouble


def runs_file_of(machine: int) -> bool:
    """Say whether the CPU runs programs whose ELF header has this e_machine."""
    return any(is_native(a) for a in ARCHITECTURES.values() if a.machine == machine)


def lacking(platform: Platform) -> str:
    """Return what a CPU that runs an architecture itself lacks for a platform's variant, or nothing."""
    if platform.architecture == "amd64" and platform.variant in X86_LEVELS:
        levels = list(X86_LEVELS)
        wanted = [flag for level in levels[: levels.index(platform.variant) + 1] for flag in X86_LEVELS[level]]
        missing = [flag for flag in wanted if flag not in _flags()]
        return f"the CPU lacks {', '.join(missing)}" if missing else ""
    if platform.architecture == "arm":
        machine = os.uname().machine
        own = next((level for prefix, level in ARM_MACHINES.items() if machine.startswith(prefix)), "v8")
        if ARM_LEVELS.index(platform.variant) > ARM_LEVELS.index(own):
            return f"the CPU is an {machine}"
    if str(platform) == "linux/arm64/v9" and "sve2" not in _flags():
        return "the CPU lacks sve2"
    return ""


def _flags() -> frozenset[str]:
    """Return the flags that every CPU of the host has."""
    found: frozenset[str] | None = None
    try:
        with open(CPUINFO, encoding="ascii", errors="replace") as file:
            for line in file:
                key, _colon, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    flags = frozenset(value.split())
                    found = flags if found is None else found & flags
    except OSError:
        pass
    return found or frozenset()
