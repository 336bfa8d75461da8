# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A time limit for work that waits in many places, and work that is done as another user of the host."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

# A child has told that its time is up by then; one that still hangs, in the kernel, is left.
GRACE = 5


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise a Problem where the work takes longer, and also where something in it took that Problem for an answer."""
    problem = Problem(f"{what} was not read within {seconds:g} s", "look at what hangs, or raise timeout")
    passed: list[bool] = []

    def end(_number: int, _frame: object) -> None:
        passed.append(True)
        raise problem

    before = signal.signal(signal.SIGALRM, end)
    # Again and again: what catches it goes on to wait for something else.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if passed:
        raise problem


def as_user(name: str, work: Callable[[], Any], seconds: float) -> Any:
    """Return what work returns, done as a user of this host with that user's home, as `become_user` would have it."""
    import pwd

    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise Problem(f"there is no user {name} on this host", "make it first") from None
    if user.pw_uid == os.geteuid():
        return work()
    if os.geteuid():
        raise Problem(f"only root may look for {name}", "run the task as root (become)")
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(readable)
            os.setsid()
            _become(user)
            _tell(writable, work)
        finally:
            os._exit(0)  # nothing of the parent's is ended twice
    os.close(writable)
    try:
        answer = _heard(readable, time.monotonic() + seconds + GRACE)
    finally:
        os.close(readable)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, os.WNOHANG)
    if answer is None:
        raise Problem(f"what {name} has was not read within {seconds:g} s", "look at what hangs, or raise timeout")
    if "problem" in answer:
        raise Problem(answer["problem"])
    return answer["result"]


def _become(user: Any) -> None:
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    for name in [name for name in os.environ if name.startswith(("SUDO_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name, SHELL=user.pw_shell)
    os.chdir("/")


def _tell(writable: int, work: Callable[[], Any]) -> None:
    try:
        answer = {"result": work()}
    except Exception as error:
        answer = {
            "problem": str(error) if isinstance(error, (Problem, OSError)) else f"{type(error).__name__}: {error}"
        }
    with os.fdopen(writable, "wb") as file:
        file.write(json.dumps(answer).encode())


def _heard(readable: int, deadline: float) -> dict[str, Any] | None:
    """Return what a child tells before it ends; None where it does not end, or says nothing."""
    told = b""
    while select.select([readable], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(readable, 1 << 16)
        if not data:
            return dict(json.loads(told)) if told else None
        told += data
    return None
