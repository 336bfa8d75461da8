# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter multiarch.drone.runner_refusal: why a runner cannot be as declared, before any host is asked."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError


def runner_refusal(settings: Any, names: Any = None) -> str:
    """Return what is wrong with a runner's settings, and what to do; "" where nothing is.

    `names` are the names of the fleet's runners by host, "" for the host's own: the same one twice is refused.
    """
    # Here, since for any filter of a collection Ansible loads all of them, in each process anew.
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
    from ansible_collections.multiarch.drone.plugins.module_utils._drone_runner import ARGUMENTS, Tools, declare
    from ansible_collections.multiarch.drone.plugins.module_utils._platform import Platform
    from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

    if not isinstance(settings, Mapping):
        raise AnsibleFilterError(f"{settings!r} is no dictionary of the options of multiarch.drone.drone_runner")
    # As the role hands them on: what is empty is left to the module, and `-e drone_runner_capacity=3` gives a text.
    given = {name: plain(value) for name, value in settings.items() if value not in ("", None)}
    read = ArgumentSpecValidator(ARGUMENTS).validate(given)
    if read.error_messages:
        return "; ".join(read.error_messages) + "."
    wish = read.validated_parameters
    try:
        declare(wish, Tools("docker", "python3", "", {}), Platform("linux", "amd64"))
    except Problem as problem:
        return str(problem)
    name = str(wish["name"])
    same = sorted(str(host) for host, other in (names or {}).items() if str(other or host) == name)
    if len(same) > 1:
        return f"the hosts {', '.join(same)} have one drone_runner_name, {name}; give each its own: nobody would know whose a build is."
    return ""


def plain(value: Any) -> Any:
    """Return the value in Python's own containers; to copy one of Ansible's, as the validator does, is to copy the whole play (2 s)."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"runner_refusal": runner_refusal}
