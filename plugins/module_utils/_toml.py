# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""buildkitd.toml from a dictionary and back: as much TOML as buildkitd's settings and buildx's rewriting of them use.

Python has a TOML reader since 3.11 and no writer; the modules run on hosts with 3.8. Dates are the one type of TOML's
that is missing: no setting of BuildKit's is one.
"""

from __future__ import annotations

import json
import re
from typing import Any, Mapping

from ._problem import Problem

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
NUMBER = re.compile(
    r"[+-]?(?:0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|(?:inf|nan)|[0-9_]+(?:\.[0-9_]+)?(?:[eE][+-]?[0-9_]+)?)"
)
BLANK = re.compile(r"[ \t]*")
BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


def dump(data: Mapping[str, Any]) -> str:
    """Return the TOML document of a dictionary: scalars, lists, dictionaries, and lists of dictionaries."""
    return "".join(_table(data, ()))


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return the lines of a table: its own values first, since whatever follows a [header] belongs to that one."""
    lines: list[str] = []
    inner: list[str] = []
    for key, value in data.items():
        here = (*path, str(key))
        name = ".".join(_key(part) for part in here)
        if isinstance(value, Mapping):
            inner += [f"\n[{name}]\n", *_table(value, here)]
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                inner += [f"\n[[{name}]]\n", *_table(item, here)]
        else:
            lines.append(f"{_key(str(key))} = {_value(value, here)}\n")
    return lines + inner


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's strings but for this one character


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(key))} = {_value(item, path)}" for key, item in value.items()) + "}"
    raise Problem(f"{'.'.join(path)} is {value!r}, which TOML cannot say", "leave it out, or give it a value")


def load(text: str) -> dict[str, Any]:
    """Return what a TOML document says; raise ValueError, with the line, where it is none that we understand."""
    return _Reader(text).document()


class _Reader:
    """A reader at a place in a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def document(self) -> dict[str, Any]:
        root: dict[str, Any] = {}
        table = root
        while True:
            self.skip(BLANK_LINES)
            if self.at == len(self.text):
                return root
            if self.take("[["):
                path = self.path()
                self.expect("]]")
                items = self.descend(root, path[:-1]).setdefault(path[-1], [])
                if not isinstance(items, list):
                    raise self.error(f"{path[-1]} is not a list of tables")
                table = {}
                items.append(table)
            elif self.take("["):
                path = self.path()
                self.expect("]")
                table = self.descend(root, path)
            else:
                self.pair(table)
            self.skip(BLANK)
            if self.at < len(self.text) and self.text[self.at] not in "#\r\n":
                raise self.error("more than one value in a line")

    def pair(self, table: dict[str, Any]) -> None:
        path = self.path()
        self.expect("=")
        self.skip(BLANK)
        inner = self.descend(table, path[:-1])
        if path[-1] in inner:
            raise self.error(f"{path[-1]} is given twice")
        inner[path[-1]] = self.value()

    def descend(self, table: dict[str, Any], path: list[str]) -> dict[str, Any]:
        """Return the table at `path`, made where it is not there; of a list of tables, the last."""
        for part in path:
            inner = table.setdefault(part, {})
            if isinstance(inner, list) and inner:
                inner = inner[-1]
            if not isinstance(inner, dict):
                raise self.error(f"{part} is not a table")
            table = inner
        return table

    def path(self) -> list[str]:
        keys = []
        while True:
            self.skip(BLANK)
            bare = BARE_KEY.match(self.text, self.at)
            if bare:
                self.at = bare.end()
                keys.append(bare.group())
            elif self.text.startswith(('"', "'"), self.at):
                keys.append(self.string())
            else:
                raise self.error("a key is missing")
            self.skip(BLANK)
            if not self.take("."):
                return keys

    def value(self) -> Any:
        if self.text.startswith(('"', "'"), self.at):
            return self.string()
        for word, value in (("true", True), ("false", False)):
            if self.take(word):
                return value
        if self.take("["):
            return self.array()
        if self.take("{"):
            return self.inline_table()
        number = NUMBER.match(self.text, self.at)
        if not number:
            raise self.error("a value is missing")
        self.at = number.end()
        digits = number.group().replace("_", "")
        if re.match(r"[+-]?0[xob]", digits):
            return int(digits, 0)
        return int(digits) if re.fullmatch(r"[+-]?\d+", digits) else float(digits)

    def array(self) -> list[Any]:
        items: list[Any] = []
        while True:
            self.skip(BLANK_LINES)
            if self.take("]"):
                return items
            items.append(self.value())
            self.skip(BLANK_LINES)
            if not self.take(","):
                self.expect("]")
                return items

    def inline_table(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        self.skip(BLANK)
        while not self.take("}"):
            self.pair(table)
            self.skip(BLANK)
            if not self.take(","):
                self.expect("}")
                break
        return table

    def string(self) -> str:
        quote = self.text[self.at]
        if self.take(quote * 3):
            end = self.text.find(quote * 3, self.at)
            while quote == '"' and end > 0 and self.text[end - 1] == "\\":
                end = self.text.find(quote * 3, end + 1)
            if end < 0:
                raise self.error("a string has no end")
            while self.text.startswith(quote, end + 3):  # quotes may stand right before the closing three
                end += 1
            body = self.text[self.at : end]
            self.at = end + 3
            body = re.sub(r"^\r?\n", "", body)
            if quote == '"':
                body = re.sub(r"(?<!\\)((?:\\\\)*)\\[ \t]*\r?\n\s*", r"\1", body)
        else:
            pattern = r'"((?:[^"\\\n]|\\.)*)"' if quote == '"' else r"'([^'\n]*)'"
            match = re.compile(pattern).match(self.text, self.at)
            if not match:
                raise self.error("a string has no end")
            self.at = match.end()
            body = match.group(1)
        return (
            body
            if quote == "'"
            else re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", self.escape, body)
        )

    def escape(self, match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) > 1:
            return chr(int(code[1:], 16))
        if code not in ESCAPES:
            raise self.error(f"\\{code} is not a valid escape")
        return ESCAPES[code]

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()

    def take(self, word: str) -> bool:
        found = self.text.startswith(word, self.at)
        self.at += len(word) * found
        return found

    def expect(self, word: str) -> None:
        self.skip(BLANK)
        if not self.take(word):
            raise self.error(f"{word} is missing")

    def error(self, what: str) -> ValueError:
        line = self.text.count("\n", 0, self.at) + 1
        return ValueError(f"line {line}: {what}")
