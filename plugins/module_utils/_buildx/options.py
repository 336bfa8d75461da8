# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The values of driver options: what checks each kind of value before anything runs.

buildx itself reports a wrong option when the builder is created, one at a time and without a hint. The tables of options,
read off docker/buildx's driver/*/factory.go, stand with the drivers (`*_driver.py`).
"""

from __future__ import annotations

import re

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def size(text: str) -> int:
    """Return the bytes of a size as Docker writes them: 512m, 1.5g, 1GiB (all of them powers of 1024)."""
    match = SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a valid size such as 512m or 2g")
    return int(float(match.group(1)) * 1024 ** " kmgtp".index(match.group(2).lower() or " "))


def check_text(text: str) -> None:
    """Accept any text but the empty one."""
    if not text:
        raise ValueError("it is empty")


def check_flag(text: str) -> None:
    """Accept true and false."""
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")


def check_number(text: str) -> None:
    """Accept a whole number."""
    if not re.fullmatch(r"-?\d+", text):
        raise ValueError(f"{text!r} is not a number")


def check_size(text: str) -> None:
    """Accept a size as Docker writes it, and -1 for no limit."""
    if text != "-1":  # memory-swap knows it: no limit
        size(text)


def check_path(text: str) -> None:
    """Accept an absolute path."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")


def check_restart(text: str) -> None:
    """Accept a restart policy of Docker's."""
    if not re.fullmatch(r"no|always|unless-stopped|on-failure(:\d+)?", text):
        raise ValueError(f"{text!r} is not one of no, always, unless-stopped, on-failure, on-failure:N")


def check_duration(text: str) -> None:
    """Accept a duration of Go's."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+", text):
        raise ValueError(f"{text!r} is not a valid duration such as 120s")
