# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Regular files alone: a FIFO or a device in a file's place blocks whoever opens it, or does worse."""

from __future__ import annotations

import errno
import os
import stat


def read_regular(path: str, limit: int = -1) -> bytes:
    """Return the content of a regular file, at most `limit` bytes of it; raise OSError for anything else."""
    _demand_regular(path, os.stat(path).st_mode)  # opening some devices does something, so they are not opened at all
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        _demand_regular(path, os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
        return file.read(limit)


def _demand_regular(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
