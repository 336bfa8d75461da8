# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords in what a person is shown: commands, URLs, what programs say."""

from __future__ import annotations

import re


def without_passwords(text: str) -> str:
    """Return a text with the passwords in its URLs, and what is set in `env.NAME=`, replaced."""
    text = re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:…@", text)
    return re.sub(r"(\benv\.\w+=)[^\s,'\"]+", r"\1…", text)
