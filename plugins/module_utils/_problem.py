# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What went wrong, where, and what to do: the one exception that a module turns into its failure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


# C0 and C1 controls without tab and newline, line and paragraph separators, what changes the direction of writing, and
# lone surrogates, which no terminal and no JSON encoder takes.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return a text from elsewhere (a server, git, a file) as a terminal may show it: control characters escaped."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Problem(Exception):
    """An error for the person who runs the play.

    `what` says what is wrong and where ("linux/arm9 is no platform"), `hint` what to do about it
    ("did you mean linux/arm64?"). `facts` go into the module's result beside `msg`.
    """

    def __init__(self, what: str, hint: str = "", **facts: Any) -> None:
        self.what = printable(what)
        self.hint = printable(hint)
        super().__init__(f"{self.what}; {self.hint}" if hint else self.what)
        self.facts = facts


def suggest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean X?" for the known word nearest to `word`, or "known are: A, B" where none is near."""
    import difflib  # only an error needs it: a task's cost is its imports

    names = sorted(known)
    by_lower_case = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    if matches:
        return f"did you mean {by_lower_case[matches[0]]}?"
    return f"known are: {', '.join(names)}"
