# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a build is at, by the lines of `docker buildx build --progress=plain`: its newest step that has not ended.

Of a line `#12 [linux/s390x 4/7] RUN make` that is what follows the number. What the step itself prints (`#12 1.234 …`) may hold
secrets, and is never told. buildx: util/progress/progressui/printer.go.
"""

from __future__ import annotations

import re

from .._passwords import without_passwords
from .._progress import tell

_BEGUN = re.compile(r"#(\d+) (?:\[([^\]]+)\] (.+)|((?:exporting|importing|pushing|resolving|copying) .+))")
_ENDED = re.compile(r"#(\d+) (?:DONE|CACHED|ERROR|CANCELED)\b")


class Vertices:
    """The steps of a build that have begun and not ended."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}

    def hear(self, line: str) -> None:
        """Take a line of the build's output, and tell where that makes another step the newest."""
        ended = _ENDED.match(line)
        begun = None if ended else _BEGUN.match(line.rstrip())
        if ended:
            self._begun.pop(ended.group(1), None)
        elif begun and begun.group(2) != "internal":
            number, where, what, other = begun.groups()
            if number in self._begun and other:  # a part of an export that is at work
                return
            self._begun.pop(number, None)
            self._begun[number] = other or f"{where} {what}"
        else:
            return
        if self._begun:
            tell(without_passwords(list(self._begun.values())[-1]))
