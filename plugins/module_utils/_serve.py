# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How every module ends: with its result, or with the Problem that it met, of which a signal is one."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Callable, Mapping

from . import _progress
from ._files import sweep_temporary_directories
from ._problem import Problem
from ._values import check_values

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def serve(module: AnsibleModule, work: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run a module's work and hand its result, or its Problem, to Ansible."""
    before = install_signal_handlers()
    if not module.check_mode:
        sweep_temporary_directories()
    try:
        check_values(getattr(module, "argument_spec", {}), getattr(module, "params", {}))
        result, end = dict(work(module)), module.exit_json
    except Problem as problem:
        result, end = {"msg": str(problem), **problem.facts}, module.fail_json
    except OSError as error:  # a full disk, a directory of somebody else: no traceback tells more
        result, end = {"msg": f"{error.filename or 'this host'}: {error.strerror or error}"}, module.fail_json
    except Exception as error:
        result, end = {"msg": _bug(module, error)}, module.fail_json
    finally:
        _progress.end()
        for number, handler in before.items():
            signal.signal(number, handler)
    if not module._diff:
        result.pop("diff", None)
    end(**result)


def _bug(module: AnsibleModule, error: Exception) -> str:
    """Say that a module has a bug, and where, for what nobody foresaw: a traceback would show secrets, and tells a user nothing.

    fail_json hides the secrets in it. The tests look for these words.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{'/'.join(frame.tb_frame.f_code.co_filename.split('/')[-2:])}:{frame.tb_lineno}" if frame else "nowhere"
    name = getattr(module, "_name", "this module")
    return (
        f"this is a bug in {name}: {type(error).__name__}: {error} ({place}); please report it, with the task's options"
    )


def install_signal_handlers() -> dict[int, Any]:
    """Let what ends a process, such as a connection that breaks or Ctrl-C, be a Problem: what was done is taken back.

    Return the handlers that were there. A signal that is ignored, as by nohup, stays so.
    """

    def end(number: int, _frame: object) -> None:
        raise Problem(f"{signal.Signals(number).name} ended the task", "run it again")

    handlers: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    }
    deadly = {number: old for number, old in handlers.items() if old in (signal.SIG_DFL, signal.default_int_handler)}
    for number in deadly:
        signal.signal(number, end)
    return deadly
