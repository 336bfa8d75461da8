# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for a Drone server: its API, its permissions and its silent failures, in memory, for tests and the demo.

    with DroneServer(version="2.28.1") as server:
        server.url, server.tokens["octocat"]

What two real servers answered (tests/contract/recordings) it answers too; where nothing is recorded, a comment says
what it follows instead: mostly Drone's source, github.com/harness/harness, branch `drone`.
"""

from __future__ import annotations

from .faults import REAL_PACE, Fault, Pace
from .server import DroneServer, Seen

__all__ = ["REAL_PACE", "DroneServer", "Fault", "Pace", "Seen"]
