# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let tests import the collection as Ansible does: ansible_collections.multiarch.drone.plugins.…"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build/collections/ansible_collections/multiarch/drone"

if not TREE.exists() and ROOT.parts[-3:] != ("ansible_collections", "multiarch", "drone"):
    TREE.parent.mkdir(parents=True, exist_ok=True)
    TREE.symlink_to(ROOT)
sys.path.insert(0, str(TREE.parents[2] if TREE.exists() else ROOT.parents[2]))
