# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of binfmt.d(5), from which systemd-binfmt fills the kernel at boot and after packages' triggers.

A file hides files of the same name in directories of lower rank; what is left is applied by name, whatever the
directory; a link to /dev/null keeps a name empty. So a file in /etc/binfmt.d with the package's name wins over it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, NamedTuple

from .._files import link_atomically, make_directory, write_atomically
from .kernel import Handler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._change import Step
    from .._platform import Architecture

OWN = "/etc/binfmt.d"
LOWER = ("/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d")
HEAD = "# Managed by multiarch.drone.binfmt_qemu\n"
EMPTY = "-> /dev/null"


class File(NamedTuple):
    """One file, and what it asks the kernel for."""

    directory: str
    name: str
    text: str  # its content; "-> TARGET" for a symbolic link to nothing that can be read as rules

    @property
    def path(self) -> str:
        """Its whole path."""
        return os.path.join(self.directory, self.name)

    @property
    def handlers(self) -> list[Handler]:
        """The entries that it registers by their first bytes, in its order."""
        return [handler for handler in map(Handler.from_line, self.text.splitlines()) if handler]

    @property
    def rules(self) -> int:
        """How many entries it registers, of any kind."""
        if self.text == EMPTY:
            return 0
        return sum(1 for line in self.text.splitlines() if line.strip() and line[0] not in "#;")


def read() -> list[File]:
    """Return every file of every directory, those of higher rank first."""
    files = []
    for directory in (OWN, *LOWER):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf"):
                path = os.path.join(directory, name)
                files.append(File(directory, name, _read(path)))
    return files


def _read(path: str) -> str:
    if os.path.islink(path) and os.path.realpath(path) == "/dev/null":
        return EMPTY
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def at_boot(files: Iterable[File]) -> list[Handler]:
    """Return the handlers that the kernel has after systemd-binfmt has run; the last that matches gets a program."""
    effective: dict[str, File] = {}
    for file in files:
        effective.setdefault(file.name, file)
    entries: dict[str, Handler] = {}
    for name in sorted(effective):
        for handler in effective[name].handlers:
            entries.pop(handler.name, None)  # each rule removes its name first, so it becomes the newest
            entries[handler.name] = handler
    return list(entries.values())


def text_of(handler: Handler) -> str:
    """Return the content of a handler's file."""
    return HEAD + handler.line() + "\n"


def says(file: File | None, handler: Handler, architecture: Architecture) -> bool:
    """Say whether a file brings this handler and nothing else, in whatever words."""
    if file is None or file.rules != 1 or len(file.handlers) != 1:
        return False
    found = file.handlers[0]
    alike = (found.name, found.interpreter, found.flags) == (handler.name, handler.interpreter, handler.flags)
    return alike and found.fits(architecture)


def without(files: Iterable[File], unwanted: Callable[[Handler], bool]) -> dict[str, str | None]:
    """Return what has to become of files in /etc/binfmt.d so that no unwanted handler comes back: path to content.

    None takes the file away, EMPTY links it to /dev/null. A file that also brings something else is left alone.
    """
    files = list(files)
    own = {file.name: file for file in files if file.directory == OWN}
    lower = {file.name: file for file in reversed(files) if file.directory != OWN}
    changes: dict[str, str | None] = {}
    for name in {**own, **lower}:
        mine, below = own.get(name), lower.get(name)
        hides = below is not None and _only(below, unwanted)
        if mine is None:
            if hides:
                changes[os.path.join(OWN, name)] = EMPTY
        elif _only(mine, unwanted):
            changes[mine.path] = EMPTY if hides else None
    return changes


def _only(file: File, unwanted: Callable[[Handler], bool]) -> bool:
    """Say whether all that a file brings is unwanted."""
    return 0 < file.rules == sum(map(unwanted, file.handlers))


def step(path: str, text: str | None) -> Step:
    """Return the step that gives a file this content, EMPTY for a link to /dev/null, None for no file."""
    from .._change import Step

    before = _read(path) if os.path.lexists(path) else None
    verb = "remove" if text is None else "link to /dev/null" if text == EMPTY else "write"
    return Step(f"{verb} {path}", lambda: _put(path, text), lambda: _put(path, before))


def _put(path: str, text: str | None) -> None:
    if text is None:
        if os.path.lexists(path):
            os.unlink(path)
        return
    make_directory(os.path.dirname(path))
    # A link in its place is never followed.
    if text == EMPTY:
        link_atomically(path, "/dev/null")
    else:
        write_atomically(path, text, mode=0o644)
