# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docs/security.md promises nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())


def test_each_promise_names_its_test():
    section = (ROOT / "docs/security.md").read_text().split("## What holds")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(NAMED) > 5


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_promise_names_exists(file, name):
    assert f"def {name}(" in (ROOT / file).read_text()
