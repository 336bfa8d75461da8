# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Go's libraries do to Drone's input: JSON read into typed fields, names made slugs, cron expressions parsed.

Recorded are a wrong type, a broken object, an empty body, a bad expression, five fields, and a name with a space. The
other cases follow encoding/json, robfig/cron and gosimple/slug.
"""

from __future__ import annotations

import json
import re
from typing import Any, Mapping

GO_TYPES = {bool: "bool", str: "string", int: "int64"}


class BadRequest(Exception):
    """Input that Go refuses, in its words."""


def decode(body: bytes, struct: str, fields: Mapping[str, type]) -> dict[str, Any]:
    """Return the known fields of a JSON object; null is as good as absent, unknown ones are ignored without a word."""
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise BadRequest("EOF")
    try:
        value, _unused = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(_syntax(text, error)) from None
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_kind(value)} into Go value of type {struct}")
    found = {}
    for name, kind in fields.items():
        given = value.get(name)
        if given is None:
            continue
        if type(given) is not kind:
            raise BadRequest(
                f"json: cannot unmarshal {_kind(given)} into Go struct field {struct}.{name} of type {GO_TYPES[kind]}"
            )
        found[name] = given
    return found


def _syntax(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text):
        return "unexpected EOF"
    looking = {
        "Expecting property name": "looking for beginning of object key string",
        "Expecting value": "looking for beginning of value",
        "Expecting ':'": "after object key",
        "Expecting ','": "after object key:value pair",
    }
    where = next((words for start, words in looking.items() if error.msg.startswith(start)), "in string literal")
    return f"invalid character {text[error.pos]!r} {where}"


def _kind(value: object) -> str:
    if isinstance(value, float):
        return f"number {value}"
    return {bool: "bool", str: "string", int: "number", list: "array", dict: "object"}[type(value)]


def slug(name: str) -> str:
    """Return a name as cron jobs get it: "Nightly Build" is nightly-build."""
    words = name.strip().lower().replace("&", "and").replace("@", "at")
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9\-_]", "-", words)).strip("-_")


MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
# Seconds come first, and the sixth field, the day of the week, may be left out: this is how "0 1 * * *" is hourly.
CRON_FIELDS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, MONTHS),
    (0, 6, DAYS),
)
CRON_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def is_cron(expr: str) -> bool:
    """Tell whether robfig/cron (version 1) parses an expression."""
    if expr.startswith("@"):
        return expr in CRON_WORDS or bool(re.fullmatch(r"@every (\d+(\.\d+)?(ns|us|ms|s|m|h))+", expr))
    fields = expr.split()
    return len(fields) in (5, 6) and all(_is_field(text, *bounds) for text, bounds in zip(fields, CRON_FIELDS))


def _is_field(text: str, low: int, high: int, names: Mapping[str, int]) -> bool:
    for part in text.split(","):
        span, _unused, step = part.partition("/")
        if "/" in part and not (step.isdigit() and int(step)):
            return False
        if span in ("*", "?"):
            continue
        ends = [names.get(end.lower(), int(end) if end.isdigit() else -1) for end in span.split("-")]
        if len(ends) > 2 or not low <= ends[0] <= ends[-1] <= high:
            return False
    return True
