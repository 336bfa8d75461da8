# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A file with its mode and owner, as it is or shall be: read, and written at once or not at all."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from typing import Iterable, Mapping


@dataclass(frozen=True)
class File:
    """A file as it is or shall be."""

    text: str
    mode: int = 0o644
    owner: str = "root"
    secret: bool = field(default=False, compare=False)


def read_file(path: str) -> File | None:
    """Return a file with its mode and owner, or None; what is not text is a file with other content."""
    import pwd

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text, stat = file.read(), os.fstat(file.fileno())
    except OSError:
        return None
    try:
        owner = pwd.getpwuid(stat.st_uid).pw_name
    except KeyError:
        owner = str(stat.st_uid)
    return File(text, stat.st_mode & 0o7777, owner)


def put(path: str, file: File | None) -> None:
    """Write a file at once or not at all, never wider open than it shall be; None removes it."""
    put_all({path: file})


def put_all(files: Mapping[str, File | None]) -> None:
    """Write several files: all of them, or none where one of them cannot be written (the disk is full, say)."""
    staged: dict[str, str] = {}
    try:
        for path, file in files.items():
            if file is not None:
                descriptor, staged[path] = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
                with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
                    stream.write(file.text)
                    stream.flush()
                    os.fchown(stream.fileno(), uid(file.owner), -1)
                    os.fchmod(stream.fileno(), file.mode)
                    os.fsync(stream.fileno())
        # From here on nothing needs room any more.
        for path in files:
            if path in staged:
                os.replace(staged[path], path)
                del staged[path]
            elif os.path.lexists(path):
                os.unlink(path)
    finally:
        for temporary in staged.values():
            os.unlink(temporary)


def uid(user: str) -> int:
    """Return a user's number; 0 for root, and for one that is not there."""
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return 0


def names(paths: Iterable[str]) -> str:
    """Return files' names as a step's summary has them: "environment, run"."""
    return ", ".join(os.path.basename(path) for path in paths)
