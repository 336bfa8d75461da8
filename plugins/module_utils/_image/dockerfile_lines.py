# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Dockerfile as BuildKit divides it: directives, lines, instructions with their flags and words. No I/O.

Follows moby/buildkit frontend/dockerfile/parser, quirks included. A line that BuildKit refuses raises a Problem with
BuildKit's own reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._problem import Problem
from .shell_words import SPACES, STRIP, BadWord, Unreadable, heredocs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LONGEST_LINE = 65536  # bytes, its end included (bufio.MaxScanTokenSize)

# Of \s, Go's expressions know no vertical tab.
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_WHITESPACE = re.compile("[\t\v\f\r ]+")
_SPACE = re.compile(f"[{SPACES}]")
# The same, byte by byte: BuildKit reads flags so.
_BYTES_SPACE = " \t\n\v\f\r\x85\xa0"

LISTS = ("ADD", "COPY", "VOLUME")
COMMANDS = ("CMD", "ENTRYPOINT", "RUN", "SHELL")
PAIRS = ("ENV", "LABEL")
TEXTS = ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR")
WORDS = ("EXPOSE", "FROM")
KNOWN = {name.lower(): name for name in (*LISTS, *COMMANDS, *PAIRS, *TEXTS, *WORDS, "ARG", "HEALTHCHECK", "ONBUILD")}
_HAVE_HEREDOCS = ("ADD", "COPY", "RUN")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=build /a /b` has the flag --from=build and the words /a and /b."""

    name: str  # in capital letters
    flags: tuple[str, ...]
    words: tuple[str, ...]
    line: int
    inner: Instruction | None = None  # of ONBUILD
    is_json: bool = False


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile's instructions, and the character that escapes in it."""

    escape: str
    instructions: tuple[Instruction, ...]


def refusal(line: int, reason: str) -> Problem:
    """Return the Problem of a line that BuildKit refuses."""
    return Problem(f"the Dockerfile's line {line}: {reason}", "mend it: BuildKit refuses it as well")


def detect_syntax(content: str) -> str:
    """Return the frontend that a file asks for with a directive after # or //, or as JSON; "" where it asks for none."""
    text = content[1:] if content.startswith("\ufeff") else content
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for comment in ("#", "//"):
        directives = _Directives(comment)
        start = 0
        while not directives.done:
            end = text.find("\n", start)
            line = text[start:] if end < 0 else text[start:end]
            if (not line and end < 0) or len(line) >= LONGEST_LINE:
                break
            try:
                name, value = directives.read(line[:-1] if line.endswith("\r") else line)
            except ValueError:
                break
            if name == "syntax":
                return value
            if end < 0:
                break
            start = end + 1
    if not text.lstrip(" \t\r\n").startswith("{"):
        return ""
    try:
        syntax = json.loads(text, parse_constant=_no_constant, parse_int=len).get("syntax")
    except (ValueError, RecursionError):
        return ""
    return syntax if isinstance(syntax, str) else ""


def too_much(line: int, reason: str) -> Problem:
    """Return the Problem of a line that BuildKit may read, and nobody should have to."""
    return Problem(f"the Dockerfile's line {line}: {reason}", "write it simpler: it is not followed here")


class _Directives:
    """Reads directives until a line is none."""

    def __init__(self, comment: str) -> None:
        self.comment = comment
        self.seen: list[str] = []
        self.done = False

    def read(self, line: str) -> tuple[str, str]:
        """Return name and value of a directive, "" twice for any other line; ValueError where one comes again."""
        if self.done:
            return "", ""
        match = None
        if line.startswith(self.comment):
            match = _DIRECTIVE.match(line[len(self.comment) :].lstrip(STRIP))
        if not match or match[1].lower() not in _DIRECTIVES:
            self.done = True
            return "", ""
        name = match[1].lower()
        if name in self.seen:
            raise ValueError(f"only one {name} parser directive can be used")
        self.seen.append(name)
        return name, match[2]


def parse(content: str) -> Dockerfile:
    """Return the instructions of a Dockerfile, each with the number of its first line."""
    reader = _Reader(content)
    instructions = []
    while not reader.at_end():
        line, number = reader.logical_line()
        if line is None:
            continue
        try:
            instruction = read_instruction(line, number, reader.escape)
            holder = (instruction.inner or instruction) if instruction.name == "ONBUILD" else instruction
            if "<<" in line and holder.name in _HAVE_HEREDOCS and not holder.is_json:
                for name, chomps in heredocs(line):
                    reader.skip_heredoc(name, chomps)
        except BadWord as error:
            raise refusal(number, str(error)) from None
        except Unreadable as error:
            raise too_much(number, str(error)) from None
        instructions.append(instruction)
    return Dockerfile(reader.escape, tuple(instructions))


class _Reader:
    """The lines of a Dockerfile, each taken once."""

    def __init__(self, content: str) -> None:
        self.lines = content.split("\n")
        if not self.lines[-1]:
            self.lines.pop()
        if self.lines and self.lines[0].startswith("\ufeff"):
            self.lines[0] = self.lines[0][1:]
        self.number = 0
        self.escape = "\\"
        self.directives = _Directives("#")

    def at_end(self) -> bool:
        return self.number >= len(self.lines)

    def next(self) -> str:
        line = self.lines[self.number]
        self.number += 1
        if len(line) * 4 >= LONGEST_LINE and len(line.encode("utf-8", "surrogateescape")) >= LONGEST_LINE:
            raise refusal(self.number, f"dockerfile line greater than max allowed size of {LONGEST_LINE - 1}")
        return line

    def physical_line(self, *, strip: bool) -> str:
        """Return the next line without its end, as a directive or comment empty."""
        line = self.next().rstrip("\r\n")
        line = line.lstrip(STRIP) if strip else line
        try:
            name, value = self.directives.read(line)
        except ValueError as error:
            raise refusal(self.number, str(error)) from None
        if name == "escape":
            if value not in ("\\", "`"):
                raise refusal(self.number, f"invalid escape token '{value}' does not match ` or \\")
            self.escape = value
        return line

    def continued(self, line: str) -> tuple[str, bool]:
        """Return a line without the escape that continues it, and whether there is one; two of them are a character."""
        text = line.rstrip(" \t")
        if text.endswith(self.escape) and text[-2:-1] != self.escape:
            return text[:-1], True
        return line, False

    def logical_line(self) -> tuple[str | None, int]:
        """Return a line with those that continue it, without comments, and its number; None for an empty one."""
        line = self.physical_line(strip=True)
        number = self.number
        line, more = self.continued("" if line.startswith("#") else line)
        if not more:
            return line or None, number
        parts = [line]
        while more and not self.at_end():
            line = self.physical_line(strip=False)
            text = line.lstrip(STRIP)
            if not text or text.startswith("#"):
                continue
            line, more = self.continued(line)
            parts.append(line)
        return "".join(parts), number

    def skip_heredoc(self, name: str, chomps: bool) -> None:
        while not self.at_end():
            line = self.next().rstrip("\r\n")
            if (line.lstrip("\t") if chomps else line) == name:
                return
        raise BadWord("unterminated heredoc")


def read_instruction(line: str, number: int, escape: str, *, triggered: bool = False) -> Instruction:
    """Return the instruction of one logical line."""
    command, *rest = _WHITESPACE.split(line.strip(STRIP), 1)
    flags, text = _flags(rest[0], escape) if rest else ((), "")
    text = text.strip(STRIP)
    name = KNOWN.get(command.lower(), command)
    if name == "ONBUILD":
        if triggered:
            raise BadWord("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        inner = read_instruction(text, number, escape, triggered=True) if text else None
        if inner and inner.name in ("FROM", "MAINTAINER"):
            raise BadWord(f"{inner.name} isn't allowed as an ONBUILD trigger")
        return Instruction(name, flags, (), number, inner)
    words: Sequence[str] = ()
    is_json = False
    if name in LISTS or name in COMMANDS:
        found = _json(text)
        is_json = found is not None
        words = _WHITESPACE.split(text) if name in LISTS and text else [text] if text else []
        words = words if found is None else found
    elif name == "ARG":
        words = shell_split(text, escape)
    elif name in PAIRS:
        words = _pairs(name, text, escape)
    elif name in WORDS:
        words = _WHITESPACE.split(text) if text else []
    elif name in TEXTS:
        words = [text] if text else []
    elif name == "HEALTHCHECK":
        words = _SPACE.split(text, 1)
        _json(words[-1])  # for its error
    else:
        words = text.split()
    return Instruction(name, flags, tuple(words), number, is_json=is_json)


def _json(text: str) -> list[str] | None:
    """Return the words of a JSON list, None for what is none; a list of other things is refused."""
    text = text.lstrip(STRIP)
    if not text.startswith("["):
        return None
    try:
        words: list[Any] = json.loads(text, parse_constant=_no_constant, parse_int=len)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in words):
        raise BadWord("when using JSON array syntax, arrays must be comprised of strings only")
    return [re.sub("[\ud800-\udfff]", "\ufffd", word) for word in words]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def shell_split(text: str, escape: str) -> list[str]:
    """Return the words of a text, their quotes and escapes kept: what ARG, ENV and LABEL are divided into."""
    words: list[str] = []
    word: list[str] = []
    quote, blank_is_word, inside = "", False, False
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if not quote and _SPACE.match(character):
            if inside and (blank_is_word or word):
                words.append("".join(word))
            word, blank_is_word, inside = [], False, False
            continue
        inside = True
        if quote:
            if character == quote:
                quote = ""
            elif character == escape and quote != "'":
                if position == len(text):
                    quote = ""
                    continue
                word.append(character)
                character = text[position]
                position += 1
        else:
            if character in "'\"":
                quote = character
                blank_is_word = True
            if character == escape:
                if position == len(text):
                    continue
                word.append(character)
                character = text[position]
                position += 1
        word.append(character)
    if inside and (blank_is_word or word):
        words.append("".join(word))
    return words


def _pairs(name: str, text: str, escape: str) -> list[str]:
    """Return names and values by turns, of `NAME=value …` and of the old form `NAME a value`."""
    words = shell_split(text, escape)
    if not words:
        return []
    if "=" not in words[0]:
        pair = _WHITESPACE.split(text, 1)
        if len(pair) < 2:
            raise BadWord(f"{name} must have two arguments")
        return pair
    pairs = []
    for word in words:
        if "=" not in word:
            raise BadWord(f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value")
        pairs += word.split("=", 1)
    return pairs


def _flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Return the flags at the beginning of a text, without their quotes, and what follows them.

    BuildKit reads them byte by byte: what is not ASCII becomes other characters, some of them spaces.
    """
    if not text.lstrip(_BYTES_SPACE).startswith("--"):
        return (), text
    line = text.encode("utf-8", "surrogateescape").decode("latin-1")
    flags: list[str] = []
    word: list[str] = []
    quote, blank_is_word, inside = "", False, False
    position = 0
    while position < len(line):
        character = line[position]
        if not inside:
            if character in _BYTES_SPACE:
                position += 1
                continue
            if not line.startswith("--", position):
                break
            inside = True
        if not quote and character in _BYTES_SPACE:
            if word == ["-", "-"]:
                word = []
                inside = False
                break
            if blank_is_word or word:
                flags.append("".join(word))
            word, blank_is_word, inside = [], False, False
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote, blank_is_word = character, True
        elif character == escape:
            if position + 1 == len(line):
                quote = ""
            else:
                position += 1
                word.append(line[position])
        else:
            word.append(character)
        position += 1
    if inside and word != ["-", "-"] and (blank_is_word or word):
        flags.append("".join(word))
    rest = line[position:].encode("latin-1").decode("utf-8", "surrogateescape")
    return tuple(flags), rest


def options(instruction: Instruction, allowed: dict[str, str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the values of an instruction's flags, and those flags that are not known here.

    `allowed` says of each name what it takes: "" for a switch, "1" for one value, "+" for several of them.
    """
    values: dict[str, list[str]] = {}
    unknown = []
    for flag in instruction.flags:
        name, equals, value = flag[2:].partition("=")
        kind = allowed.get(name)
        if kind is None:
            unknown.append(f"--{name}")
            continue
        if name in values and kind != "+":
            raise BadWord(f"duplicate flag specified: --{name}")
        if (kind and not equals) or (not kind and equals and not value):
            raise BadWord(f"missing a value on flag: --{name}")
        if not kind and value.lower() not in ("", "true", "false"):
            raise BadWord(f"expecting boolean value for flag --{name}, not: {value}")
        values.setdefault(name, []).append(value)
    return values, unknown
