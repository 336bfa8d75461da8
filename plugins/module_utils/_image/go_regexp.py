# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Regular expressions as Go's regexp reads them, as far as patterns of a .dockerignore become some. No I/O.

Matching takes time in proportion to the text, whatever the expression: states are followed side by side, none is tried
again. Where Python's re cannot take longer, it does the work.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable, Union

LAST = 0x10FFFF
LARGEST = 50_000  # instructions of a program
REMEMBERED = 20_000  # transitions

_DIGIT, _SPACE = ((48, 57),), ((9, 10), (12, 13), (32, 32))
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_PERL = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_POSIX = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _DIGIT,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_REPEAT = re.compile(r"\{(0|[1-9][0-9]*)(?:(,)(0|[1-9][0-9]*)?)?\}")


class BadExpression(ValueError):
    """What Go's regexp refuses."""


class Unreadable(ValueError):
    """What Go's regexp takes, and is not read here."""


@dataclass(frozen=True)
class Set:
    """One character of these ranges."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Assertion:
    """A place: "begin", "end", "boundary" of a word, or "inside" it."""

    kind: str


@dataclass(frozen=True)
class Repeat:
    """A part, `least` times and up to `most` (None: without end)."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True)
class Sequence:
    """Parts, one after the other."""

    parts: tuple[Node, ...]


if TYPE_CHECKING:
    Node = Union[Set, Assertion, Repeat, Sequence]


def _negated(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    result = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return (*result, (start, LAST)) if start <= LAST else tuple(result)


NOT_NEWLINE = Set(_negated(((10, 10),)))


class _Parser:
    """Reads an expression (regexp/syntax/parse.go, flags Perl); its groups are those of `**` alone."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def alternatives(self) -> list[Sequence]:
        """Return the sequences between |."""
        found: list[list[Node]] = [[]]
        repeated = False
        while self.position < len(self.text):
            parts = found[-1]
            if self._peek() == "|":
                self.position += 1
                found.append([])
                repeated = False
                continue
            bounds = self._bounds()
            if not bounds:
                parts += self._part()
                repeated = False
            elif repeated:
                raise BadExpression("invalid nested repetition operator")
            elif not parts:
                raise BadExpression("missing argument to repetition operator")
            else:
                parts.append(Repeat(parts.pop(), *bounds))
                repeated = True
        return [Sequence(tuple(parts)) for parts in found]

    def _peek(self, length: int = 1) -> str:
        return self.text[self.position : self.position + length]

    def _bounds(self) -> tuple[int, int | None] | None:
        """Return how often the last part is repeated, None where no operator stands here."""
        character = self._peek()
        if character in ("*", "?", "+"):
            self.position += 1
            return {"*": (0, None), "?": (0, 1), "+": (1, None)}[character]
        match = _REPEAT.match(self.text, self.position) if character == "{" else None
        if not match:
            return None
        self.position = match.end()
        least = int(match[1][:9])
        most = (int(match[3][:9]) if match[3] else None) if match[2] else least
        if least > 1000 or (most is not None and (most > 1000 or most < least)):
            raise BadExpression("invalid repeat count")
        return least, most

    def _part(self) -> list[Node]:
        character = self._peek()
        self.position += 1
        if character == "^":
            return [Assertion("begin")]
        if character == "$":
            return [Assertion("end")]
        if character == ".":
            return [NOT_NEWLINE]
        if character == "[":
            return [self._class()]
        if character == "(":  # (.*/)
            end = self.text.index(")", self.position)
            inner = _Parser(self.text[self.position : end]).alternatives()
            self.position = end + 1
            return [inner[0]]
        if character == "\\":
            return self._escaped()
        return [Set(((ord(character), ord(character)),))]

    def _escaped(self) -> list[Node]:
        character = self._peek()
        kinds = {"A": "begin", "z": "end", "b": "boundary", "B": "inside"}
        if character and character in kinds:
            self.position += 1
            return [Assertion(kinds[character])]
        if character == "Q":
            literal, _end, _rest = self.text[self.position + 1 :].partition("\\E")
            self.position += 1 + len(literal) + (2 if _end else 0)
            return [Set(((ord(each), ord(each)),)) for each in literal]
        ranges = self._perl_class()
        if ranges is not None:
            return [Set(ranges)]
        code = self._escape()
        return [Set(((code, code),))]

    def _perl_class(self) -> tuple[tuple[int, int], ...] | None:
        """Return the ranges of the letter behind a backslash, None where it names no class."""
        character = self._peek()
        if character in ("p", "P"):
            raise Unreadable(f"\\{character} names a class of Unicode")
        ranges = _PERL.get(character.lower())
        if ranges is None:
            return None
        self.position += 1
        return _negated(ranges) if character.isupper() else ranges

    def _escape(self) -> int:
        """Return the character that an escape stands for; the backslash is taken."""
        character = self._peek()
        self.position += 1
        if character in tuple("1234567") and self._peek() not in tuple("01234567"):
            raise BadExpression("invalid escape sequence")
        if character in tuple("01234567"):
            match = re.compile("[0-7]{1,3}").match(self.text, self.position - 1)
            digits = match[0] if match else "0"
            self.position += len(digits) - 1
            return int(digits, 8)
        if character == "x":
            hexadecimal = re.compile(r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})").match(self.text, self.position)
            code = int((hexadecimal[1] or hexadecimal[2]).lstrip("0")[:9] or "0", 16) if hexadecimal else LAST + 1
            if not hexadecimal or code > LAST:
                raise BadExpression("invalid escape sequence")
            self.position = hexadecimal.end()
            return code
        if character in _CONTROL:
            return _CONTROL[character]
        if not character or ord(character) > 127 or character.isalnum():
            raise BadExpression("invalid escape sequence")
        return ord(character)

    def _class(self) -> Set:
        """Return the characters of [ ]; the first bracket is taken."""
        negated = self._peek() == "^"
        self.position += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            first = False
            if self._peek(2) == "[:":
                end = self.text.find(":]", self.position + 2)
                if end >= 0:
                    ranges += self._posix(self.text[self.position + 2 : end])
                    self.position = end + 2
                    continue
            if self._peek() == "\\":
                self.position += 1
                named = self._perl_class()
                if named is not None:
                    ranges += named
                    continue
                self.position -= 1
            low = high = self._class_character()
            if self._peek() == "-" and self._peek(2)[1:] not in ("", "]"):
                self.position += 1
                high = self._class_character()
                if high < low:
                    raise BadExpression("invalid character class range")
            ranges.append((low, high))
        self.position += 1
        return Set(_negated(tuple(ranges)) if negated else _negated(_negated(tuple(ranges))))

    @staticmethod
    def _posix(name: str) -> tuple[tuple[int, int], ...]:
        ranges = _POSIX.get(name[1:] if name.startswith("^") else name)
        if ranges is None:
            raise BadExpression("invalid character class range")
        return _negated(ranges) if name.startswith("^") else ranges

    def _class_character(self) -> int:
        character = self._peek()
        if not character:
            raise BadExpression("missing closing ]")
        self.position += 1
        return self._escape() if character == "\\" else ord(character)


def read(text: str) -> tuple[str, Callable[[str], bool] | None]:
    """Return an expression for Python's `match`, or where that could try again and again, "" and the function that matches."""
    alternatives = _Parser(text).alternatives()
    simple = as_python(alternatives)
    return (simple, None) if simple is not None else ("", _Automaton(alternatives).matches)


def as_python(alternatives: list[Sequence]) -> str | None:
    """Return the same for Python's `match`; None where that could try again and again."""
    parts = alternatives[0].parts
    if len(alternatives) > 1 or len(parts) < 2 or parts[0] != Assertion("begin") or parts[-1] != Assertion("end"):
        return None
    if any(isinstance(part, Assertion) for part in parts[1:-1]) or sum(map(_freedom, parts)) > 2:
        return None
    return "".join(map(_python, parts[1:-1])) + r"\Z"


def _freedom(node: Node) -> int:
    """Return how many parts of a node may be longer or shorter."""
    if isinstance(node, Sequence):
        return sum(map(_freedom, node.parts))
    if isinstance(node, Repeat):
        if isinstance(node.part, Assertion):
            return 9
        inner = _freedom(node.part)
        return inner if (node.least, node.most) == (0, 1) and inner else inner + (node.least != node.most)
    return 0


def _python(node: Node) -> str:
    if isinstance(node, Set):
        if not node.ranges:
            return "(?!)"
        if node == NOT_NEWLINE:
            return "."
        if len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
            return re.escape(chr(node.ranges[0][0]))
        # Python takes milliseconds to compile a class that goes up to the last character.
        negated = node.ranges[-1][1] == LAST and node.ranges != ((0, LAST),)
        ranges = _negated(node.ranges) if negated else node.ranges
        text = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
        return f"[^{text}]" if negated else f"[{text}]"
    if isinstance(node, Repeat):
        most = "" if node.most is None else node.most
        return f"(?:{_python(node.part)}){{{node.least},{most}}}"
    return "".join(map(_python, node.parts)) if isinstance(node, Sequence) else ""


class _Automaton:
    """All ways through an expression at once."""

    def __init__(self, alternatives: list[Sequence]) -> None:
        # What an instruction takes (a Set, or an Assertion, or None for nothing), and where it leads.
        self.takes: list[Set | Assertion | None] = [None]
        self.leads: list[list[int]] = [[]]  # 0: it matches
        self.starts = [self._compile(sequence, 0) for sequence in alternatives]
        self.lows = {
            index: [low for low, _high in node.ranges] for index, node in enumerate(self.takes) if isinstance(node, Set)
        }
        self.known: dict[tuple[frozenset[int], bool, bool, str], frozenset[int] | None] = {}

    def _add(self, takes: Set | Assertion | None, *leads: int) -> int:
        self.takes.append(takes)
        self.leads.append(list(leads))
        if len(self.takes) > LARGEST:
            raise Unreadable("it is too large")
        return len(self.takes) - 1

    def _compile(self, node: Node, after: int) -> int:
        """Return the first instruction of a node that `after` follows."""
        if isinstance(node, (Set, Assertion)):
            return self._add(node, after)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                after = self._compile(part, after)
            return after
        if node.most is None:
            loop = self._add(None, after)
            self.leads[loop].insert(0, self._compile(node.part, loop))
            after = loop
        else:
            end = after
            for _number in range(node.most - node.least):
                after = self._add(None, self._compile(node.part, after), end)
        for _number in range(node.least):
            after = self._compile(node.part, after)
        return after

    def matches(self, text: str) -> bool:
        """Whether the expression matches somewhere in a text."""
        states: frozenset[int] | None = frozenset()
        was_word = False
        for position, character in enumerate(text):
            key = (states or frozenset(), position == 0, was_word, character)
            if key in self.known:
                states = self.known[key]
            else:
                if len(self.known) >= REMEMBERED:
                    self.known.clear()
                states = self.known[key] = self._step(*key)
            if states is None:
                return True
            was_word = _is_word(character)
        return self._step(states or frozenset(), not text, was_word, "") is None

    def _step(self, states: frozenset[int], begins: bool, was_word: bool, character: str) -> frozenset[int] | None:
        """Return the states behind a character ("": the text ends here), None where the expression has matched."""
        holds = {"boundary" if was_word != _is_word(character) else "inside"}
        holds |= {"begin"} if begins else set()
        holds |= set() if character else {"end"}
        left = [*states, *self.starts]
        seen = set(left)
        following = set()
        while left:
            state = left.pop()
            takes = self.takes[state]
            if state == 0:
                return None
            if isinstance(takes, Set):
                if character and self._has(state, takes, ord(character)):
                    following.add(self.leads[state][0])
            elif takes is None or takes.kind in holds:
                for lead in self.leads[state]:
                    if lead not in seen:
                        seen.add(lead)
                        left.append(lead)
        return frozenset(following)

    def _has(self, state: int, takes: Set, code: int) -> bool:
        place = bisect.bisect_right(self.lows[state], code) - 1
        return place >= 0 and code <= takes.ranges[place][1]


def _is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")
