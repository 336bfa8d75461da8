#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_builder_info
short_description: Tell what builders a user has, what they build, and what is wrong with them
version_added: 0.1.0
author:
  - The multiarch.drone authors (@multiarch-drone)
description:
  - Returns the builders of one user with their nodes. For each node the platforms that it declares, runs natively and emulates, by
    the kernel's QEMU or by BuildKit's own, the version of BuildKit, the size of the cache, and problems.
  - Finds the containers and volumes on the user's daemon that no builder of the user owns.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
  - multiarch.drone.docker_cli
options:
  names:
    description:
      - The builders to tell of; by default all of the user.
    type: list
    elements: str
  cache:
    description:
      - Whether the size of the caches is asked for.
    type: bool
    default: true
  orphans:
    description:
      - Whether orphans are looked for.
    type: bool
    default: true
seealso:
  - module: multiarch.drone.buildx_builder
"""

EXAMPLES = r"""
- name: Look at the builders of the user ci
  become: true
  become_user: ci
  multiarch.drone.buildx_builder_info:
  register: buildx

- name: Show what is wrong with them
  ansible.builtin.debug:
    msg: "{{ buildx.builders | map(attribute='nodes') | flatten | map(attribute='problems') | flatten }}"
"""

RETURN = r"""
builders:
  description: The builders.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name of the builder.
      type: str
    driver:
      description: Its driver.
      type: str
    default:
      description: Whether C(docker buildx) uses it when none is named.
      type: bool
    nodes:
      description: Its nodes.
      type: list
      elements: dict
      contains:
        name:
          description: The name of the node.
          type: str
        endpoint:
          description: Where it runs.
          type: str
        status:
          description: V(running), V(stopped), V(missing), V(inactive), V(silent) (it runs and does not answer) or V(error).
          type: str
        platforms:
          description: The platforms that its BuildKit executes.
          type: list
          elements: str
        platforms_declared:
          description: The platforms that the builder declares on it.
          type: list
          elements: str
        platforms_native:
          description: The platforms that its CPU executes.
          type: list
          elements: str
        platforms_emulated:
          description: The other platforms that its BuildKit executes.
          type: list
          elements: dict
          contains:
            platform:
              description: The platform.
              type: str
            by:
              description: V(kernel) for QEMU in binfmt_misc, V(buildkit) for BuildKit's own; null for a node on another machine.
              type: str
            qemu:
              description: The version of the kernel's QEMU.
              type: str
        driver_opts:
          description: Its driver options, the values of environment variables hidden.
          type: dict
        flags:
          description: The options of its C(buildkitd).
          type: list
          elements: str
        buildkit_version:
          description: The version of the BuildKit that answers.
          type: str
        image:
          description: For V(docker-container) the image that is declared, that the container was made of, and its ID.
          type: dict
        cache_bytes:
          description: The disk space of its cache, to four digits; null where it is not known (a builder of several nodes).
          type: int
        problems:
          description: What is wrong with it.
          type: list
          elements: str
orphans:
  description: Containers and volumes named as buildx names them that belong to no builder of this user. Other users' look the same.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name.
      type: str
    type:
      description: V(container) or V(volume).
      type: str
    status:
      description: For a container, whether it runs.
      type: str
problems:
  description: What could not be read, such as a corrupt instance file.
  type: list
  elements: str
  returned: success
"""

from ..module_utils._arguments import Module
from ..module_utils._buildx.info import describe
from ..module_utils._docker.cli import DOCKER_CLI_OPTIONS
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec={
            **DOCKER_CLI_OPTIONS,
            "names": {"type": "list", "elements": "str"},
            "cache": {"type": "bool", "default": True},
            "orphans": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    serve(module, lambda module: describe(module.params))


if __name__ == "__main__":
    main()
