# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a fleet as one HTML page, which needs nothing from elsewhere. It runs on the controller, which has Jinja."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from . import words
from .fleet import SEVERITIES


def render(template: str, document: Mapping[str, Any], sections: Sequence[Mapping[str, str]] = ()) -> str:
    """Return the page that a template makes of a document; `sections` are texts that a playbook adds."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    attention = {finding["subject"] for finding in document["findings"]}
    page = environment.from_string(template).render(
        report=document, sections=sections, words=words, attention=attention, severities=SEVERITIES
    )
    return str(page)
