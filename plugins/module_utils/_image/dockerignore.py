# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files of a context BuildKit is sent: .dockerignore as Docker reads it. No I/O.

Follows github.com/moby/patternmatcher to the letter, quirks included: what it leaves out must be left out of the
input digest, and nothing else. tests/registry compares the two.
"""

from __future__ import annotations

import posixpath
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where these stand in an exception, no directory can be skipped for certain.
_GLOB = re.compile(r"[*\[\]?^\\]")


@dataclass(frozen=True)
class Pattern:
    """One line of a .dockerignore."""

    text: str  # cleaned, without !
    exception: bool  # !text
    match: Callable[[str], bool]


@dataclass(frozen=True)
class Ignore:
    """A .dockerignore: `verdict` says of each path whether it is left out."""

    patterns: tuple[Pattern, ...] = ()

    def verdict(self, path: str, parent: Sequence[bool] = ()) -> tuple[bool, list[bool]]:
        """Return whether `path` is left out, and what its children need to know: which patterns matched.

        `parent` is what this returned for the directory that holds `path`, nothing for the context's own entries.
        """
        left_out = False
        matches = [False] * len(self.patterns)
        for number, pattern in enumerate(self.patterns):
            matched = bool(parent) and parent[number]
            if not matched:
                if pattern.exception != left_out:
                    continue  # it could not change the verdict
                matched = pattern.match(path)
            matches[number] = matched
            if matched:
                left_out = not pattern.exception
        return left_out, matches

    def hides_all_below(self, directory: str) -> bool:
        """Whether nothing below a directory that is left out can be an exception."""
        for pattern in self.patterns:
            if pattern.exception:
                start = re.sub(r"/\*\*?$", "", pattern.text)
                if _GLOB.search(start) or f"{start}/".startswith(f"{directory}/"):
                    return False
        return True


def parse(content: bytes, where: str) -> Ignore:
    """Return what a .dockerignore says; raise a Problem for the line that Docker would refuse."""
    patterns = []
    lines = content.split(b"\n")
    for number, raw in enumerate(lines, 1):
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        line = raw.decode("utf-8", "surrogateescape")
        if line.startswith("#"):
            continue
        line = line.strip()
        if not line:
            continue
        exception = line.startswith("!")
        text = line[1:].strip() if exception else line
        if text:
            text = _clean(text)
            text = text[1:] if len(text) > 1 and text.startswith("/") else text
        text = _clean(f"!{text}" if exception else text.strip())  # a second time, as Docker does: !../a becomes a
        exception = text.startswith("!")
        text = text[1:] if exception else text
        if not text:
            raise Problem(
                f"{where}, line {number}: '!' alone is not an exception", "name what is to be kept, or remove it"
            )
        try:
            _check(text)
            patterns.append(Pattern(text, exception, _matcher(text)))
        except (ValueError, re.error) as error:
            raise Problem(
                f"{where}, line {number}: {line!r} is not a valid pattern: {error}", "mend it: \\ escapes"
            ) from None
    return Ignore(tuple(patterns))


def _clean(path: str) -> str:
    """Return what Go's filepath.Clean does."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _check(text: str) -> None:
    """Raise ValueError where Go's filepath.Match would call the pattern malformed: it looks as far as the second *."""
    position = len(text) - len(text.lstrip("*"))
    while position < len(text) and text[position] != "*":
        character = text[position]
        position += 1
        if character == "\\":
            position += 1
        elif character == "[":
            position = _check_class(text, position)


def _check_class(text: str, position: int) -> int:
    """Return where the class that begins at `position` ends."""
    position += text[position : position + 1] == "^"
    first = True
    while True:
        if text[position : position + 1] == "]" and not first:
            return position + 1
        for end in ("first", "last"):  # of a range
            character = text[position : position + 1]
            if character in ("", "-", "]"):
                raise ValueError("its [ ] are malformed")
            position += 2 if character == "\\" else 1
            if end == "last" or text[position : position + 1] != "-":
                break
            position += 1
        if position >= len(text):
            raise ValueError("its [ has no ]")
        first = False


def _matcher(text: str) -> Callable[[str], bool]:
    """Return the function that matches a path as patternmatcher does: by equality, prefix, suffix or expression."""
    kind, expression, position, step = "exact", "", 0, 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*" and text[position : position + 1] == "*":
            position += 1
            position += text[position : position + 1] == "/"  # **/ is **
            if position == len(text):
                kind, expression = ("prefix", expression) if kind == "exact" else ("regexp", expression + ".*")
            else:
                kind, expression = "regexp", expression + "(.*/)?"
            if step == 0:
                kind = "suffix"
        elif character in "*?":
            kind, expression = "regexp", expression + ("[^/]*" if character == "*" else "[^/]")
        elif character in ".+()$":  # and not |, { and }, which patternmatcher's table loses
            expression += "\\" + character
        elif character == "\\":
            if position == len(text):
                raise ValueError("it ends with \\")
            kind, expression = "regexp", expression + "\\" + text[position : position + 1]
            position += 1
        else:
            kind = "regexp" if character in "[]" else kind
            expression += character
        step += 1
    if kind == "exact":
        return lambda path: path == text
    if kind == "prefix":
        start = text[:-2]
        return lambda path: path.startswith(start)
    if kind == "suffix":
        end = text[2:]
        return lambda path: path.endswith(end) or (end[:1] == "/" and path == end[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # [[ means in Go what it still means here
        re.compile(expression)  # by itself: an open [ would swallow what follows
        compiled = re.compile(f"^{expression}\\Z", re.ASCII)
    return lambda path: compiled.search(path) is not None  # a | in it has two sides, and ^ belongs to the first
