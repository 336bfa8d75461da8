# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's binfmt_misc: which handlers it has, and in which order it asks them.

Kernel: Documentation/admin-guide/binfmt-misc.rst, fs/binfmt_misc.c.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from .._platform import ARCHITECTURES
from .._problem import Problem
from . import elf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._platform import Architecture

ROOT = "/proc/sys/fs/binfmt_misc"
FILESYSTEMS = "/proc/filesystems"
INITIAL_USER_NAMESPACE = "user:[4026531837]"  # linux/nsfs.h: PROC_USER_INIT_INO; a child may map all users too
FLAGS = "POCF"  # in the order in which the kernel prints them
LONGEST_INTERPRETER = 127  # "the interpreter string may not exceed 127 characters"
SHORTEST_LINE, LONGEST_LINE = 11, 1920
LONGEST_NAME = 255
FIRST_BYTES = 256  # of a program are looked at (BINPRM_BUF_SIZE)
CONTROL = ("register", "status")  # the files that are no entries
TEMPORARY = "~multiarch"  # ends the name of the handler that stands in while another one is replaced


class Handler(NamedTuple):
    """One entry that recognises programs by their first bytes (type M).

    Not a frozen dataclass: making such a class takes a millisecond, in every task on every host.
    """

    name: str
    interpreter: str
    flags: str
    magic: bytes
    mask: bytes
    offset: int = 0
    enabled: bool = True

    @classmethod
    def for_architecture(cls, architecture: Architecture, interpreter: str, flags: str) -> Handler:
        """Return the handler that runs programs of this architecture, and no others, with `interpreter`."""
        magic = elf.header(architecture)
        mask = bytearray(b"\xff" * len(magic))
        mask[7] = mask[8] = 0  # EI_OSABI and EI_ABIVERSION: a program for GNU is one for Linux
        mask[16 if not architecture.big_endian else 17] = 0xFE  # e_type: 2 is ET_EXEC, 3 is ET_DYN
        return cls(f"qemu-{architecture.qemu}", interpreter, canonical(flags), magic, bytes(mask))

    @classmethod
    def from_kernel(cls, name: str, text: str) -> Handler | None:
        """Return the entry that the kernel describes in `text`; None where it goes by a file's extension."""
        lines = text.splitlines()
        fields = dict(line.split(" ", 1) for line in lines[1:] if " " in line)
        if "magic" not in fields:
            return None
        magic = bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
        flags = canonical(fields.get("flags:", ""))
        return cls(name, fields["interpreter"], flags, magic, mask, int(fields["offset"]), lines[0] == "enabled")

    @classmethod
    def from_line(cls, line: str) -> Handler | None:
        """Return the entry that a line of binfmt.d registers; None where it goes by extension, or nobody takes the line."""
        line = line.strip(" \t\n\r")  # as systemd does
        if not line[:1].isascii() or not SHORTEST_LINE <= len(_bytes(line)) <= LONGEST_LINE:
            return None
        end, plain = re.escape(line[:1]), f"((?:(?!{re.escape(line[:1])}).)*)"
        # What ends a field is no end within \xHH, and there is no \x without digits.
        coded = f"((?:(?!{end})(?:\\\\x[0-9A-Fa-f]{{2}}|(?!\\\\x).))*)"
        fields = re.fullmatch(
            f"{end}{plain}{end}M{end}{plain}{end}{coded}{end}{coded}{end}{plain}{end}(.*)", line, re.DOTALL
        )
        return cls.from_fields(*fields.groups()) if fields else None

    @classmethod
    def from_fields(cls, name: str, offset: str, magic: str, mask: str, interpreter: str, flags: str) -> Handler | None:
        """Return the entry of these texts, which binfmt.d and binfmt-support have in common; None where they are refused."""
        if name in ("", ".", "..", *CONTROL) or "/" in name or len(_bytes(name)) > LONGEST_NAME or not interpreter:
            return None
        if not re.fullmatch("[+-]?[0-9]+|", offset, re.ASCII) or not re.fullmatch(f"[{FLAGS}]*", flags):
            return None
        if any(re.search(r"\\x(?![0-9A-Fa-f]{2})", text) for text in (magic, mask)):
            return None
        magic_bytes = _unescape(magic)
        mask_bytes = _unescape(mask) if mask else b"\xff" * len(magic_bytes)
        start = int(offset or 0)
        if not magic_bytes or len(mask_bytes) != len(magic_bytes) or not 0 <= start <= FIRST_BYTES - len(magic_bytes):
            return None
        return cls(name, interpreter, canonical(flags), magic_bytes, mask_bytes, start)

    def line(self) -> str:
        """Return what is written to `register`, and into a file of binfmt.d."""
        magic, mask = ("".join(f"\\x{byte:02x}" for byte in value) for value in (self.magic, self.mask))
        return f":{self.name}:M:{self.offset or ''}:{magic}:{mask}:{self.interpreter}:{self.flags}"

    def matches(self, head: bytes) -> bool:
        """Say whether a program that begins with these bytes is one for this handler."""
        part = head[self.offset : self.offset + len(self.magic)]
        if len(part) < len(self.magic):
            return False
        return all((a ^ b) & m == 0 for a, b, m in zip(part, self.magic, self.mask))

    def runs(self, architecture: Architecture) -> bool:
        """Say whether programs of this architecture, as compilers write them, are for this handler."""
        return self.matches(elf.header(architecture))

    def fits(self, architecture: Architecture) -> bool:
        """Say whether every kind of program of this architecture is for this handler, and of no other."""
        others = (other for other in ARCHITECTURES.values() if other is not architecture)
        return all(map(self.matches, elf.headers(architecture))) and not any(map(self.runs, others))

    @property
    def is_qemu(self) -> bool:
        """Say whether this is an emulator of another CPU: its interpreter is QEMU, and it runs ELF programs."""
        base = os.path.basename(self.interpreter)
        named = base.startswith("qemu-") or base.endswith("-binfmt-P") or self.name.startswith("qemu-")
        return named and self.offset == 0 and self.magic.startswith(b"\x7fELF")

    def as_diff(self) -> dict[str, Any]:
        """Return the entry as a person reads it in a diff."""
        return {
            "enabled": self.enabled,
            "interpreter": self.interpreter,
            "flags": self.flags,
            "magic": self.magic.hex(),
            "mask": self.mask.hex(),
        }


class Kernel(NamedTuple):
    """What binfmt_misc says of itself."""

    state: str  # "on", "off" (status 0), "not mounted", "not loaded"
    handlers: tuple[Handler, ...] = ()  # in the order in which the kernel asks them: the newest first
    writable: bool = False
    inherited: bool = False  # the handlers are those of the parent user namespace, which nobody can list from here

    def of(self, architecture: Architecture) -> tuple[Handler, ...]:
        """Return the handlers that want programs of this architecture, the one that gets them first."""
        return tuple(handler for handler in self.handlers if handler.enabled and handler.runs(architecture))

    def named(self, name: str) -> Handler | None:
        """Return the entry of this name."""
        return next((handler for handler in self.handlers if handler.name == name), None)


def canonical(flags: str) -> str:
    """Return flags in the kernel's order and completed: C implies O."""
    given = set(flags) | ({"O"} if "C" in flags else set())
    return "".join(flag for flag in FLAGS if flag in given) + "".join(sorted(given - set(FLAGS)))


def read() -> Kernel:
    """Return what the kernel has; touching the path also makes an automount come up."""
    try:
        names = os.listdir(ROOT)
    except FileNotFoundError:
        return Kernel("not loaded")
    except OSError as error:
        if error.errno == errno.ENODEV:  # systemd's automount, where the kernel has no binfmt_misc to mount
            return Kernel("not loaded")
        raise Problem(f"{ROOT} cannot be read: {error.strerror}", "is this a container without rights?") from error
    if "register" not in names:
        # A mount in a child user namespace, even one that nobody sees, gives it an empty instance of its own (Linux
        # 6.7), and what it ran by its parent's handlers does not run any more. So there is no looking.
        if not in_initial_namespace():
            return Kernel("not mounted", inherited=True)
        # The kernel runs handlers whether or not somebody has mounted the list of them. A mount loads the module where it can.
        found = _peek()
        return _parse("not mounted" if found or is_loaded() else "not loaded", found)
    texts = {}
    for name in names:
        if name != "register":
            try:
                with open(os.path.join(ROOT, name), encoding="utf-8", errors="surrogateescape") as file:
                    texts[name] = file.read()
            except FileNotFoundError:  # somebody removed it meanwhile
                continue
    kernel = _parse("on" if texts["status"].startswith("enabled") else "off", texts)
    return kernel._replace(writable=os.access(os.path.join(ROOT, "register"), os.W_OK))


def is_loaded() -> bool:
    """Say whether the kernel has binfmt_misc, or nobody knows: the mount point is there with the module or without it."""
    try:
        with open(FILESYSTEMS, encoding="ascii", errors="replace") as file:
            return "binfmt_misc" in file.read().split()
    except OSError:
        return True


def in_initial_namespace() -> bool:
    """Say whether this process is in the machine's own user namespace."""
    try:
        return os.readlink("/proc/self/ns/user") == INITIAL_USER_NAMESPACE
    except OSError:  # a kernel without user namespaces has but one
        return not os.path.exists("/proc/self/uid_map")


def _parse(state: str, texts: Mapping[str, str]) -> Kernel:
    # A file system in memory lists what was made last first, and the kernel asks in the same order (fs/libfs.c,
    # fs/binfmt_misc.c: list_add). Where it matters, executing a program proves it.
    found = (Handler.from_kernel(name, text) for name, text in texts.items() if name not in CONTROL)
    return Kernel(state, tuple(handler for handler in found if handler))


def _peek() -> dict[str, str]:
    """Return the entries of a binfmt_misc that is not mounted, through a mount that nobody else sees."""
    script = 'mount -t binfmt_misc binfmt_misc "$0" && cd "$0" && ls -U | xargs grep -sHZ ""'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, ROOT]
    try:
        # AnsibleModule.run_command belongs to the module, and this is below it.
        output = subprocess.run(  # pylint: disable=ansible-bad-function
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        ).stdout
    except OSError:
        return {}
    texts: dict[str, str] = {}
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        name, _nul, text = line.partition("\0")
        texts[name] = texts.get(name, "") + text + "\n"
    return texts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _unescape(text: str) -> bytes:
    r"""Return the bytes that binfmt.d writes as \x7f or as themselves."""
    if text.startswith("\\x") and len(text) == 4 * text.count("\\x"):
        return bytes.fromhex(text.replace("\\x", ""))
    result = bytearray()
    rest = text.encode("utf-8", "surrogateescape")
    while rest:
        if rest[:2] == b"\\x":
            result.append(int(rest[2:4], 16))
            rest = rest[4:]
        else:
            result.append(rest[0])
            rest = rest[1:]
    return bytes(result)
