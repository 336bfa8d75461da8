# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Docker CLI whose answers a test gives, for tests of `main()`."""

from __future__ import annotations

from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Output


class Call:
    """A call of the CLI that ends with the answer that was given for it."""

    def __init__(self, argv, answer):
        self.argv, self.answer = argv, answer

    def wait(self, *, check=True):
        output = Output(self.argv, *self.answer)
        if check and output.rc:
            raise output.problem()
        return output
