# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files and directories: read with mode and owner, written atomically; temporary ones, which nothing leaves behind.

A file is written as an unnamed one (O_TMPFILE, open(2)) beside its place, and gets a name when it is complete and has its
mode and owner: a process that is killed, and a disk that is full, leave nothing there. Where a file system has no unnamed
files, the temporary one has a name with the number of its process, and the next write into the directory removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Root's own temporary directories: in memory, and nobody else can look into it.
RUN = "/run/multiarch.drone"
# What this process made, and what the sweep may remove: the second part is the number of the process.
_OURS = re.compile(r"\.?multiarch\.drone\.(\d+)\.[0-9a-f]{16}")
# They say what the old content was worth, not what the new one is.
_NOT_KEPT = ("security.capability", "security.ima", "security.evm")
_locks: dict[str, int] = {}


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
        text, found = read_regular(path).decode("utf-8", "surrogateescape"), os.stat(path)
    except OSError:
        return None
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return File(text, found.st_mode & 0o7777, owner)


def read_regular(path: str) -> bytes:
    """Return the content of a regular file; a device, which has no end, or a FIFO, which nobody writes, is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return file.read()


def put(path: str, file: File | None) -> None:
    """Write a file at once or not at all, never wider open than it shall be; None removes it."""
    put_all({path: file})


def put_all(files: Mapping[str, File | None]) -> None:
    """Write several files: all of them, or none where one of them cannot be written (a full disk, an immutable file)."""
    _replace_all({path: None if file is None else _wanted(file) for path, file in files.items()})


def write_atomically(
    path: str, data: str | bytes, *, mode: int | None = None, new_mode: int = 0o644, staged_in: str = ""
) -> None:
    """Write a file at once or not at all, whatever the umask; a link in its place is replaced, not followed.

    Owner, group, extended attributes (ACLs and the SELinux context are some) and, unless it is given, the mode stay those
    of the file that was there; a new file gets `mode`, else `new_mode`. `staged_in` is a directory of the same file system in which a temporary
    name may appear, where the file's own may not have one.
    """
    content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    _replace_all({path: _Wanted(content, mode, new_mode, staged_in=staged_in)})


def link_atomically(path: str, target: str) -> None:
    """Put a symbolic link in the place of whatever file is there."""
    directory = os.path.dirname(os.path.abspath(path))
    sweep(directory)
    temporary = os.path.join(directory, _name())
    try:
        os.symlink(target, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def make_directory(path: str, mode: int = 0o755, *, parents: int = 0o755, owner: int = -1) -> list[str]:
    """Make a directory, and those above it, with the modes given, whatever the umask; return those that were not there.

    A directory that is there stays as it is.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return []
    made = make_directory(os.path.dirname(path), parents, parents=parents)
    try:
        os.mkdir(path, mode & 0o700)  # never wider open than it shall be
    except FileExistsError:  # another process was faster, or it is a file
        if os.path.isdir(path):
            return made
        raise
    if owner != -1:
        os.chown(path, owner, -1)
    os.chmod(path, mode)
    return [*made, path]


@contextlib.contextmanager
def temporary_directory(*, large: bool = False) -> Iterator[str]:
    """Give a directory that only this user can enter, gone afterwards."""
    path = make_temporary_directory(large=large)
    try:
        yield path
    finally:
        remove_temporary_directory(path)


def make_temporary_directory(*, large: bool = False) -> str:
    """Return a new directory that only this user can enter: in memory and below RUN for root, unless it gets large.

    What processes left behind that were killed goes.
    """
    import fcntl

    base = _base(large)
    sweep(base)
    path = os.path.join(base, _name().lstrip("."))
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)
    # Held until the process ends, in whichever way; a process of another container may have the same number.
    _locks[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(_locks[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path


def remove_temporary_directory(path: str) -> None:
    """Remove a directory that make_temporary_directory made."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
    descriptor = _locks.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


def sweep(directory: str) -> None:
    """Remove from a directory what processes of this collection left there that have ended without a chance to."""
    try:
        names = [name for name in os.listdir(directory) if _OURS.fullmatch(name)]
    except OSError:
        return
    for name in names:
        match = _OURS.fullmatch(name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            _remove_abandoned(os.path.join(directory, name))


def sweep_temporary_directories() -> None:
    """Remove the temporary directories of processes that were killed."""
    import tempfile

    sweep(RUN)
    sweep(tempfile.gettempdir())


def _remove_abandoned(path: str) -> None:
    import fcntl
    import shutil

    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if found.st_uid != os.geteuid():
            return
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            os.unlink(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        finally:
            os.close(descriptor)


def _base(large: bool) -> str:
    """Return where temporary directories are made."""
    import tempfile

    if os.geteuid() == 0 and not large:
        with contextlib.suppress(OSError):
            make_directory(RUN, 0o700)
            found = os.lstat(RUN)
            if (
                stat.S_ISDIR(found.st_mode)
                and found.st_uid == 0
                and not found.st_mode & 0o077
                and os.access(RUN, os.W_OK)
            ):
                return RUN
    return tempfile.gettempdir()


def _name() -> str:
    return f".multiarch.drone.{os.getpid()}.{os.urandom(8).hex()}"


# Writing


@dataclass(frozen=True)
class _Wanted:
    """What a file shall be; of mode and owner, None is as it was."""

    data: bytes
    mode: int | None = None
    new_mode: int = 0o644
    owner: int | None = None
    staged_in: str = ""


def _wanted(file: File) -> _Wanted:
    return _Wanted(file.text.encode("utf-8", "surrogateescape"), file.mode, owner=uid(file.owner))


class _Staged:
    """A complete file that is in no place yet: unnamed where the file system can, else with a temporary name."""

    def __init__(self, path: str, wanted: _Wanted) -> None:
        self.path = os.path.abspath(path)
        self.directory = wanted.staged_in or os.path.dirname(self.path)
        self.temporary = ""
        self.descriptor = self._open()
        try:
            self._fill(wanted)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(self.directory, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            # EISDIR: a kernel that does not know the flag.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise OSError(error.errno, error.strerror, self.path) from None
        self.temporary = os.path.join(self.directory, _name())
        return os.open(self.temporary, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)

    def _fill(self, wanted: _Wanted) -> None:
        try:
            rest = memoryview(wanted.data)
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
            self._dress(wanted)
            os.fsync(self.descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _dress(self, wanted: _Wanted) -> None:
        """Give the file its owner, group, extended attributes and mode."""
        old = _lstat(self.path)
        mode = wanted.mode
        if old is not None and stat.S_ISREG(old.st_mode):
            mode = stat.S_IMODE(old.st_mode) if mode is None else mode
            # Whoever is not root cannot give a file away, and keeps what can be kept.
            with contextlib.suppress(PermissionError):
                os.fchown(self.descriptor, -1, old.st_gid)
            if wanted.owner is None:
                with contextlib.suppress(PermissionError):
                    os.fchown(self.descriptor, old.st_uid, -1)
            with contextlib.suppress(OSError):
                for name in os.listxattr(self.path, follow_symlinks=False):
                    if name not in _NOT_KEPT:
                        with contextlib.suppress(OSError):
                            value = os.getxattr(self.path, name, follow_symlinks=False)
                            os.setxattr(self.descriptor, name, value)
        if wanted.owner is not None:
            os.fchown(self.descriptor, wanted.owner, -1)
        os.fchmod(self.descriptor, wanted.new_mode if mode is None else mode)

    def name(self) -> None:
        """Give the file a temporary name beside its place."""
        if self.temporary:
            return
        temporary = os.path.join(self.directory, _name())
        # With a directory's descriptor Python calls linkat(2), without one link(2), which does not follow the link in /proc.
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.temporary = temporary
            os.link(f"/proc/self/fd/{self.descriptor}", os.path.basename(temporary), dst_dir_fd=directory)
        finally:
            os.close(directory)

    def place(self) -> None:
        """Put the file into its place."""
        self.name()
        # The kernel executes nothing that is open for writing.
        os.close(self.descriptor)
        self.descriptor = -1
        os.replace(self.temporary, self.path)
        self.temporary = ""

    def close(self) -> None:
        """Forget the file where it is not in its place."""
        if self.descriptor != -1:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)
            self.temporary = ""


def _replace_all(files: Mapping[str, _Wanted | None]) -> None:
    """Write or remove several files: all of them, or none."""
    staged: dict[str, _Staged] = {}
    old: dict[str, _Staged] = {}
    links: dict[str, str] = {}
    done: list[str] = []
    for path, wanted in files.items():
        sweep((wanted and wanted.staged_in) or os.path.dirname(os.path.abspath(path)))
    try:
        for path, wanted in files.items():
            found = _lstat(path)
            if found is not None and stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory, and a file is to be there", path)
            if wanted is not None:
                staged[path] = _Staged(path, wanted)
            # One file needs no way back: its own step is atomic. The copies of several are made while nothing is changed yet.
            if len(files) > 1 and found is not None and stat.S_ISLNK(found.st_mode):
                links[path] = os.readlink(path)
            elif len(files) > 1 and found is not None and stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    old[path] = _Staged(path, _Wanted(file.read()))
        with _signals_wait():
            try:
                for path in files:
                    if path in staged:
                        staged[path].place()
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(path)
                    done.append(path)
            except BaseException:
                for path in reversed(done):
                    if path in old:
                        old[path].place()
                    elif path in links:
                        link_atomically(path, links[path])
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(path)
                raise
        for directory in {os.path.dirname(os.path.abspath(path)) for path in files}:
            _sync(directory)
    finally:
        for file_of_ours in (*staged.values(), *old.values()):
            file_of_ours.close()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals wait that would end the process: between the first and the last of several files is no place to stop."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield  # Python tells signals to the main thread alone
        return
    waiting: list[int] = []
    # Not with a mask: the kernel then tells a signal to another thread, and Python the main one after all.
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, lambda number, _frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
        for first in waiting[:1]:
            signal.raise_signal(first)


def _sync(directory: str) -> None:
    """Let a directory's new names survive a crash; some file systems cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


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
