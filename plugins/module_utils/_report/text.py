# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a fleet as plain text, for a terminal, a log and a mail."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from . import words

# So many findings of a kind are printed; the HTML page and the JSON file have them all.
SHOWN = 50


def render(document: Mapping[str, Any]) -> str:
    """Return the document as text: what needs a person first."""
    return "\n".join(_lines(document)).rstrip() + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield words.verdict(document)
    yield words.when(document)
    yield ""
    findings = document["findings"]
    for finding in findings[:SHOWN]:
        new = " (new)" if finding["new"] else ""
        yield f"{finding['severity'].upper():7} {finding['layer']:10} {finding['subject']}: {words.one_line(finding['text'])}{new}"
    if len(findings) > SHOWN:
        yield f"… and {len(findings) - SHOWN} more"
    if findings:
        yield ""
    for gone in document["since"]["gone"][:SHOWN]:
        yield f"GONE    {gone['layer']:10} {gone['subject']}: {words.one_line(gone['text'])}"
    platforms = document["platforms"]
    width = max([len(host["name"]) for host in document["hosts"]] + [4])
    if platforms:
        yield "host".ljust(width) + "".join(f"  {platform:16}" for platform in platforms).rstrip()
    for host in document["hosts"]:
        cells = {row["platform"]: words.cell(row) for row in host["platforms"]}
        row = "".join(f"  {cells.get(platform, '-'):16}" for platform in platforms)
        yield (host["name"].ljust(width) + (row if host["reachable"] else "  cannot be reached")).rstrip()
    for image in document["images"]:
        yield ""
        yield f"{image['reference']} {image['digest']}".strip()
        for row in image["platforms"]:
            yield f"  {row['platform']:16}  {words.size(row['bytes'])}".rstrip()
