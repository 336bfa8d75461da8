# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""QEMU out of a container image such as tonistiigi/binfmt: copied from it, never run in it, kept on the host's disk.

A container is made and not started, so no privilege is needed, and none is given to what the image holds.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import hashlib
import json
import os
import re
import shutil
from typing import TYPE_CHECKING

from .._change import Step
from .._docker.cli import Docker
from .._files import make_directory, make_temporary_directory, remove_temporary_directory, write_atomically
from .._problem import Problem
from . import qemu
from .regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._platform import Architecture

ROOT = "/var/lib/multiarch.drone/qemu"
PULL_TIMEOUT = 600.0


class Image:
    """The QEMU programs of an image: what is kept of it, and what has to be taken out of it again."""

    def __init__(self, reference: str, docker: Docker | None = None) -> None:
        if not re.match(r"[A-Za-z0-9]\S*$", reference):
            raise Problem(
                f"{reference!r} is not a valid image reference", "name one such as tonistiigi/binfmt:qemu-v10.0.4"
            )
        self.reference = reference
        self._docker = docker or Docker()
        # The kernel takes no long paths, and two references may look alike once their slashes are gone.
        slug = re.sub(r"[^A-Za-z0-9.-]+", "_", reference)[:40]
        self.directory = os.path.join(ROOT, f"{slug}-{hashlib.sha256(reference.encode()).hexdigest()[:8]}")
        self._note = os.path.join(self.directory, "image.json")  # which image's programs these are, by name
        self._id: str | None = None
        self._stage: str | None = None
        self._staged: dict[str, str] = {}
        self._looked_at: set[str] = set()

    def __str__(self) -> str:
        return self.reference

    def path(self, architecture: Architecture) -> str:
        """Return where the program of an architecture is kept."""
        return os.path.join(self.directory, f"qemu-{architecture.qemu}")

    def current(self, architecture: Architecture) -> str | None:
        """Return where that program can be looked at now; None where the image has not been pulled yet."""
        kept = self.path(architecture)
        return self._staged.get(architecture.oci) or (kept if os.path.exists(kept) else None)

    def prepare(self, architectures: Iterable[Architecture], *, pull: str | None) -> None:
        """Find what differs between the image and what is kept; `pull` is missing, always, or None in check mode."""
        if self._id is not None:
            return  # asked twice by a run that changes something
        inspect = ("image", "inspect", "--format", "{{.Id}}", self.reference)
        found = self._docker.run(*inspect, check=False)
        if found.rc and "no such image" not in found.err.lower():
            raise found.problem()
        architectures = list(architectures)
        # Hosts prune their images; what was taken out of one before is as good.
        lacking = not all(os.path.exists(self.path(architecture)) for architecture in architectures)
        if pull == "always" or (pull == "missing" and found.rc and lacking):
            self._docker.run("pull", "--quiet", self.reference, timeout=PULL_TIMEOUT)
            found = self._docker.run(*inspect)
        if found.rc:
            return
        self._id = found.out.strip()
        noted = self._noted()
        outdated = [
            architecture
            for architecture in architectures
            if noted.get(architecture.oci) != self._id or not os.path.exists(self.path(architecture))
        ]
        if outdated:
            self._take_out(outdated)
        self._looked_at = {architecture.oci for architecture in architectures}
        for architecture in outdated:
            path = self._staged[architecture.oci]
            trouble = qemu.unusable(path)
            if trouble:
                raise Problem(trouble.replace(path, f"{os.path.basename(path)} of image {self.reference}"))
            if self._is_kept(architecture):
                del self._staged[architecture.oci]

    def _take_out(self, architectures: Iterable[Architecture]) -> None:
        self._stage = make_temporary_directory(large=True)
        # An image of nothing but programs has no command of its own, and `docker create` wants one.
        container = self._docker.run("create", "--network", "none", self.reference, "/never-started").out.strip()
        try:
            for architecture in architectures:
                names = [name.format(architecture.qemu) for name in qemu.LOOSE]
                target = os.path.join(self._stage, f"qemu-{architecture.qemu}")
                for name in names:
                    copied = self._docker.run("cp", "-L", f"{container}:/usr/bin/{name}", target, check=False)
                    if copied.rc == 0:
                        break
                else:
                    raise Problem(
                        f"image {self.reference} has no QEMU for linux/{architecture.oci}",
                        f"it would be /usr/bin/{names[0]} or /usr/bin/{names[1]}",
                    )
                self._staged[architecture.oci] = target
        finally:
            self._docker.run("rm", "--force", container, check=False)

    def as_diff(self, architecture: Architecture) -> str | None:
        """Return in words what is kept, for a diff; None for nothing."""
        if not os.path.exists(self.path(architecture)):
            return None
        outdated = architecture.oci in self._staged and not self._is_kept(architecture)
        return f"another than in {self}" if outdated else f"as in {self}"

    def _is_kept(self, architecture: Architecture) -> bool:
        staged, path = self._staged[architecture.oci], self.path(architecture)
        return os.path.exists(path) and filecmp.cmp(staged, path, shallow=False)

    def step(self, architecture: Architecture) -> Step | None:
        """Return the step that keeps the image's program where it is not kept yet, or another one is."""
        staged, path = self._staged.get(architecture.oci), self.path(architecture)
        if staged is None and (self._id is not None or os.path.exists(path)):
            return None
        backup = f"{staged}.old"

        def keep() -> None:
            if staged is None:
                raise Problem(f"image {self.reference} is not on this host")
            make_directory(self.directory)
            if os.path.exists(path):
                shutil.copy2(path, backup)
            # A new file moved into place: a handler that has the old one pinned keeps running it meanwhile.
            write_atomically(path, _content(staged), mode=0o755)

        def give_back() -> None:
            if os.path.exists(backup):
                write_atomically(path, _content(backup), mode=0o755)
            else:
                os.unlink(path)

        return Step(f"take qemu-{architecture.qemu} out of {self.reference}", keep, give_back)

    def keep_note(self) -> None:
        """Note which image the programs are of, so that the next call need not look into it."""
        noted = self._noted()
        if self._id is None or not os.path.isdir(self.directory):
            return
        new = {**noted, **dict.fromkeys(self._looked_at, self._id)}
        if new == noted:
            return
        write_atomically(self._note, json.dumps(new), mode=0o644)

    def close(self) -> None:
        """Remove what was taken out and is not kept."""
        if self._stage is not None:
            remove_temporary_directory(self._stage)
            self._stage = None

    def _noted(self) -> dict[str, str]:
        try:
            noted = json.loads(read_regular(self._note))
            return noted if isinstance(noted, dict) else {}
        except (OSError, ValueError):
            return {}


def _content(path: str) -> bytes:
    return read_regular(path)


def kept(architecture: Architecture) -> list[str]:
    """Return the programs of an architecture that were taken out of images, of whichever."""
    return sorted(glob.glob(os.path.join(ROOT, "*", f"qemu-{architecture.qemu}")))


def forget(path: str) -> Step:
    """Return the step that removes a kept program; it can be taken out again, so nothing takes that back."""

    def remove() -> None:
        os.unlink(path)
        directory = os.path.dirname(path)
        if not glob.glob(os.path.join(directory, "qemu-*")):
            shutil.rmtree(directory, ignore_errors=True)
            with contextlib.suppress(OSError):  # another image's are still there
                os.rmdir(ROOT)
                os.rmdir(os.path.dirname(ROOT))

    return Step(f"remove {path}", remove)
