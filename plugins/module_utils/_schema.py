# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a server answers, parsed once, where it arrives: JSON of bounded cost, and records whose fields have a type."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Mapping

# Objects, lists and their elements: each takes up to 120 bytes of memory, so that an answer takes some 70 MB at most.
MOST_VALUES = 600_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Damaged(ValueError):
    """An answer does not have the shape that it must have; says where and what, and never repeats a value."""


@dataclass(frozen=True)
class Field:
    """One field of a record: its type, and what it is where it is left out or null."""

    kind: type
    required: bool = False
    default: Any = None  # None: the field is left out of the record
    most: int = 4096  # characters of a text
    lines: bool = False  # whether a text may have control characters

    def check(self, value: object, where: str) -> object:
        """Return a value of the field's type; raise Damaged for any other."""
        if value.__class__ is not self.kind:  # not isinstance: true is an int to Python
            raise Damaged(f"{where} is {_kind(value)}, not {_NAMES[self.kind]}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise Damaged(f"{where} is a number of more than 64 bits")
        if isinstance(value, str):
            if len(value) > self.most:
                raise Damaged(f"{where} has more than {self.most} characters")
            if _SURROGATE.search(value) or (not self.lines and _CONTROL.search(value)):
                raise Damaged(f"{where} has a control character")
        return value


Fields = Mapping[str, Field]

_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def parse_json(body: bytes) -> Any:
    """Return the JSON of a body; raise Damaged where it is none, is ambiguous, or costs more than it may."""
    values = sum(body.count(character) for character in (b",", b"[", b"{"))
    if values > MOST_VALUES:
        raise Damaged(f"it has more than {MOST_VALUES} values")
    try:
        return json.loads(
            body.decode(), parse_int=_integer, parse_constant=_no_constant, object_pairs_hook=_without_duplicates
        )
    except Damaged:
        raise
    except RecursionError:
        raise Damaged("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise Damaged("it is not UTF-8") from None
    except ValueError:
        raise Damaged("it is not complete JSON") from None


def record(content: Any, fields: Fields, where: str) -> dict[str, Any]:
    """Return the known fields of an object; raise Damaged where one is missing or has another type."""
    if not isinstance(content, dict):
        raise Damaged(f"{where} is {_kind(content)}, not an object")
    found = {}
    for name, known in fields.items():
        value = content.get(name)
        if value is not None:
            found[name] = known.check(value, f"{where}.{name}")
        elif known.required:
            raise Damaged(f"{where} has no {name}")
        elif known.default is not None:
            found[name] = known.default
    return found


def records(content: Any, fields: Fields, where: str) -> list[dict[str, Any]]:
    """Return the records of a list; Go writes an empty list as null."""
    if content is None:
        return []
    if not isinstance(content, list):
        raise Damaged(f"{where} is {_kind(content)}, not a list")
    return [record(entry, fields, f"{where}[{number}]") for number, entry in enumerate(content)]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return _NAMES.get(type(value), "a number")


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise Damaged("it has a number of more than 64 bits")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise Damaged(f"it has {name}, which JSON does not have")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Damaged("it has an object with one key twice")
    return found
