# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Generated pipeline files for as long as FUZZ_SECONDS says (`make fuzz`); the composer is the unit test's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[1] / "unit/plugins/module_utils/_pipeline/test_foreign_files.py"


def test_generated_pipeline_files_keep_every_byte_outside_the_touched_part():
    spec = importlib.util.spec_from_file_location("test_foreign_files", PATH)
    composer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(composer)
    composer.test_generated_files_for_as_long_as_asked()
