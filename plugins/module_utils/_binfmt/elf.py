# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ELF headers, and programs of a hundred bytes for each architecture: what the kernel and QEMU are asked to run.

Field names are those of elf(5).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .._problem import Problem
from .regular import read_regular

if TYPE_CHECKING:
    from .._platform import Architecture

# argc is saved, one byte is read from standard input, and argc is the exit status:
#     long saved = *sp; read(0, sp, 1); exit(saved);
# While it waits, somebody can look at /proc/PID/exe. An interpreter that swallows an argument is told by the status.
ARGC = {
    "amd64": "8b1c24 31c0 31ff 4889e6 ba01000000 0f05 89df b83c000000 0f05",
    "arm64": "f30340f9 000080d2 e1030091 220080d2 e80780d2 010000d4 e00313aa a80b80d2 010000d4",
    "arm": "00409de5 0000a0e3 0d10a0e1 0120a0e3 0370a0e3 000000ef 0400a0e1 0170a0e3 000000ef",
    "riscv64": "03340100 13050000 93050100 13061000 9308f003 73000000 13050400 9308d005 73000000",
    "s390x": "e360f0000004 a7290000 b904003f a7490001 0a03 b9040026 0a01",
    "ppc64le": "0000c1e9 00006038 780b247c 0100a038 03000038 02000044 7873c37d 01000038 02000044",
    "386": "8b3424 b803000000 31db 89e1 ba01000000 cd80 89f3 b801000000 cd80",
    "mips64le": "0000b0df 00000464 2528a003 01000664 88130264 0c000000 25200002 c2130264 0c000000",
    "mips64": "dfb00000 64040000 03a02825 64060001 64021388 0000000c 02002025 640213c2 0000000c",
    "loong64": "7700c028 04001500 65001500 06048003 0bfc8003 00002b00 e4021500 0b748103 00002b00",
}

ET_EXEC, ET_DYN = 2, 3
SYSV, GNU = 0, 3  # EI_OSABI: what compilers write, and what glibc's static programs with IFUNC carry
PT_LOAD, PT_INTERP = 1, 3
BASE = 0x400000


def header(architecture: Architecture, e_type: int = ET_EXEC, osabi: int = SYSV) -> bytes:
    """Return the first 20 bytes of a program of this architecture: all that a handler's magic and mask look at."""
    order = ">" if architecture.big_endian else "<"
    ident = b"\x7fELF" + bytes((architecture.bits // 32, 2 if architecture.big_endian else 1, 1, osabi)) + bytes(8)
    return ident + struct.pack(order + "HH", e_type, architecture.machine)


def headers(architecture: Architecture) -> list[bytes]:
    """Return the beginnings of every program that a handler of this architecture has to match."""
    return [header(architecture, e_type, osabi) for e_type in (ET_EXEC, ET_DYN) for osabi in (SYSV, GNU)]


def program(architecture: Architecture, *, unseen: bool = False) -> bytes:
    """Return the argc program of this architecture; it ends with the number of its arguments, itself included.

    With `unseen` its EI_PAD is not zero: the kernel's own ELF loader does not look at these bytes, while handlers of
    binfmt_misc require the zeros, so that only the CPU itself can run it.
    """
    order = ">" if architecture.big_endian else "<"
    code = bytes.fromhex(ARGC[architecture.oci])
    wide = architecture.bits == 64
    ehsize, phentsize, shentsize = (64, 56, 64) if wide else (52, 32, 40)
    start = ehsize + phentsize
    size = start + len(code)
    first = header(architecture)
    if unseen:
        first = first[:9] + b"unseen\0" + first[16:]
    address = "Q" if wide else "I"
    rest = struct.pack(
        f"{order}I{address * 3}IHHHHHH",
        *(1, BASE + start, ehsize, 0, architecture.elf_flags, ehsize, phentsize, 1, shentsize, 0, 0),
    )
    if wide:
        segment = struct.pack(order + "IIQQQQQQ", PT_LOAD, 5, 0, BASE, BASE, size, size, 0x10000)
    else:
        segment = struct.pack(order + "IIIIIIII", PT_LOAD, 0, BASE, BASE, size, size, 5, 0x10000)
    return first + rest + segment + code


class Binary(NamedTuple):
    """What an executable's header says."""

    machine: int  # e_machine
    static: bool  # no PT_INTERP: it needs no loader and no library of the root that it finds itself in


def read(path: str) -> Binary:
    """Return what the header of the executable at `path` says; raise a Problem where there is none."""
    try:
        head = read_regular(path, 4096)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from error
    if head[:4] != b"\x7fELF" or len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
        raise Problem(f"{path} is not an ELF file")
    order = "<" if head[5] == 1 else ">"
    wide = head[4] == 2
    (machine,) = struct.unpack_from(order + "H", head, 18)
    (phoff,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    phentsize, phnum = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    starts = range(phoff, phoff + phentsize * phnum, phentsize or 1)
    if not starts or starts[-1] + 4 > len(head):
        raise Problem(f"{path} is not an executable: it has no program headers where they belong")
    types = [struct.unpack_from(order + "I", head, start)[0] for start in starts]
    return Binary(machine, PT_INTERP not in types)
