# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Versions of QEMU that break real programs, as others have met them. Some of it comes and goes: a run that passes proves little.

docs/qemu-versions.md has the same list with more words. Nothing is listed without a source.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Breakage(NamedTuple):
    """What breaks, from a version on and before another one."""

    architecture: str
    since: tuple[int, ...]
    before: tuple[int, ...]
    what: str
    source: str


BREAKAGES = (
    Breakage(
        "arm64",
        (0,),
        (5, 0),
        "ldconfig crashes, and with it packages' triggers",
        "https://github.com/moby/moby/issues/43039",
    ),
    Breakage(
        "arm64",
        (5, 1),
        (6, 0),
        "small static programs crash now and then, so that BuildKit does not find the platform",
        "https://github.com/docker/buildx/issues/542",
    ),
    Breakage("s390x", (5, 2), (5, 3), "handlers of signals crash", "verify: deep with Debian 11's QEMU"),
    Breakage(
        "s390x",
        (7, 0),
        (7, 1),
        "programs crash that give memory back (madvise)",
        "https://github.com/bytecodealliance/wasmtime/pull/4076",
    ),
    Breakage(
        "arm64",
        (9, 2),
        (10, 0),
        "ldconfig of Ubuntu 22.04 and Debian 11 crashes, and with it the triggers of libc-bin",
        "https://github.com/tonistiigi/binfmt/issues/245",
    ),
    Breakage(
        "arm64",
        (10, 1, 3),
        (10, 1, 4),
        "ldconfig of Ubuntu 22.04 crashes, and with it the triggers of libc-bin",
        "https://github.com/tonistiigi/binfmt/issues/298",
    ),
)


def breakage(architecture: str, version: str | None) -> Breakage | None:
    """Return what is known to break programs of an architecture (OCI name) with a version of QEMU."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:3])
    if not numbers:
        return None
    found = (b for b in BREAKAGES if b.architecture == architecture and b.since <= numbers < b.before)
    return next(found, None)


def warning(architecture: str, version: str | None) -> str:
    """Return a warning of what is known, and what to do; or nothing."""
    found = breakage(architecture, version)
    if found is None:
        return ""
    return (
        f"QEMU {version} is known to break programs of linux/{architecture}: {found.what} ({found.source}); take another version "
        "(source: image)"
    )
