# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fingerprints of secret values, so that a changed value is noticed though nobody can read the old one.

A fingerprint tells whether a value is the one that was written, and not what it was: it is an HMAC of the item's name
under a key that scrypt, slow and greedy for memory, derives from the value and the file's own random salt. So equal
values do not show, and guessing even a weak one is dear. The file is still nobody's business but its owner's (0600).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any

from .._files import write_atomically
from .._problem import Problem

SCRYPT = {"n": 2**13, "r": 8, "p": 1, "maxmem": 2**25}  # 8 MiB and about 20 ms for each value
FORMAT = 1


class Fingerprints:
    """The fingerprints in a file, and those that are to go there."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._keys: dict[str, bytes] = {}
        self._salt, self._known = self._load()
        self._saved = dict(self._known)

    def matches(self, name: str, value: str) -> bool:
        """Tell whether a value is the one that was written under a name."""
        import hmac

        known = self._known.get(name)
        return known is not None and hmac.compare_digest(known, self._of(name, value))

    def note(self, name: str, value: str) -> None:
        """Note that a value was written under a name."""
        self._known[name] = self._of(name, value)

    def forget(self, name: str) -> None:
        """Note that there is nothing under a name."""
        self._known.pop(name, None)

    def save(self) -> None:
        """Write the file where anything changed: beside the old one, readable for nobody else, then moved over it."""
        if self._known == self._saved:
            return
        content = {"format": FORMAT, "salt": self._salt.hex(), "fingerprints": self._known}
        try:
            write_atomically(self._path, json.dumps(content, indent=1, sort_keys=True) + "\n", mode=0o600)
        except OSError as error:
            raise Problem(
                f"{self._path} cannot be written: {error.strerror}",
                "the values are on the server, but the next run will write them once more",
            ) from error
        self._saved = dict(self._known)

    def _of(self, name: str, value: str) -> str:
        key = self._keys.get(value)
        if key is None:  # the same value in a thousand repositories costs once
            key = self._keys[value] = hashlib.scrypt(value.encode("utf-8", "surrogatepass"), salt=self._salt, **SCRYPT)
        import hmac

        return hmac.new(key, name.encode(), "sha256").hexdigest()

    def _load(self) -> tuple[bytes, dict[str, str]]:
        directory = os.path.dirname(self._path)
        if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
            raise Problem(f"fingerprints: {directory} is not a directory that can be written to", "make it first")
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return os.urandom(32), {}
        except OSError as error:
            hint = "a symbolic link is not followed; name the file itself" if os.path.islink(self._path) else ""
            raise Problem(f"fingerprints: {self._path} cannot be read: {error.strerror}", hint) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Problem(f"fingerprints: {self._path} is not a regular file", "name a file of its own")
        with os.fdopen(handle) as file:
            try:
                return self._parse(json.load(file))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Problem(
                    f"fingerprints: {self._path} holds no fingerprints",
                    "name a file of its own, or delete it: then each value is written once more",
                ) from error

    def _parse(self, content: Any) -> tuple[bytes, dict[str, str]]:
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        known = {str(name): str(value) for name, value in content["fingerprints"].items()}
        return bytes.fromhex(content["salt"]), known
