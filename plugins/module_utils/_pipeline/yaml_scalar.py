# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a plain scalar of YAML is to Drone: Go's yaml.v2 has other rules than PyYAML. `y` is true there, 1:30 a text, 08 eight."""

from __future__ import annotations

import re

_WORDS = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys([f"{sign}.{word}" for sign in ("", "+") for word in ("inf", "Inf", "INF")], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
}
_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"([-+]?)(0[xX][\da-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9]\d*)", re.ASCII)
_BASES = {"0x": 16, "0b": 2, "0o": 8}


def value_of(text: str) -> object:
    """Return the value of a plain scalar: a text, a number, true, false or null. What equals nothing (.nan) stays a text, as dates do."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in "+-.0123456789":
        return text
    digits = text if text[:1] == "." else text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if integer:
        sign, number = integer.groups()
        base = _BASES.get(number[:2].lower()) or (8 if number[0] == "0" and len(number) > 1 else 10)
        value = int(number, base) * (-1 if sign == "-" else 1)
        if -(1 << 63) <= value < (1 << 63) or (not sign and value < 1 << 64):
            return value
    if _NUMBER.fullmatch(digits):
        value_as_float = float(digits)
        # Go takes what is out of range for no number at all.
        return text if value_as_float in (float("inf"), float("-inf")) else value_as_float
    return text
