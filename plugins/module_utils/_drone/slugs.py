# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Patterns of repositories' slugs: octocat/*, whose star ends at the slash."""

from __future__ import annotations

from typing import Iterable


def is_glob(text: str) -> bool:
    """Tell whether a text has a pattern's characters, none of which a repository's name can have."""
    return any(character in text for character in "*?[")


def matching(glob: str, slugs: Iterable[str]) -> list[str]:
    """Return the slugs that a glob matches; `*` ends at the slash: octocat/* is what octocat has."""
    import re
    from fnmatch import translate  # both are cheap, and with neither a wish of plain slugs has to do

    namespace, name = (re.compile(translate(part)).match for part in glob.split("/"))

    def match(slug: str) -> bool:
        parts = slug.split("/", 1)
        return bool(namespace(parts[0]) and name(parts[-1]))

    return [slug for slug in slugs if match(slug)]
