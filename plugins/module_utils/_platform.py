# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Platforms by their OCI names (linux/arm/v7), what people type instead, and what the kernel and QEMU call them.

The only table of platforms. Names and normalisation follow the OCI image specification and containerd's `platforms`
package: linux/arm64/v8 is linux/arm64, linux/amd64/v1 is linux/amd64, linux/arm is linux/arm/v7.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from ._problem import Problem, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable


class Architecture(NamedTuple):
    """One architecture as OCI, the kernel, ELF and QEMU name it.

    Not a frozen dataclass: making such a class takes a millisecond, in every task on every host.
    """

    oci: str  # GOARCH: "arm64"
    qemu: str  # QEMU's user-mode target: "aarch64", as in qemu-aarch64
    bits: int  # EI_CLASS: 32 or 64
    big_endian: bool  # EI_DATA
    machine: int  # e_machine
    elf_flags: int  # e_flags of a program that the kernel and QEMU accept
    uname: tuple[str, ...]  # what `uname -m` says on such a CPU


ARCHITECTURES = {
    architecture.oci: architecture
    for architecture in (
        Architecture("amd64", "x86_64", 64, False, 62, 0, ("x86_64",)),
        Architecture("arm64", "aarch64", 64, False, 183, 0, ("aarch64",)),
        Architecture("arm", "arm", 32, False, 40, 0x05000000, ("armv7l", "armv6l", "armv5tel", "armv8l")),
        Architecture("riscv64", "riscv64", 64, False, 243, 0, ("riscv64",)),
        Architecture("s390x", "s390x", 64, True, 22, 0, ("s390x",)),
        Architecture("ppc64le", "ppc64le", 64, False, 21, 2, ("ppc64le",)),
        Architecture("386", "i386", 32, False, 3, 0, ("i386", "i486", "i586", "i686")),
        Architecture("mips64le", "mips64el", 64, False, 8, 0x80000000, ("mips64",)),
        Architecture("mips64", "mips64", 64, True, 8, 0x80000000, ("mips64",)),
        Architecture("loong64", "loongarch64", 64, False, 258, 0x43, ("loongarch64",)),
    )
}

# What people type, and what other tools print, for an architecture and a variant.
ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv5": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86": ("386", ""),
    "ppc64el": ("ppc64le", ""),
    "powerpc64le": ("ppc64le", ""),
    "mips64el": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}

# The variants that each architecture knows; the first is what no variant means.
VARIANTS = {"arm": ("v7", "v6", "v5", "v8"), "arm64": ("", "v8", "v9"), "amd64": ("", "v1", "v2", "v3", "v4")}

# Variants that say nothing that the plain name does not say.
DEFAULT_VARIANTS = {("arm64", "v8"), ("amd64", "v1")}

# Operating systems that OCI knows and that no QEMU handler of Linux can run.
OTHER_SYSTEMS = (
    "windows",
    "darwin",
    "freebsd",
    "wasip1",
    "js",
    "netbsd",
    "openbsd",
    "solaris",
    "plan9",
    "android",
    "aix",
)


class Platform(NamedTuple):
    """An OCI platform, normalised: Platform.parse("aarch64") is Platform("linux", "arm64", "")."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return the platform that `text` names; raise a Problem with the near match where it names none."""
        parts = text.strip().lower().split("/")
        os = parts.pop(0) if parts[0] in ("linux", *OTHER_SYSTEMS) else "linux"
        if not parts or len(parts) > 2 or not all(parts):
            raise _no_platform(text)
        architecture, variant = ALIASES.get(parts[0], (parts[0], ""))
        if len(parts) == 2:
            variant = parts[1]
        return cls.of(os, architecture, variant, text)

    @classmethod
    def of(cls, os: str, architecture: str, variant: str, text: str = "") -> Platform:
        """Return the normalised platform of these three parts, as a registry or an instance file gives them."""
        text = text or "/".join(part for part in (os, architecture, variant) if part)
        if os != "linux":
            raise Problem(f"{text} is a platform of {os}, and only Linux's are built and executed here", "name linux/…")
        if architecture not in ARCHITECTURES:
            raise _no_platform(text)
        variants = VARIANTS.get(architecture, ("",))
        if variant and variant not in variants:
            raise _no_platform(text)
        variant = variant or variants[0]
        return cls(os, architecture, "" if (architecture, variant) in DEFAULT_VARIANTS else variant)

    @property
    def arch(self) -> Architecture:
        """The architecture's row in the table."""
        return ARCHITECTURES[self.architecture]


def parse_all(texts: Iterable[str]) -> list[Platform]:
    """Return the platforms that a list names, each once, in its order; an entry may hold several, `arm64,arm`."""
    names = [name for text in texts for name in str(text).replace(",", " ").split()]
    if not names:
        raise Problem("the list of platforms is empty", "name at least one, such as linux/arm64")
    return list(dict.fromkeys(Platform.parse(name) for name in names))


def all_platforms() -> list[Platform]:
    """Return every platform of the table, each in its plain variant."""
    return [Platform.of("linux", name, "") for name in ARCHITECTURES]


def by_machine(uname: str) -> Platform:
    """Return the platform of the CPU that `uname -m` names."""
    named = [architecture for architecture in ARCHITECTURES.values() if uname in architecture.uname]
    if named:
        # A MIPS of either byte order says `mips64`.
        native = [architecture for architecture in named if architecture.big_endian == (sys.byteorder == "big")]
        variant = {"armv6l": "v6", "armv5tel": "v5"}.get(uname, "")
        return Platform.of("linux", (native or named)[0].oci, variant)
    raise Problem(f"uname -m says {uname}, which is not an architecture we know", suggest(uname, ALIASES))


def _no_platform(text: str) -> Problem:
    known = [str(platform) for platform in all_platforms()] + ["linux/arm/v6", *ARCHITECTURES, *ALIASES]
    hint = suggest(text if "/" in text else text.strip().lower(), known)
    if "known are" in hint:
        hint = "known are: " + ", ".join(str(platform) for platform in all_platforms())
    return Problem(f"{text!r} is not a platform", hint)
