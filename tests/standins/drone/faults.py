# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What goes wrong between a client and a server, on demand; and how long a real server takes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

KINDS = ("status", "slow", "cut", "half", "html", "redirect")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with the next `times` requests that match.

    - status: `status` instead of an answer, with `retry_after` as a header where given;
    - slow: the answer comes after `seconds`;
    - cut: the connection ends without an answer; half: in the middle of it;
    - html: 200 with a login page, as a proxy gives it;
    - redirect: 302 to `location`.

    With `done` the server has done what was asked before it goes wrong: what a lost answer means.
    """

    kind: str = "status"
    method: str = "*"
    path: str = "*"  # a glob over path and query
    times: int = 1
    skip: int = 0  # how many requests that match go well first
    status: int = 503
    retry_after: str = ""
    message: str = ""
    seconds: float = 0.0
    location: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind} is not a kind of fault; known are {', '.join(KINDS)}")


class Faults:
    """The faults that are waiting for their request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault | None = None, **fields: Any) -> None:
        """Let something go wrong: a Fault, or its fields."""
        with self._lock:
            self._waiting.append(fault or Fault(**fields))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, target: str) -> Fault | None:
        """Return the fault of a request, if it has one."""
        with self._lock:
            for index, fault in enumerate(self._waiting):
                if not fnmatchcase(method, fault.method) or not fnmatchcase(target, fault.path):
                    continue
                if fault.skip:
                    self._waiting[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times > 1:
                    self._waiting[index] = replace(fault, times=fault.times - 1)
                else:
                    del self._waiting[index]
                return fault
        return None


@dataclass(frozen=True)
class Pace:
    """Seconds that a server takes: for a read, for each row of a list, and for a write, one after the other.

    A write takes some time even in the quickest test, so that two at a time meet, as they do on a real server.
    """

    read: float = 0.0
    row: float = 0.0
    write: float = 0.0005

    def of_list(self, rows: int) -> float:
        return rows * self.row


# A real server on SQLite: 1,003 repositories in 13 ms, one in 10 ms, 126 changes a second.
REAL_PACE = Pace(read=0.010, row=0.013 / 1003, write=0.008)
