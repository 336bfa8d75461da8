# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Words of a Dockerfile: quotes, escapes, variables and heredocs, as BuildKit reads them. No I/O.

Follows moby/buildkit frontend/dockerfile/shell/lex.go, quirks included. What only the build knows stands in a value as
one of three characters that no file can hold, so that the rest of the word is still known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from typing import NoReturn

    Get = Callable[[str], "str | None"]  # the value of a variable, None where it is not set

# Stand for what nobody knows before the build: anything (or not set at all); a platform's word, which may be empty;
# a platform's word. A file decoded with surrogateescape never holds them.
ANYTHING, WORD, NAME = "\ud800", "\ud801", "\ud802"
UNKNOWN = re.compile(f"[{ANYTHING}{WORD}{NAME}]")

# unicode.IsSpace of Go: Python's str.isspace takes four separators more.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACES = re.compile(f"[{SPACES}]+")
_PIECE = re.compile(f"[{SPACES}]+|[^{SPACES}]+")
STRIP = SPACES.replace("\u2000-\u200a", "".join(map(chr, range(0x2000, 0x200B))))  # for str.strip

_INVALID = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8: Go reads each as U+FFFD
_PLAIN = re.compile(r"""[^$<'"\\`/}]+""")
_HEREDOC = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)\Z", re.ASCII)

DEPTH = 60  # of ${A:-${B:-…}}: far more than anybody writes, far less than Python's own limit
LONGEST = 1 << 20  # characters of a value: ${A}${A} doubles it with each line
STEPS = 1 << 20  # of a comparison with ${A%pattern}


class BadWord(ValueError):
    """What BuildKit refuses, in its own words."""


class Unreadable(ValueError):
    """What BuildKit may read, and nobody should have to."""


def expand(word: str, get: Get, escape: str = "\\") -> str:
    """Return a word with its variables replaced and its quotes removed."""
    return _Lexer(word, get, escape).until("", raw_escapes=False)


def heredocs(line: str) -> list[tuple[str, bool]]:
    """Return name and "is there a - before it" of each heredoc that a line begins.

    The escape is always the backslash here, and what is not set stays as it is written.
    """
    try:
        words = _Lexer(line, _unset, "\\", raw_quotes=True, keep_unset=True).words(raw_escapes=True)
    except BadWord:
        return []
    found = (heredoc(word) for word in words if "<<" in word)
    return [each for each in found if each]


def heredoc(word: str) -> tuple[str, bool] | None:
    """Return what `<<EOF` and `<<-"EOF"` begin, None for any other word."""
    match = _HEREDOC.match(word)
    if not match or not match[3]:
        return None
    names = _Lexer(match[3], _unset, "\\", keep_unset=True).words(raw_escapes=False)
    return (names[0], bool(match[2])) if len(names) == 1 else None


def _unset(name: str) -> None:
    del name  # nothing is set here


class _Lexer:
    """One word or line while it is read."""

    def __init__(self, text: str, get: Get, escape: str, *, raw_quotes: bool = False, keep_unset: bool = False) -> None:
        # Go's scanner drops a byte order mark where it begins.
        self.text = _INVALID.sub("\ufffd", text[1:] if text.startswith("\ufeff") else text)
        self.position = 0
        self.get = get
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.keep_unset = keep_unset
        self.raw_escapes = False
        self.depth = 0
        self.word: list[str] = []  # that is being read, for words()

    def words(self, *, raw_escapes: bool) -> list[str]:
        """Return the words of the text; spaces in quotes do not divide."""
        words: list[str] = []
        self.until("", raw_escapes=raw_escapes, words=words)
        return words

    def until(self, stop: str, *, raw_escapes: bool, doubled: bool = False, words: list[str] | None = None) -> str:
        """Return the text up to `stop` ("": its end); `doubled` escapes are those of a pattern, read a second time."""
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable(f"its variables are nested more than {DEPTH} deep")
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        result: list[str] = []
        self.word = []  # a quirk: the word around ${A:-b} is forgotten
        inside = stopped = False
        while self.position < len(self.text) and not stopped:
            character = self.text[self.position]
            if character == stop:
                stopped = True
                self.position += 1
                break
            text, raw = self._piece(character, doubled)
            result.append(text)
            if words is not None:
                inside = self._divide(text, words, raw=raw, inside=inside)
        if stop and not stopped:
            raise BadWord(f"unexpected end of statement while looking for matching {stop}")
        if words is not None and any(self.word):
            words.append("".join(self.word))
        self.word = []
        self.raw_escapes = before
        self.depth -= 1
        return _bounded("".join(result), 2 * len(self.text))

    def _piece(self, character: str, doubled: bool) -> tuple[str, bool]:
        """Return what begins with `character`, and whether a space in it belongs to the word."""
        if character == "$":
            return self._variable(), False
        if character == "<":
            return self._heredoc(), True
        if character == "'":
            return self._single_quoted(doubled), True
        if character == '"':
            return self._double_quoted(doubled), True
        if character == self.escape:
            self.position += 1
            return (self.escape if self.raw_escapes else "") + self._next(), True
        match = _PLAIN.match(self.text, self.position)
        text = match[0] if match else character
        self.position += len(text)
        return text, False

    def _divide(self, text: str, words: list[str], *, raw: bool, inside: bool) -> bool:
        """Add a text to the word that is read; a space in it ends the word, unless it is quoted (`raw`)."""
        if raw:
            self.word.append(text)
            return True
        for piece in _PIECE.findall(text):
            if not _SPACES.match(piece):
                self.word.append(piece)
                inside = True
            elif inside and any(self.word):
                words.append("".join(self.word))
                self.word = []
                inside = False
        return inside

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        character = self._peek()
        self.position += 1
        return character

    def _single_quoted(self, doubled: bool) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            self.position = len(self.text)
            raise BadWord("unexpected end of statement while looking for matching single-quote")
        text = self.text[self.position + 1 : end]
        self.position = end + 1
        if doubled:
            text = text.replace(self.escape, self.escape * 2)
        return f"'{text}'" if self.raw_quotes else text

    def _double_quoted(self, doubled: bool) -> str:
        result = [self._next()] if self.raw_quotes else [self._next()][1:]
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == "$":
                result.append(self._variable())
                continue
            self.position += 1
            if character == '"':
                return "".join(result + ([character] if self.raw_quotes else []))
            if character == self.escape:
                following = self._peek()
                if not following:
                    continue
                if following in ('"', "$", self.escape):
                    result += [character] if self.raw_escapes else []
                    character = self._next()
                elif self.raw_escapes and (not self.raw_quotes or doubled):
                    result.append(character)
            result.append(character)
        raise BadWord("unexpected end of statement while looking for matching double-quote")

    def _heredoc(self) -> str:
        self.position += 1
        if self._peek() != "<":
            return "<"
        start = self.position + 1
        self.position = start
        while self._peek() in ("\t", "\r", " "):
            self.position += 1
        return f"<<{self.text[start : self.position]}"

    def _name(self) -> str:
        """Return a variable's name: digits, one special character, or letters, digits and _."""
        start = self.position
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self.position += 1
        elif first and first in "@*#?-$!":
            self.position += 1
        else:
            while self._peek() and (self._peek().isalpha() or self._peek().isdecimal() or self._peek() == "_"):
                self.position += 1
        return self.text[start : self.position]

    def _variable(self) -> str:
        """Return the value of the variable that begins here."""
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            value = self.get(name) if name else "$"
            return (f"${name}" if self.keep_unset else "") if value is None else value
        self.position += 1
        if not self._peek():
            raise BadWord("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise BadWord("syntax error: bad substitution")
        name = self._name()
        operator = self._next()
        if operator == "}":
            value = self.get(name)
            return (f"${{{name}}}" if self.keep_unset else "") if value is None else value
        if operator == "/":
            return self._replaced(name)
        if operator == ":":
            operator += self._next()
        elif operator not in ("+", "-", "?", "#", "%"):
            self._refuse(operator)
        return self._modified(name, operator)

    def _refuse(self, operator: str) -> NoReturn:
        raise BadWord(f"unsupported modifier ({operator or chr(0xFFFD)}) in substitution")

    def _inner(self, stop: str, missing: str, *, raw_escapes: bool, doubled: bool) -> str:
        try:
            return self.until(stop, raw_escapes=raw_escapes, doubled=doubled)
        except BadWord:
            if self.position >= len(self.text):
                raise BadWord(f"syntax error: missing {missing}") from None
            raise

    def _modified(self, name: str, operator: str) -> str:
        """Return `${name<operator>word}`."""
        kind = operator[-1:]
        trims = kind in ("#", "%") and bool(kind)
        if operator[:1] == ":" and trims:
            self._refuse(operator)
        word = self._inner("}", "'}'", raw_escapes=trims, doubled=trims)
        value = self.get(name)
        if value is None and self.keep_unset:
            return f"${{{name}{operator}{word}}}"
        if trims:
            return _trimmed(kind, word, value or "")
        if operator in (":", "") or kind not in "-+?":
            self._refuse(operator)
        if value is not None and ANYTHING in value and value.strip(ANYTHING + WORD) == "":
            return ANYTHING  # it may not even be set
        empty = _is_empty(value or "") if operator[0] == ":" else False
        if value is not None and empty is None:
            return ANYTHING
        is_set = value is not None and not empty
        if kind == "-":
            return (value or "") if is_set else word
        if kind == "+":
            return word if is_set else ""
        if not is_set:
            default = f"is not allowed to be {'unset' if value is None else 'empty'}"
            raise BadWord(f"{name}: {word or default}")
        return value or ""

    def _replaced(self, name: str) -> str:
        """Return `${name/pattern/replacement}`, and with // every match replaced."""
        every = self._peek() == "/"
        self.position += every
        pattern = self._inner("/", "'/' in ${}", raw_escapes=True, doubled=True)
        replacement = self._inner("}", "'}'", raw_escapes=True, doubled=False)
        value = self.get(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        tokens = _pattern(pattern)
        texts = (value or "", pattern, replacement)
        if any(map(UNKNOWN.search, texts)) or (every and "$" in replacement):
            return ANYTHING
        return _bounded(_substituted(tokens, replacement, value or "", every=every))


def _is_empty(value: str) -> bool | None:
    """Whether a value is "", None where only the build knows."""
    known = value.strip(ANYTHING + WORD)
    return False if known else (None if value else True)


def _bounded(text: str, least: int = 0) -> str:
    if len(text) > max(LONGEST, least):
        raise Unreadable(f"its value is longer than {LONGEST} characters")
    return text


def _pattern(text: str) -> list[str]:
    """Return the tokens of a shell pattern: "*", "?" and, with a backslash before it, each character that means itself."""
    text = text[1:] if text.startswith("\ufeff") else text
    tokens: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character in "*?":
            tokens.append(character)
            continue
        if character == "\\":
            following = text[position : position + 1]
            if following in ("}", "/"):
                continue
            if following not in ("*", "?", "\\"):
                escaped = following or chr(0xFFFD)
                raise BadWord(f"invalid pattern ({text}) in substitution: invalid escape '\\{escaped}'")
            character = following
            position += 1
        tokens.append("\\" + character)
    return tokens


def _ends(tokens: list[str], value: str, start: int) -> list[int]:
    """Return where a pattern that begins at `start` may end; no wildcard takes a line's end."""
    if (len(value) - start + 1) * (len(tokens) + 1) > STEPS:
        raise Unreadable("its pattern and its value are too long to be compared")
    reached = [start]
    for token in tokens:
        following: list[int] = []
        for position in reached:
            if token == "*":
                if following and position <= following[-1]:
                    continue
                line = value.find("\n", position)
                following += range(position, (len(value) if line < 0 else line) + 1)
            elif (
                value[position : position + 1] == token[1:]
                if len(token) > 1
                else value[position : position + 1] not in ("", "\n")
            ):
                following.append(position + 1)
        reached = following
        if not reached:
            break
    return reached


def _trimmed(kind: str, word: str, value: str) -> str:
    """Return `${value#word}` or, from its end, `${value%word}`; doubled, as much as can be."""
    longest = word.startswith(kind)
    word = word[1:] if longest else word
    tokens = _pattern(word) if kind == "#" else _pattern(_reversed(word))
    if UNKNOWN.search(value) or UNKNOWN.search(word):
        return ANYTHING if ANYTHING in value + word else WORD
    text = value if kind == "#" else value[::-1]
    ends = _ends(tokens, text, 0)
    if ends:
        text = text[max(ends) if longest else min(ends) :]
    return text if kind == "#" else text[::-1]


def _reversed(pattern: str) -> str:
    """Return a pattern from its end to its beginning, its escapes where they belong."""
    pairs = re.findall(r"\\.|.|\\", pattern, re.DOTALL)
    return "".join(reversed(pairs))


def _substituted(tokens: list[str], replacement: str, value: str, *, every: bool) -> str:
    """Return the value with the first match, or every match, replaced: as far left as can be, then as long."""
    result: list[str] = []
    start = done = steps = 0
    while start <= len(value):
        steps += 1
        if steps * (len(value) + 1) > STEPS:
            raise Unreadable("its pattern and its value are too long to be compared")
        ends = _ends(tokens, value, start)
        if not ends:
            start += 1
            continue
        end = max(ends)
        if end > done or start == 0:  # not an empty match directly behind another one
            result += [value[done:start], replacement]
        else:
            result.append(value[done:start])
        done = end
        if not every:
            break
        start = end if end > start else start + 1
    return "".join(result) + value[done:]
