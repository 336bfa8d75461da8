# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an option's type does not rule out, and nothing can use: true for a number, a number without measure, a NUL."""

from __future__ import annotations

from typing import Any, Mapping

from ._problem import Problem

# As seconds, thirty years; above some limits the standard library and systemd overflow.
LARGEST = 10**9


def check_values(spec: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], where: str = "") -> None:
    """Raise a Problem for the first value that nothing can use; `where` is put before the option's name."""
    for name, option in spec.items():
        value, inner = given.get(name), option.get("options")
        for entry in value if isinstance(value, list) and inner else [value] if inner else ():
            if isinstance(entry, Mapping):
                check_values(inner or {}, entry, f"{where}{name}.")
        if inner or value is None:
            continue
        kind = option.get("type")
        if kind in ("int", "float"):
            _check_number(f"{where}{name}", value)
        elif kind in ("str", "path", "list", "dict"):
            _check_text(f"{where}{name}", value)


def _check_number(name: str, value: Any) -> None:
    # To Python true is a number, and ansible-core takes it for one.
    if isinstance(value, bool):
        raise Problem(f"{name} is {str(value).lower()}, which is not a number", "write a number")
    if not -LARGEST <= value <= LARGEST:  # nor is nan
        # Python refuses to write a number of thousands of digits.
        shown = str(value) if isinstance(value, float) or abs(value) < 10**30 else "of more than 30 digits"
        raise Problem(f"{name} is {shown}, which is too large", f"write a number up to {LARGEST}")


def _check_text(name: str, value: Any) -> None:
    """Look into lists and dictionaries as well; never quote the value, which may be a secret."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(name, str(key))
            _check_text(f"{name}: {key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_text(name, item)
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Problem(
            f"{name} has a character that is not Unicode, as of a file in another encoding", "write it in UTF-8"
        )
    elif isinstance(value, str) and "\0" in value:
        raise Problem(f"{name} has a NUL character, which no path, file or variable can hold", "leave it out")
