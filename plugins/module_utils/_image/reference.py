# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of images as Docker reads them: alpine is docker.io/library/alpine:latest.

The grammar is that of github.com/distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._problem import Problem

HUB = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


@dataclass(frozen=True)
class Reference:
    """An image's full name: Reference.parse("alpine") is Reference("docker.io", "library/alpine", "latest", "")."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{self.tag and ':' + self.tag}{self.digest and '@' + self.digest}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest where one is given, or else the tag."""
        return self.digest or self.tag

    @classmethod
    def is_valid(cls, text: str) -> bool:
        """Whether `text` names an image."""
        try:
            cls.parse(text)
        except Problem:
            return False
        return True

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the image that `text` names; raise a Problem that says which part of it is wrong."""
        if not text or text != text.strip():
            raise _no_reference(text, "write it without spaces, such as ghcr.io/owner/name:tag")
        if "://" in text:
            raise _no_reference(text, f"leave out {text.split('://')[0]}://")
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _no_reference(text, "after @ comes sha256: and 64 hexadecimal digits")
        first, slash, after = rest.partition("/")
        # As Docker decides whether the first part is a host; an upper-case letter is in no repository's name.
        if slash and (re.search(r"[.:\[]", first) or first == "localhost" or first != first.lower()):
            registry, rest = first, after
        else:
            registry = HUB
        registry = {"index.docker.io": HUB, "registry-1.docker.io": HUB}.get(registry, registry)
        repository, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _no_reference(
                text, f"{tag!r} is not a valid tag: at most 128 letters, digits, _, . and -, not first . or -"
            )
        if registry == HUB and "/" not in repository:
            if re.fullmatch(r"[a-f0-9]{64}", text):
                raise _no_reference(text, "it is an image ID, which no registry knows: name a repository")
            repository = f"library/{repository}"
        _check_registry(registry, text)
        if not _REPOSITORY.fullmatch(repository):
            hint = "its repository must be lower case: a-z, 0-9, and between them . _ __ - and /"
            raise _no_reference(text, hint)
        if len(registry) + 1 + len(repository) > 255:
            raise _no_reference(text, "a name has at most 255 characters")
        return cls(registry, repository, tag or ("" if digest else "latest"), digest)


def is_digest(text: str) -> bool:
    """Whether a text is a digest of a kind that registries use."""
    return bool(_DIGEST.fullmatch(text))


def check_registry(text: str) -> str:
    """Return the registry's HOST or HOST:PORT; raise a Problem where `text` is neither."""
    if "://" in text or "/" in text:
        raise Problem(f"{text!r} is not a registry", "write HOST or HOST:PORT, without https:// and path")
    _check_registry(text, text)
    return {"index.docker.io": HUB, "registry-1.docker.io": HUB}.get(text, text)


def _check_registry(registry: str, text: str) -> None:
    match = _REGISTRY.fullmatch(registry)
    if not match or not 0 < int(match["port"] or 1) < 65536:
        raise _no_reference(text, f"{registry!r} is not a registry: write HOST or HOST:PORT")


def _no_reference(text: str, hint: str) -> Problem:
    return Problem(f"{text!r} is not an image reference", hint)
