# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person sees of a Problem."""

from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("ok\rfailed", "ok\\rfailed"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2028b", "a\\u2028b"),
        ("\udc80", "\\udc80"),
        ("del\x7f nul\x00", "del\\x7f nul\\x00"),
        ("first\nsecond\tümlaut 漢字 🐳", "first\nsecond\tümlaut 漢字 🐳"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(Problem(text, text)) == f"{shown}; {shown}"
    assert (Problem(text).what, Problem("", text).hint) == (shown, shown)
