# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compare what `_binfmt/binfmt_d.py` reads in odd files with what systemd-binfmt makes of them: `… SEED COUNT SYSTEMD-BINFMT`.

For a binfmt_misc and directories of its own alone: everything in them is thrown away.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys

from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import binfmt_d, kernel
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.kernel import Handler
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES

DIRECTORIES = (binfmt_d.OWN, *binfmt_d.LOWER)
NAMES = (
    "qemu-aarch64",
    "qemu-arm",
    "qemu-s390x",
    "my own",
    "zz",
    "a.b",
    "qemu-riscv64",
    "-x",
    "status",
    "register",
    "..",
    "é",
)
FILES = (
    "qemu-aarch64.conf",
    "qemu-arm.conf",
    "10-x.conf",
    "zz.conf",
    "Z.conf",
    "with space.conf",
    "x.conf~",
    ".hidden.conf",
    "é.conf",
    "qemu.conf.d",
    "a.conf",
)
INTERPRETERS = ("/bin/true", "/bin/false", "/usr/bin/qemu-aarch64", "/nowhere/qemu-arm", "relative", "")
FLAGS = ("F", "POCF", "OC", "", "P", "FX", "Q", " F", "F ", "PP", "C", "FCOP")
ENDS = ("\n", "\n", "\n", "\r\n", "\r", "\n\n", "\0", "")


def rule(random_: random.Random) -> str:
    """Return a rule, mostly of a kind that people write."""
    name = random_.choice(NAMES[:7] if random_.random() < 0.85 else NAMES)
    architecture = random_.choice([a for a in ARCHITECTURES.values() if a.oci in ("arm64", "arm", "s390x", "riscv64")])
    handler = Handler.for_architecture(
        architecture, random_.choice(INTERPRETERS[:2] if random_.random() < 0.7 else INTERPRETERS), "F"
    )
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in value) for value in (handler.magic, handler.mask))
    odd = random_.random()
    if odd < 0.1:  # as Debian's packages do
        magic = magic.replace("\\x45\\x4c\\x46", "ELF")
    elif odd < 0.15:
        mask = ""
    elif odd < 0.2:
        magic = magic.upper().replace("\\X", "\\x")
    elif odd < 0.23:
        mask = mask[:-4]
    elif odd < 0.26:
        magic, mask = "", ""
    elif odd < 0.29:
        magic += "\\xzz"
    elif odd < 0.31:
        magic += "\\x4"
    elif odd < 0.33:
        magic, mask = magic + "\\\\", mask + "\\xff"
    delimiter = random_.choice("::::::,;#/|x\\ \té" if random_.random() < 0.3 else ":")
    offset = random_.choice(("", "", "0", "4", " 0", "-1", "x", "0x4", "500", "+1")) if random_.random() < 0.3 else ""
    kind = random_.choice("MMMEmX") if random_.random() < 0.15 else "M"
    flags = random_.choice(FLAGS[:5] if random_.random() < 0.7 else FLAGS)
    if not os.path.exists(handler.interpreter):  # flag F opens it at once: what is not there yet may be there at boot
        flags = flags.replace("F", "")
    fields = ["", name, kind, offset, magic, mask, handler.interpreter, flags]
    if kind == "E":
        fields[4:6] = [random_.choice(("exe", "py", "")), ""]
    if random_.random() < 0.05:
        fields.pop(random_.randrange(1, len(fields)))
    if random_.random() < 0.05:
        fields.append(random_.choice(("", "x")))
    return delimiter.join(fields)


def line(random_: random.Random) -> str:
    """Return a line of a file."""
    kind = random_.random()
    if kind < 0.1:
        return random_.choice(
            (
                "# a comment",
                "; a comment",
                "  # indented",
                "\t;x",
                "",
                "   ",
                "garbage",
                "#" + rule(random_),
                ";" + rule(random_),
            )
        )
    text = rule(random_)
    if kind < 0.3:
        text = random_.choice((" ", "\t", "  \t", "\f", "\v", "\u00a0", "\ufeff")) + text
    if kind > 0.9:
        text += random_.choice((" ", "\t", "\f", " # why"))
    return text


def fill(random_: random.Random) -> None:
    """Fill the directories anew."""
    for directory in DIRECTORIES:
        for entry in os.listdir(directory):
            path = os.path.join(directory, entry)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        for name in random_.sample(FILES, random_.choice((0, 1, 1, 2, 3))):
            path, kind = os.path.join(directory, name), random_.random()
            if kind < 0.06:
                os.symlink("/dev/null", path)
            elif kind < 0.09:
                os.symlink("/nowhere", path)
            elif kind < 0.11:
                os.mkdir(path)
            elif kind < 0.14:
                os.symlink(random_.choice(DIRECTORIES) + "/" + random_.choice(FILES), path)
            elif kind < 0.15:
                os.symlink("null", path)
            else:
                text = "".join(
                    line(random_) + random_.choice(ENDS) for _number in range(random_.choice((0, 1, 1, 2, 3, 5)))
                )
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(text)


def real(binary: str) -> list[tuple[str, str, str, str, str, int]]:
    """Return what the kernel has after systemd-binfmt, the newest first."""
    with open(os.path.join(kernel.ROOT, "status"), "w", encoding="ascii") as file:
        file.write("-1")
    subprocess.run([binary], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return [shown(handler) for handler in kernel.read().handlers]


def shown(handler: Handler) -> tuple[str, str, str, str, str, int]:
    masked = bytes(a & b for a, b in zip(handler.magic, handler.mask))
    return (handler.name, handler.interpreter, handler.flags, masked.hex(), handler.mask.hex(), handler.offset)


def runs(one: tuple[str, str, str, str, str, int], oci: str) -> bool:
    """Say whether an entry gets programs of an architecture."""
    name, interpreter, flags, magic, mask, offset = one
    return Handler(name, interpreter, flags, bytes.fromhex(magic), bytes.fromhex(mask), offset).runs(ARCHITECTURES[oci])


def listed() -> dict[str, str]:
    """Return every file, for a report."""
    result = {}
    for directory in DIRECTORIES:
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if os.path.islink(path):
                result[path] = f"-> {os.readlink(path)}"
            elif os.path.isfile(path):
                with open(path, encoding="utf-8", newline="") as file:
                    result[path] = file.read()
    return result


def main(seed: int, count: int, binary: str) -> int:
    wrong = 0
    for number in range(seed, seed + count):
        random_ = random.Random(number)
        fill(random_)
        expected = real(binary)
        found = [shown(entry.handler) for entry in reversed(binfmt_d.at_boot(binfmt_d.read()))]
        unwanted = random_.choice(("arm64", "arm", "s390x"))
        changes = binfmt_d.without(binfmt_d.read(), lambda handler, oci=unwanted: handler.runs(ARCHITECTURES[oci]))
        if found != expected:
            wrong += 1
            print(f"seed {number}: the kernel has\n  {expected}\nnot\n  {found}\nof {listed()!r}")
            continue
        for path, text in changes.items():
            if text is not None or os.path.lexists(path):
                binfmt_d.step(path, text).apply()
        left = real(binary)
        promised = [shown(entry.handler) for entry in reversed(binfmt_d.at_boot(binfmt_d.read()))]
        if left != promised or any(runs(one, unwanted) for one in left):
            wrong += 1
            print(f"seed {number}: without {unwanted} the kernel has\n  {left}\nnot\n  {promised}\nafter {changes!r}")
            continue
        if lost := [one for one in expected if one not in left and not runs(one, unwanted)]:
            wrong += 1
            print(f"seed {number}: without {unwanted} the kernel has lost\n  {lost}\nafter {changes!r}")
        handler = Handler.for_architecture(ARCHITECTURES[unwanted], "/bin/true", "POCF")
        for path, text in binfmt_d.with_rule(binfmt_d.read(), handler, ARCHITECTURES[unwanted]).items():
            binfmt_d.step(path, text).apply()
        after = real(binary)
        # A later file of somebody else may take it: what is promised of a restart is by what the files say.
        promised = [shown(entry.handler) for entry in reversed(binfmt_d.at_boot(binfmt_d.read()))]
        if after != promised:
            wrong += 1
            print(f"seed {number}: with {handler.name} the kernel has\n  {after}\nnot\n  {promised}\nof {listed()!r}")
        if binfmt_d.with_rule(binfmt_d.read(), handler, ARCHITECTURES[unwanted]):
            wrong += 1
            print(f"seed {number}: the rule of {handler.name} is written again")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
