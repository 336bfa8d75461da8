# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the programs of `_binfmt`: `programs.py` writes deep_programs.py anew, `--check` says whether it is what deep.c makes.

One compiler and one linker make all of them: clang and lld of Debian 12, which are fetched and unpacked, never installed. What
they make does not depend on the machine, and the same version makes the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import base64
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "plugins/module_utils/_binfmt"
DATA = HERE / "deep_programs.py"
VERSION = "19.1.7"
PACKAGES = (
    "clang-19",
    "lld-19",
    "libclang-common-19-dev",
    "libclang-cpp19",
    "libclang1-19",
    "libllvm19",
    "libz3-4",
    "llvm-19-linker-tools",
)
# By OCI name: the compiler's target, and what it must not take for granted. Each is the oldest CPU that distributions run on.
TARGETS = {
    "amd64": ("x86_64-linux-gnu",),
    "arm64": ("aarch64-linux-gnu", "-mno-outline-atomics"),
    "arm": ("armv6-linux-gnueabi", "-marm", "-mfloat-abi=soft", "-Os"),  # with -Oz it calls functions of a library
    "riscv64": ("riscv64-linux-gnu", "-march=rv64gc", "-mno-relax"),
    "s390x": ("s390x-linux-gnu", "-march=z10"),
    "ppc64le": ("powerpc64le-linux-gnu", "-mcpu=pwr8"),
    "386": ("i686-linux-gnu", "-mno-sse", "-Os"),
    "mips64le": ("mips64el-linux-gnuabi64", "-mno-abicalls", "-G0"),
    "mips64": ("mips64-linux-gnuabi64", "-mno-abicalls", "-G0"),
    "loong64": ("loongarch64-linux-gnu", "-mno-lsx"),  # QEMU before 8.1 has no LSX
}
COMPILE = (
    *("-std=gnu11", "-Oz", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin", "-nostdlib", "-nostdinc"),
    *("-fno-pic", "-fno-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    *("-fno-ident", "-fomit-frame-pointer"),
)
LINK = (
    *("-e", "_start", "-static", "-nostdlib", "--strip-all", "--build-id=none", "--image-base=0x400000"),
    *("-z", "noseparate-code", "-z", "norelro", "-z", "max-page-size=0x10000"),
)
HEAD = '''\
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The programs of `verify: deep`, made of deep.c by tests/tools/programs.py with clang {version}: zlib, then base85, by OCI name."""

from __future__ import annotations

'''


class Toolchain:
    """clang and lld, unpacked into the cache."""

    def __init__(self) -> None:
        fetched = subprocess.run(
            [ROOT / "tests/tools/qemu-static", "bookworm", *PACKAGES], stdout=subprocess.PIPE, text=True, check=True
        )
        usr = Path(fetched.stdout.strip()) / "usr"
        self._bin = usr / "lib/llvm-19/bin"
        self._environment = {
            **os.environ,
            "LD_LIBRARY_PATH": f"{usr}/lib/x86_64-linux-gnu:{usr}/lib/llvm-19/lib",
        }
        said = self._run("clang", "--version")
        if VERSION not in said:
            raise SystemExit(f"programs.py: this is not clang {VERSION}: {said.splitlines()[0]}")

    def _run(self, tool: str, *arguments: str) -> str:
        command = [str(self._bin / tool), *arguments]
        return subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def deep(self, oci: str) -> bytes:
        """Return the program of deep.c for an architecture."""
        target, *options = TARGETS[oci]
        with tempfile.TemporaryDirectory() as directory:
            made, whole = f"{directory}/deep.o", f"{directory}/deep"
            self._run("clang", f"--target={target}", *COMPILE, *options, "-c", str(HERE / "deep.c"), "-o", made)
            self._run("ld.lld", *LINK, "-o", whole, made)
            return without_sections(Path(whole).read_bytes())

    def argc(self, oci: str) -> bytes:
        """Return the code of argc.S for an architecture."""
        target, *options = TARGETS[oci]
        with tempfile.TemporaryDirectory() as directory:
            made = f"{directory}/argc.o"
            options = [option for option in options if not option.startswith(("-O", "-G"))]
            self._run("clang", f"--target={target}", *options, "-c", str(HERE / "argc.S"), "-o", made)
            return section(Path(made).read_bytes(), b".text")


class Elf:
    """The fields of an ELF file that are needed here, by their names in elf(5)."""

    def __init__(self, content: bytes) -> None:
        self.order = "<" if content[5] == 1 else ">"
        self.wide = content[4] == 2
        where = 32 if self.wide else 28
        self.address = "Q" if self.wide else "I"
        self.phoff, self.shoff = struct.unpack_from(f"{self.order}{self.address * 2}", content, where)
        self.tail = 52 if self.wide else 40  # e_ehsize and all after it
        self.phentsize, self.phnum, self.shentsize, self.shnum, self.shstrndx = struct.unpack_from(
            f"{self.order}5H", content, self.tail + 2
        )


def without_sections(content: bytes) -> bytes:
    """Return a program without what only linkers and debuggers look at: the table of its sections, and what follows."""
    elf = Elf(content)
    end = 0
    for number in range(elf.phnum):
        at = elf.phoff + number * elf.phentsize
        offset = struct.unpack_from(elf.order + elf.address, content, at + (8 if elf.wide else 4))[0]
        size = struct.unpack_from(elf.order + elf.address, content, at + (32 if elf.wide else 16))[0]
        end = max(end, offset + size)
    result = bytearray(content[:end])
    struct.pack_into(elf.order + elf.address, result, 40 if elf.wide else 32, 0)  # e_shoff
    struct.pack_into(f"{elf.order}3H", result, elf.tail + 6, 0, 0, 0)
    return bytes(result)


def section(content: bytes, wanted: bytes) -> bytes:
    """Return the content of a section."""
    elf = Elf(content)
    form = elf.order + "II" + elf.address * 4
    table = [struct.unpack_from(form, content, elf.shoff + i * elf.shentsize) for i in range(elf.shnum)]
    names = table[elf.shstrndx][4]
    for name, _kind, _flags, _address, offset, size in table:
        if content[names + name : content.index(b"\0", names + name)] == wanted:
            return content[offset : offset + size]
    raise SystemExit(f"programs.py: there is no section {wanted.decode()}")


def kept() -> dict[str, bytes]:
    """Return the programs that deep_programs.py has."""
    for node in ast.parse(DATA.read_text()).body:
        if isinstance(node, ast.Assign):
            packed: dict[str, str] = ast.literal_eval(node.value)
            return {oci: zlib.decompress(base64.b85decode(text)) for oci, text in packed.items()}
    return {}


def text_of(programs: dict[str, bytes]) -> str:
    """Return the text of deep_programs.py."""
    lines = []
    for oci, program in programs.items():
        packed = base64.b85encode(zlib.compress(program, 9)).decode()
        lines.append(f'    "{oci}": (')
        lines += [f'        "{packed[at : at + 100]}"' for at in range(0, len(packed), 100)]
        lines.append("    ),")
    return HEAD.format(version=VERSION) + "\n".join(["PROGRAMS = {", *lines, "}", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where it would change")
    check = parser.parse_args().check
    toolchain = Toolchain()
    made = {oci: toolchain.deep(oci) for oci in TARGETS}
    if not check:
        DATA.write_text(text_of(made))
        return 0
    differ = [oci for oci in TARGETS if kept().get(oci) != made[oci]]
    if differ:
        print(f"{DATA}: other bytes than deep.c makes for {', '.join(differ)}: run tests/tools/programs.py")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
