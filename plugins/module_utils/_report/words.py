# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words that every form of the report shares."""

from __future__ import annotations

from typing import Any, Mapping


def verdict(document: Mapping[str, Any]) -> str:
    """Return the state of the fleet in one sentence."""
    summary = document["summary"]
    parts = [
        count(summary[severity], *forms)
        for severity, forms in (
            ("broken", ("problem", "problems")),
            ("drift", ("change that a run would make", "changes that a run would make")),
            ("note", ("note", "notes")),
        )
        if summary[severity]
    ]
    hosts = count(summary["hosts"], "host", "hosts")
    return f"{hosts}: {', '.join(parts)}" if parts else f"{hosts}: everything is as declared"


def when(document: Mapping[str, Any]) -> str:
    """Return when the report was made, by which version, how long that took, and what it is compared with."""
    text = f"{document['generated']}, multiarch.drone {document['version']}".strip(", ")
    if document["duration_seconds"] is not None:
        text += f", {document['duration_seconds']:.0f} s"
    since = document["since"]["generated"]
    return (
        f"{text}; compared with {since}: {document['summary']['new']} new, {len(document['since']['gone'])} gone"
        if since
        else text
    )


def cell(row: Mapping[str, Any]) -> str:
    """Return how a host executes a platform, in two words."""
    if row["native"]:
        return "native"
    if row["problems"] or row["verified"] is False:
        return "broken"
    return f"QEMU {row['qemu']}".strip() if row["handler"] else "-"


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def size(value: Any) -> str:
    """Return a number of bytes as people read it; "" where it is not known."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def one_line(text: str) -> str:
    """Return a text without line ends and control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
