# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of binfmt.d(5), from which systemd-binfmt fills the kernel at boot and after packages' triggers.

A file hides files of the same name in directories of lower rank; what is left is applied by name, whatever the
directory; a link to /dev/null keeps a name empty. So a file in /etc/binfmt.d with the package's name wins over it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Callable, NamedTuple

from .._change import Step
from .._files import link_atomically, make_directory, write_atomically
from .kernel import Handler
from .regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._platform import Architecture
    from .restart import Format

OWN = "/etc/binfmt.d"
LOWER = ("/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d")
HEAD = "# Managed by multiarch.drone.binfmt_qemu\n"
EMPTY = "-> /dev/null"


class Rule(NamedTuple):
    """One line that registers an entry."""

    name: str
    handler: Handler | None  # None where it goes by a file's extension, or is one that the kernel refuses


class Booted(NamedTuple):
    """An entry that the kernel has after a restart."""

    handler: Handler
    path: str  # of the file that brings it


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
    def rules(self) -> list[Rule]:
        """Everything that it registers, in its order."""
        return [rule for rule in map(_rule, _lines(self.text)) if rule]

    @property
    def handlers(self) -> list[Handler]:
        """The entries that it registers by their first bytes, in its order."""
        return [rule.handler for rule in self.rules if rule.handler]


def _lines(text: str) -> list[str]:
    """Return the lines of a text with their ends, divided where systemd divides them (and str.splitlines does not)."""
    return [] if text == EMPTY else re.findall("[^\\n\\r\\0]*(?:\\r\\n|[\\n\\r\\0])|[^\\n\\r\\0]+", text)


def _rule(line: str) -> Rule | None:
    line = line.strip(" \t\n\r\0")
    if not line or line[0] in "#;":
        return None
    # systemd removes what has this name first, whatever the kernel then says of the rule; to both the delimiter is one byte.
    raw = line.encode("utf-8", "surrogateescape")
    name = raw[1:].split(raw[:1], 1)[0].decode("utf-8", "surrogateescape")
    return Rule(name, Handler.from_line(line))


def read() -> list[File]:
    """Return every file of every directory, those of higher rank first."""
    files = []
    for directory in (OWN, *LOWER):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".conf") and not name.startswith(".") and not os.path.isdir(path):
                files.append(File(directory, name, _read(path)))
    return files


def _read(path: str) -> str:
    if os.path.islink(path) and os.path.realpath(path) == "/dev/null":
        return EMPTY
    try:
        return read_regular(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def at_boot(files: Iterable[File], formats: Iterable[Format] = ()) -> list[Booted]:
    """Return what the kernel has after a restart, by systemd-binfmt and then binfmt-support, in the order of time.

    The last that matches gets a program.
    """
    effective: dict[str, File] = {}
    for file in files:
        effective.setdefault(file.name, file)
    entries: dict[str, Booted | None] = {}
    for name in sorted(effective, key=os.fsencode):
        for rule in effective[name].rules:
            entries.pop(rule.name, None)  # each rule removes its name first, so it becomes the newest
            entries[rule.name] = Booted(rule.handler, effective[name].path) if rule.handler else None
    for form in formats:
        if form.handler and form.handler.name not in entries:  # binfmt-support leaves a name that is taken alone
            entries[form.handler.name] = Booted(form.handler, form.path)
    return [entry for entry in entries.values() if entry]


def after(files: Sequence[File], changes: Mapping[str, str | None]) -> list[File]:
    """Return the files as they are once these changes are made."""
    result = [
        File(OWN, os.path.basename(path), text)
        for path, text in changes.items()
        if text is not None and os.path.dirname(path) == OWN
    ]
    return result + [file for file in files if file.path not in changes]


def text_of(handler: Handler) -> str:
    """Return the content of a handler's file."""
    return HEAD + handler.line() + "\n"


def with_rule(files: Iterable[File], handler: Handler, architecture: Architecture) -> dict[str, str | None]:
    """Return what has to become of the handler's file in /etc/binfmt.d: path to content; nothing where it is right.

    What else the file holds is somebody else's, and stays as it is. Where a package's file of this name, which ours
    hides, holds other rules, they are taken over.
    """
    name = f"{handler.name}.conf"
    named = [file for file in files if file.name == name]
    mine = next((file for file in named if file.directory == OWN and file.text != EMPTY), None)
    if mine is not None and _says(mine, handler, architecture):
        return {}
    base = mine or next((file for file in named if file.directory != OWN and _others(file, handler)), None)
    if any(file.directory == OWN for file in named) and mine is None:
        base = None  # somebody hides the package's file
    if base is None:
        return {os.path.join(OWN, name): text_of(handler)}
    kept = "".join(_without(base.text, lambda rule: rule.name == handler.name))
    if not kept.strip() or kept == HEAD:
        return {os.path.join(OWN, name): text_of(handler)}
    if kept[-1] not in "\n\r\0":
        kept += "\n"
    return {os.path.join(OWN, name): f"{kept}{handler.line()}\n"}


def _says(file: File, handler: Handler, architecture: Architecture) -> bool:
    """Say whether a file brings this handler, in whatever words, and nothing that takes its programs or its name."""
    rules = [r for r in file.rules if r.name == handler.name or (r.handler and r.handler.runs(architecture))]
    found = rules[-1].handler if rules else None
    if found is None or sum(rule.name == handler.name for rule in rules) != 1:
        return False
    alike = (found.name, found.interpreter, found.flags) == (handler.name, handler.interpreter, handler.flags)
    return alike and found.fits(architecture)


def _others(file: File, handler: Handler) -> bool:
    return any(rule.name != handler.name for rule in file.rules)


def _without(text: str, unwanted: Callable[[Rule], bool]) -> list[str]:
    """Return the lines of a text but those of unwanted rules, byte for byte."""
    result = []
    for line in _lines(text):
        rule = _rule(line)
        if rule is None or not unwanted(rule):
            result.append(line)
    return result


def without(files: Iterable[File], unwanted: Callable[[Handler], bool]) -> dict[str, str | None]:
    """Return what has to become of files in /etc/binfmt.d so that no unwanted handler comes back: path to content.

    None takes the file away, EMPTY links it to /dev/null. Rules are edited, not files: whatever else a file holds is
    kept, of a package's file by a copy that hides it.
    """

    def goes(rule: Rule) -> bool:
        return rule.handler is not None and unwanted(rule.handler)

    files = list(files)
    own = {file.name: file for file in files if file.directory == OWN}
    lower = {file.name: file for file in reversed(files) if file.directory != OWN}
    changes: dict[str, str | None] = {}
    for name in {**own, **lower}:
        mine, below = own.get(name), lower.get(name)
        top = mine or below
        if top is None or not any(map(goes, top.rules)):
            continue
        path = os.path.join(OWN, name)
        kept = "".join(_without(top.text, goes))
        if mine is not None and kept.strip() and kept != HEAD:
            changes[path] = kept
        elif below is None or not any(map(goes, below.rules)):
            changes[path] = None
        elif all(map(goes, below.rules)):
            changes[path] = EMPTY
        else:
            changes[path] = "".join(_without(below.text, goes))
    return changes


def step(path: str, text: str | None) -> Step:
    """Return the step that gives a file this content, EMPTY for a link to /dev/null, None for no file."""
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
