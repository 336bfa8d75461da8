# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""buildx's own state: the builders of one user as its files hold them, read and written as buildx does (docker/buildx: store/).

Only these files tell the declared platforms from the detected ones, and reading them costs no process.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._docker.cli import context_host, current_context, docker_config_dir
from .._files import make_directory, write_atomically
from .._platform import Platform
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")
CONFIG_FILE = "buildkitd.toml"
CONFIG_DIR = "/etc/buildkit"  # in the daemon's container
NETWORK_HOST = "--allow-insecure-entitlement=network.host"
LOCK_TIMEOUT = 600
OUR_LOCK = ".multiarch.drone.lock"  # held by one play at a time for each user
# What to do about a file that cannot be written.
HINTS = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "raise the user's quota, or free some space",
    errno.EROFS: "that file system is mounted read-only",
    errno.EACCES: "the builder belongs to the user who runs the task: see become_user",
}


class Node(NamedTuple):
    """One node of a builder as buildx stores it."""

    name: str
    endpoint: str
    platforms: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = {}
    flags: tuple[str, ...] = ()
    files: Mapping[str, bytes] = {}

    @property
    def container(self) -> str:
        """The name of the node's container, for the docker-container driver."""
        return f"buildx_buildkit_{self.name}"

    @property
    def volume(self) -> str:
        """The name of the volume that holds the node's cache."""
        return f"{self.container}_state"

    def config(self) -> dict[str, Any]:
        """Return what buildkitd.toml says; {} without one. A text that is no TOML stands for itself."""
        text = self.files.get(CONFIG_FILE, b"").decode("utf-8", "replace")
        return read_config(text)


class Builder(NamedTuple):
    """A builder as buildx stores it."""

    name: str
    driver: str
    nodes: tuple[Node, ...]


def read_config(text: str) -> dict[str, Any]:
    """Return what a buildkitd.toml says; a text that is no TOML stands for itself, and so equals no wish."""
    if not text.strip():
        return {}
    from .. import _toml

    try:
        return _toml.load(text)
    except ValueError:
        return {"(not TOML)": text}


def check_name(name: str, what: str = "builder") -> str:
    """Return a name that is safe as a file's name, as buildx wants it."""
    if not NAME.match(name) or len(name) > 128:
        hint = "a letter, then letters, digits, dots, dashes and underscores, in lower case"
        raise Problem(f"{name!r} is not a valid name for a {what}", hint)
    return name


class Store:
    """The builders of one user: `$BUILDX_CONFIG`, else `$DOCKER_CONFIG/buildx`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.dir = env.get("BUILDX_CONFIG") or os.path.join(docker_config_dir(env), "buildx")

    def path(self, name: str) -> str:
        """Return the path of a builder's instance file."""
        return os.path.join(self.dir, "instances", check_name(name))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Hold buildx's own lock, which its commands hold while they read and write, and give what may write meanwhile."""
        with self.exclusive_lock(".lock"):
            transaction = Transaction(self)
            try:
                yield transaction
            finally:
                transaction.close()

    @contextlib.contextmanager
    def exclusive_lock(self, name: str) -> Iterator[None]:
        """Hold a lock in the user's directory."""
        try:
            make_directory(self.dir, 0o700, parents=0o700)
            fd = os.open(os.path.join(self.dir, name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            own = "the builder belongs to the user who runs the task: see become_user"
            raise Problem(f"{self.dir}/{name}: {error.strerror}", HINTS.get(error.errno or 0, own)) from error
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                    if time.monotonic() > deadline:
                        raise Problem(
                            f"{self.dir}/{name} is locked for {LOCK_TIMEOUT} s",
                            "look for a docker buildx or a play that hangs",
                        ) from error
                    time.sleep(0.05)
            yield
        finally:
            os.close(fd)

    def read(self, relative: str) -> bytes | None:
        """Return a file of buildx's, or None where there is none; a symbolic link or a directory is a Problem."""
        path = os.path.join(self.dir, relative)
        try:
            # Not through a symbolic link, and not waiting for a named pipe: root may read another user's directory.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            why = "is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
            raise Problem(f"{path}: {why}", "buildx writes regular files there: look at who made it") from error

    def builder(self, name: str) -> Builder | None:
        """Return a builder, or None where the user has none of that name."""
        data = self.read(os.path.join("instances", check_name(name)))
        return None if data is None else parse(data, self.path(name))

    def names(self) -> list[str]:
        """Return the names of the user's builders."""
        try:
            return sorted(name for name in os.listdir(os.path.join(self.dir, "instances")) if NAME.match(name))
        except OSError:
            return []

    def key(self) -> str:
        """Return what buildx remembers the default builder by: the user's context, or the address of the default one."""
        context = current_context(self.env)
        return context_host(self.env, "default") if context == "default" else context

    def current(self) -> str:
        """Return the name of the builder that buildx uses when none is named, or "" for the context's own (store.Txn.Current)."""
        try:
            current = json.loads(self.read("current") or b"{}")
        except ValueError:
            current = None
        current = current if isinstance(current, dict) else {}
        name = str(current.get("Name") or "")
        if name and current.get("Global") and self.exists(name):
            return name
        if name and current.get("Key") == self.key():
            return name if self.exists(name) else ""
        name = (self.read(self.default_file()) or b"").decode("utf-8", "replace")
        return name if name and self.exists(name) else ""

    def exists(self, name: str) -> bool:
        """Return whether the user has a builder of that name."""
        return bool(NAME.match(name)) and os.path.lexists(self.path(name))

    def default_files(self) -> dict[str, bytes | None]:
        """Return the files that hold the default builder, to put them back."""
        return {name: self.read(name) for name in ("current", self.default_file())}

    def default_file(self) -> str:
        """Return the file in which buildx remembers the default builder of the user's context."""
        import hashlib

        return os.path.join("defaults", hashlib.sha256(self.key().encode()).hexdigest()[:20])


class Transaction:
    """What writes buildx's files: there is one only while buildx's lock is held, see `Store.transaction`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open = True

    def close(self) -> None:
        """End the right to write, with the lock."""
        self._open = False

    def _path(self, relative: str) -> str:
        if not self._open:
            raise RuntimeError("buildx's files are written outside of a transaction")
        return os.path.join(self._store.dir, relative)

    def expect(self, relative: str, data: bytes | None) -> None:
        """Raise a Problem where a file is not what it was when it was read."""
        if self._store.read(relative) != data:
            raise Problem(f"{self._path(relative)} was changed by something else meanwhile", "run the task again")

    def write(self, relative: str, data: bytes | None) -> None:
        """Write a file of buildx's at once, or remove it (None)."""
        path = self._path(relative)
        if data is None:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
            return
        try:
            make_directory(os.path.dirname(path), 0o700, parents=0o700)
            # No temporary name in instances/: buildx takes each file there for a builder.
            write_atomically(path, data, new_mode=0o600, staged_in=self._store.dir)
        except OSError as error:
            raise Problem(f"{path}: {error.strerror}", HINTS.get(error.errno or 0, "")) from error

    def keep(self, *relatives: str) -> None:
        """Keep files as they are now, before they are written."""
        for relative in relatives:
            kept = self._kept(relative)
            with contextlib.suppress(FileNotFoundError):
                os.remove(kept)  # of a task that was killed
            with contextlib.suppress(FileNotFoundError):
                # A second name and no copy: `write`, as buildx, never changes a file, and puts another in its place.
                os.link(self._path(relative), kept, follow_symlinks=False)

    def put_back(self, *relatives: str) -> None:
        """Put files back as they were kept, one that was not there included: a name is moved on a full disk, too."""
        for relative in relatives:
            path = self._path(relative)
            try:
                os.replace(self._kept(relative), path)
            except FileNotFoundError:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
        self.let_go(*relatives)  # of a file that was not written, both names were one file's, and moving did nothing

    def let_go(self, *relatives: str) -> None:
        """Keep files no more."""
        for relative in relatives:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._kept(relative))

    def _kept(self, relative: str) -> str:
        return self._path(f".multiarch.drone.{relative.replace('/', '.')}.kept")

    def set_default(self, name: str) -> None:
        """Make a builder the default ("": the context's own), as `docker buildx use --default` does."""
        current = json.dumps({"Key": self._store.key(), "Name": name, "Global": False}, separators=(",", ":")).encode()
        files = {"current": current, self._store.default_file(): name.encode() if name else None}
        self.keep(*files)
        try:
            for relative, data in files.items():
                self.write(relative, data)
        except Problem:
            self.put_back(*files)
            raise
        self.let_go(*files)

    def restore(self, files: Mapping[str, bytes | None]) -> None:
        """Write files as they were read, one that was not there included."""
        for relative, data in files.items():
            self.write(relative, data)


def parse(data: bytes, path: str) -> Builder:
    """Return the builder of an instance file; raise a Problem where buildx could not read it either."""
    try:
        raw = json.loads(data)
        nodes = tuple(_node(node) for node in raw.get("Nodes") or [])
        return Builder(str(raw["Name"]), str(raw["Driver"]), nodes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "put a good copy there, or remove the file and declare the builder again (its cache stays)"
        raise Problem(f"{path} is not a builder that buildx can read ({error})", hint) from error


def _node(raw: Mapping[str, Any]) -> Node:
    return Node(
        name=check_name(str(raw["Name"]), "node"),
        endpoint=str(raw.get("Endpoint") or ""),
        platforms=tuple(platform_name(item) for item in raw.get("Platforms") or []),
        driver_opts={str(name): str(value) for name, value in (raw.get("DriverOpts") or {}).items()},
        flags=tuple(str(flag) for flag in raw.get("Flags") or []),
        files={str(name): base64.b64decode(text, validate=True) for name, text in (raw.get("Files") or {}).items()},
    )


def platform_name(raw: Mapping[str, str]) -> str:
    """Return the name of a platform as instance files and workers give it; of one that we do not know, as it stands."""
    parts = [str(raw.get(part) or "") for part in ("os", "architecture", "variant")]
    try:
        return str(Platform.of(*parts))
    except Problem:
        return "/".join(part for part in parts if part)
