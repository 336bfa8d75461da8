# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The map of the code in CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_map_of_the_code_names_every_file_once_and_no_other():
    rows = [
        line.split("|")[1] for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| `_")
    ]
    named = [name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)]
    utils = ROOT / "plugins/module_utils"
    there = [path.relative_to(utils).as_posix() for path in utils.rglob("*.py")]
    assert sorted(named) == sorted(there)
