# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files of a context BuildKit is sent: .dockerignore as Docker reads it. No I/O.

Follows github.com/moby/patternmatcher to the letter, quirks included: what it leaves out must be left out of the
input digest, and nothing else. tests/registry compares the two.
"""

from __future__ import annotations

import bisect
import itertools
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._problem import Problem
from .go_regexp import BadExpression, Unreadable, read
from .shell_words import STRIP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GROUP = 200  # expressions that are compiled together
LONGEST_LINE = 65536  # bytes (bufio.MaxScanTokenSize)

# Where these stand in an exception, no directory can be skipped for certain.
_GLOB = re.compile(r"[*\[\]?^\\]")
_INVALID = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8: Go reads each as U+FFFD


@dataclass(frozen=True)
class Pattern:
    """One line of a .dockerignore."""

    text: str  # cleaned, without !
    exception: bool  # !text
    kind: str  # exact, prefix, suffix, or regexp, which has an expression or a matcher
    expression: str = ""
    matcher: Callable[[str], bool] | None = None
    fails: bool = False  # where it is tried


class Run:
    """Lines that follow each other, all of them patterns or all of them exceptions: one that matches decides for all."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.exception = patterns[0].exception
        texts: dict[str, list[str]] = {"exact": [], "prefix": [], "suffix": []}
        self.matchers: list[Callable[[str], bool]] = []
        self.expressions: list[str] = []
        self.compiled: list[re.Pattern[str]] | None = None
        for pattern in patterns:
            if pattern.matcher:
                self.matchers.append(pattern.matcher)
            elif pattern.expression:
                self.expressions.append(f"(?:{pattern.expression})")
            else:
                texts[pattern.kind].append(pattern.text)
        self.starts = tuple(text[:-2] for text in texts["prefix"])
        # Bytes: of a mark in front of it, the last one is left.
        self.ends = tuple("\udcbf" + text[1:] if text.startswith("\ufeff") else text[2:] for text in texts["suffix"])
        self.exact = {*texts["exact"], *(text[1:] for text in self.ends if text.startswith("/"))}

    def match(self, path: str) -> bool:
        """Whether one of the lines matches a path."""
        if path in self.exact or path.startswith(self.starts) or path.endswith(self.ends):
            return True
        if not self.matchers and not self.expressions:
            return False
        text = _INVALID.sub("\ufffd", path)
        if self.compiled is None:  # many at once: that is several times as fast
            groups = (self.expressions[start : start + GROUP] for start in range(0, len(self.expressions), GROUP))
            self.compiled = [re.compile("|".join(group)) for group in groups]
        return any(group.match(text) for group in self.compiled) or any(matcher(text) for matcher in self.matchers)


class Ignore:
    """A .dockerignore: `verdict` says of each path whether it is left out."""

    def __init__(self, patterns: Sequence[Pattern] = ()) -> None:
        # What cannot be compiled is an error where it is tried, and not before: such a line is a run by itself.
        groups = itertools.groupby(enumerate(patterns), lambda each: (each[1].exception, each[1].fails and each[0] + 1))
        self.runs = tuple(Run([pattern for _number, pattern in group]) for _key, group in groups)
        exceptions = [pattern.text for pattern in patterns if pattern.exception]
        starts = [re.sub(r"/\*\Z", "", re.sub(r"/\*\*\Z", "", text)) for text in exceptions]
        self._anywhere = any(map(_GLOB.search, starts))
        self._starts = sorted(f"{start}/" for start in starts)

    def verdict(self, path: str, parent: Sequence[bool] = ()) -> tuple[bool, list[bool]]:
        """Return whether `path` is left out, and what its children need to know: which runs matched.

        `parent` is what this returned for the directory that holds `path`, nothing for the context's own entries.
        """
        left_out = False
        matches = [False] * len(self.runs)
        for number, run in enumerate(self.runs):
            matched = bool(parent) and parent[number]
            if not matched:
                if run.exception != left_out:
                    continue  # it could not change the verdict
                matched = run.match(path)
            matches[number] = matched
            if matched:
                left_out = not run.exception
        return left_out, matches

    def hides_all_below(self, directory: str) -> bool:
        """Whether nothing below a directory that is left out can be an exception."""
        if self._anywhere:
            return False
        place = bisect.bisect_left(self._starts, f"{directory}/")
        return not (place < len(self._starts) and self._starts[place].startswith(f"{directory}/"))


def parse(content: bytes, where: str) -> Ignore:
    """Return what a .dockerignore says; raise a Problem for the line that Docker would refuse."""
    patterns: list[Pattern] = []
    for number, raw in enumerate(content.split(b"\n"), 1):
        if len(raw) >= LONGEST_LINE:
            raise Problem(f"{where}, line {number} is longer than {LONGEST_LINE - 1} bytes", "write shorter patterns")
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        line = raw.decode("utf-8", "surrogateescape")
        text = _pattern(line)
        if not text:
            continue
        exception = text.startswith("!")
        text = text[1:] if exception else text
        if not text:
            raise Problem(
                f"{where}, line {number}: '!' alone is not an exception", "name what is to be kept, or remove it"
            )
        what = f"{where}, line {number}: {line.strip(STRIP)!r} is not a valid pattern"
        try:
            _check(text)
            patterns.append(_read(_INVALID.sub("\ufffd", text), exception, what))
        except (ValueError, Unreadable) as error:
            raise Problem(f"{what}: {error}", "mend it: \\ escapes") from None
    return Ignore(patterns)


def _pattern(line: str) -> str:
    """Return the pattern of a line, cleaned as often as Docker does; "" for what is none."""
    text = line.strip(STRIP)
    if line.startswith("#") or not text:
        return ""
    exception = text.startswith("!")
    text = text[1:].strip(STRIP) if exception else text
    if text:
        text = _clean(text)
        text = text[1:] if len(text) > 1 and text.startswith("/") else text
    text = (f"!{text}" if exception else text).strip(STRIP)
    return text and _clean(text)  # a second time: !../a becomes a


def _read(text: str, exception: bool, what: str) -> Pattern:
    """Return the pattern of a text; one that is wrong raises its Problem where it is tried."""
    kind, expression = _kind(text)
    if kind != "regexp":
        return Pattern(text, exception, kind)
    try:
        return Pattern(text, exception, kind, *read(expression))
    except BadExpression as error:
        reason = str(error)

    def fails(path: str) -> bool:
        raise Problem(f"{what}: {reason}, says BuildKit when it comes to {path!r}", "mend it: \\ escapes")

    return Pattern(text, exception, kind, "", fails, fails=True)


def _clean(path: str) -> str:
    """Return what Go's filepath.Clean does."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _check(pattern: str) -> None:
    """Raise ValueError where Go's filepath.Match(pattern, ".") calls the pattern malformed."""
    name = "."
    while pattern:
        star = pattern.startswith("*")
        pattern = pattern.lstrip("*")
        end = _chunk_end(pattern)
        chunk, pattern = pattern[:end], pattern[end:]
        if star and not chunk:
            return
        rest = _match_chunk(chunk, name)
        if rest is not None and (not rest or pattern):
            name = rest
            continue
        if star and name:
            rest = _match_chunk(chunk, "")
            if rest is not None:
                name = rest
                continue
        return


def _chunk_end(pattern: str) -> int:
    """Return where the part before the next * ends."""
    inside = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\" and position + 1 < len(pattern):
            position += 1
        elif character in "[]":
            inside = character == "["
        elif character == "*" and not inside:
            return position
        position += 1
    return position


def _match_chunk(chunk: str, name: str) -> str | None:
    """Return what a chunk leaves of a name, None where it does not match; ValueError where it is malformed."""
    failed = False
    position = 0
    while position < len(chunk):
        failed = failed or not name
        character = chunk[position]
        position += 1
        if character == "[":
            found, position = _match_class(chunk, position, name[:1])
            failed = failed or not found
        elif character == "\\":
            if position == len(chunk):
                raise ValueError("it ends with \\")
            failed = failed or chunk[position] != name[:1]
            position += 1
        elif character != "?":
            failed = failed or character != name[:1]
        name = name if failed else name[1:]
    return None if failed else name


def _match_class(chunk: str, position: int, character: str) -> tuple[bool, int]:
    """Return whether the class that begins at `position` has a character, and where it ends."""
    negated = chunk[position : position + 1] == "^"
    position += negated
    found = False
    first = True
    while first or chunk[position : position + 1] != "]":
        first = False
        low, position = _class_character(chunk, position)
        high = low
        if chunk[position] == "-":
            high, position = _class_character(chunk, position + 1)
        found = found or low <= (character or "\0") <= high
    return found != negated, position + 1


def _class_character(chunk: str, position: int) -> tuple[str, int]:
    character = chunk[position : position + 1]
    if character in ("", "-", "]"):
        raise ValueError("its [ ] are malformed")
    if character == "\\":
        position += 1
        character = chunk[position : position + 1]
    if not character or _INVALID.match(character):
        raise ValueError("its [ ] are malformed")
    if position + 1 >= len(chunk):
        raise ValueError("its [ has no ]")
    return character, position + 1


def _kind(text: str) -> tuple[str, str]:
    """Return how patternmatcher compares a pattern: exact, prefix, suffix or regexp, and the last one's expression."""
    kind, parts, position, step = "exact", ["^"], 0, 0
    if text.startswith("\ufeff"):  # Go's scanner drops it
        position = 1
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*" and text[position : position + 1] == "*":
            position += 1
            position += text[position : position + 1] == "/"  # **/ is **
            if position < len(text):
                kind = "regexp"
                parts.append("(.*/)?")
            elif kind == "exact":
                kind = "prefix"
            else:
                kind = "regexp"
                parts.append(".*")
            if step == 0:
                kind = "suffix"
        elif character in "*?":
            kind = "regexp"
            parts.append("[^/]*" if character == "*" else "[^/]")
        elif character in ".+()$":  # and not |, { and }, which patternmatcher's table loses
            parts.append("\\" + character)
        elif character == "\\":
            kind = "regexp" if position < len(text) else kind
            parts.append("\\" + text[position : position + 1])
            position += 1
        else:
            kind = "regexp" if character in "[]" else kind
            parts.append(character)
        step += 1
    return kind, "".join([*parts, "$"])
