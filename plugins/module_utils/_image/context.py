# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The digest of a build context: what BuildKit would be sent and would see, file by file.

What counts is what BuildKit's own cache counts (moby/buildkit cache/contenthash): names, types, permissions,
extended attributes, links and contents. Owners and times do not count: buildx sends everything as root's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._problem import Problem
from .dockerignore import Ignore, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGEST_FILE = 16 << 20  # bytes that BuildKit reads of a Dockerfile or .dockerignore (frontend/dockerui/readfile.go)
BUFFER = 1 << 20  # bytes; the digest then costs what sha256 costs


@dataclass(frozen=True)
class Tree:
    """A directory as BuildKit would be sent it."""

    digest: str
    entries: int
    size: int  # bytes of all files


def read_ignore(context: str, dockerfile: str = "") -> Ignore:
    """Return the context's .dockerignore, or the Dockerfile's own (NAME.dockerignore), which wins."""
    for path in ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [os.path.join(context, ".dockerignore")]:
        root = context if path.endswith("/.dockerignore") else os.path.dirname(path)
        try:
            content = _read_regular(_followed(path, root))
        except (FileNotFoundError, IsADirectoryError):  # a directory of that name is none for BuildKit
            continue
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(content) > LARGEST_FILE:
            raise Problem(
                f"{path} is larger than {LARGEST_FILE} bytes, which BuildKit refuses", "write shorter patterns"
            )
        return parse(content, path)
    return Ignore()


def _read_regular(path: str) -> bytes:
    """Return what a file begins with; what is no file (a pipe would never answer) is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(LARGEST_FILE + 1)


def _followed(path: str, root: str) -> str:
    """Return where a link leads for BuildKit: never out of the directory that it is sent."""
    if not os.path.islink(path):
        return path
    target = os.readlink(path)
    target = os.path.normpath(os.path.join("/", os.path.relpath(os.path.dirname(path), root), target))
    return _followed_once(os.path.join(os.path.realpath(root), target.lstrip("/")), os.path.realpath(root))


def _followed_once(path: str, root: str) -> str:
    """Return the path of what a link names; FileNotFoundError where it leads out of `root` again."""
    real = os.path.realpath(path)
    if real != root and not real.startswith(f"{root}/"):
        raise FileNotFoundError(path)
    return path


def digest_tree(root: str, ignore: Ignore) -> Tree:
    """Return the digest of a directory without what is ignored; raise a Problem for what cannot be read."""
    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(BUFFER))
    entries = size = 0
    try:
        for path, name, status in _walk(os.path.realpath(root), "", ignore, ()):
            header = _header(path, name, status)
            sha256.update(json.dumps(header).encode() + b"\n")
            if stat.S_ISREG(status.st_mode):
                _add(sha256, path, status.st_size, buffer)
                size += status.st_size
            entries += 1
    except RecursionError:
        raise Problem(f"{root}: its directories are nested too deep", "leave them out with .dockerignore") from None
    return Tree(f"sha256:{sha256.hexdigest()}", entries, size)


def _walk(
    directory: str, prefix: str, ignore: Ignore, verdicts: Sequence[bool]
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path, name in the context and status of each entry that is kept, in the order of the names.

    A directory that is left out is walked where an exception may hide in it, and kept with the first that does.
    """
    try:
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise _unreadable(directory, error) from error
    for entry in found:
        name = prefix + entry.name
        left_out, matches = ignore.verdict(name, verdicts)
        is_directory = entry.is_dir(follow_symlinks=False)
        if left_out and (not is_directory or ignore.hides_all_below(name)):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        if not left_out:
            yield entry.path, name, status
        if is_directory:
            first = left_out
            for below in _walk(entry.path, f"{name}/", ignore, matches):
                if first:
                    yield entry.path, name, status
                    first = False
                yield below


def _header(path: str, name: str, status: os.stat_result) -> list[Any]:
    """Return what an entry is, besides a file's content: no two different entries have the same."""
    mode = status.st_mode
    try:
        link = os.readlink(path) if stat.S_ISLNK(mode) else ""
        attributes = {
            # SELinux labels belong to this host, as Apple's attributes do to theirs.
            attribute: os.getxattr(path, attribute, follow_symlinks=False).hex()
            for attribute in sorted(os.listxattr(path, follow_symlinks=False))
            if attribute != "security.selinux" and not attribute.startswith("com.apple.")
        }
    except OSError as error:
        if error.errno == 95:  # EOPNOTSUPP: a filesystem without extended attributes
            attributes = {}
        else:
            raise _unreadable(path, error) from error
    permissions = 0o777 if link else stat.S_IMODE(mode)
    device = status.st_rdev if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else 0
    size = status.st_size if stat.S_ISREG(mode) else 0
    return [name, stat.S_IFMT(mode), permissions, size, link, device, attributes]


def _add(sha256: Any, path: str, size: int, buffer: memoryview) -> None:
    """Add a file's content, exactly as long as its header says."""
    left = size
    try:
        # Not buffered: the buffer is ours. O_NOFOLLOW, O_NONBLOCK: it may have become a link or a pipe meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            while left >= 0:  # what grows without end is not read to its end
                count = file.readinto(buffer)
                if not count:
                    break
                left -= count
                sha256.update(buffer[:count])
    except OSError as error:
        raise _unreadable(path, error) from error
    if left:
        raise Problem(f"{path} changes while the context is read", "build when nothing writes to it, or ignore it")


def _unreadable(path: str, error: OSError) -> Problem:
    hint = "make it readable, or leave it out with .dockerignore"
    return Problem(f"{path}: {error.strerror}", hint)
