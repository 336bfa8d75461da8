# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How every module ends: with its result, or with the Problem that it met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from ._problem import Problem

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def serve(module: AnsibleModule, work: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run a module's work and hand its result, or its Problem, to Ansible."""
    try:
        result, end = dict(work(module)), module.exit_json
    except Problem as problem:
        result, end = {"msg": str(problem), **problem.facts}, module.fail_json
    except OSError as error:  # a full disk, a directory of somebody else: no traceback tells more
        result, end = {"msg": f"{error.filename or 'this host'}: {error.strerror or error}"}, module.fail_json
    if not module._diff:
        result.pop("diff", None)
    end(**result)
