# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What cannot be had although every variable of a role is as its argument specification says. No host is asked."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._platform import Platform
from ._problem import Problem
from ._runner.wish import ARGUMENTS, Tools, declare


def wrong(roles: list[str], values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the roles' variables, and what to do.

    `names` are the names of the fleet's runners by host, "" for the host's own.
    """
    found = []
    if "docker_engine" in roles:
        found.append(_of_engine(values))
        if "builder" in roles:
            found.append(_of_builders(values))
    if "drone_runner" in roles:
        found.append(_of_runner(values, names))
    return [reason for reason in found if reason]


def variable_of(option: str) -> str:
    """Return the variable of role drone_runner that an option of the module is given from."""
    return "drone_runner_" + (option[len("drone_") :] if option.startswith("drone_") else option)


def _of_engine(values: Mapping[str, Any]) -> str:
    source = values["docker_engine_buildx"]
    if values["docker_engine_state"] != "present":
        return ""
    if source == "url" and not (values["docker_engine_buildx_url"] and values["docker_engine_buildx_checksum"]):
        return "docker_engine_buildx=url needs docker_engine_buildx_url and docker_engine_buildx_checksum."
    if source == "path" and not values["docker_engine_buildx_path"]:
        return "docker_engine_buildx=path needs docker_engine_buildx_path, the plugin's file on the controller."
    return ""


def _of_builders(values: Mapping[str, Any]) -> str:
    drivers = {builder.get("driver") or values["builder_driver"] for builder in values["builder_builders"]}
    if drivers == {"docker"} and values["docker_engine_containerd_store"] == "false":
        return (
            "every builder of this host uses the driver docker, which builds for several platforms only on an engine with the containerd "
            "image store, and docker_engine_containerd_store=false is without: choose auto, or declare a builder with another driver in "
            "builder_builders."
        )
    return ""


def _of_runner(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    # As the role hands them on: what is empty is left to the module.
    settings = {option: values[variable_of(option)] for option in ARGUMENTS if variable_of(option) in values}
    read = ArgumentSpecValidator(ARGUMENTS).validate(
        {name: value for name, value in settings.items() if value not in ("", None)}
    )
    if read.error_messages:
        return "; ".join(read.error_messages) + "."
    wish = read.validated_parameters
    if wish["state"] != "present":
        return ""
    try:
        declare(wish, Tools("docker", "python3", "", {}), Platform("linux", "amd64"))
    except Problem as problem:
        return str(problem)
    name = str(wish["name"])
    same = sorted(str(host) for host, other in names.items() if str(other or host) == name)
    if len(same) > 1:
        return f"the hosts {', '.join(same)} have one drone_runner_name, {name}; give each its own: nobody would know whose a build is."
    return ""
