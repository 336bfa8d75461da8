#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what the Drone runner of a host is, does and leaves behind."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_runner_info
short_description: Tell what the Drone runner of a host is, does and leaves behind
version_added: 0.1.0
description:
  - Looks at the runner that M(multiarch.drone.drone_runner) has made. It needs to know nothing of it beforehand.
  - The server is asked with the runner's own secret, which is never shown.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
options:
  timeout:
    description: How many seconds to wait for the server.
    type: int
    default: 10
author:
  - The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Which runners have builds
  multiarch.drone.drone_runner_info:
  register: runner

- name: Nothing is worked on while builds run
  ansible.builtin.assert:
    that: runner.builds | length == 0
"""

RETURN = r"""
state:
  description: What systemd says of the service, C(deactivating) while it drains; C(absent) where there is none.
  returned: always
  type: str
  sample: active
healthy:
  description: Whether it runs, takes builds, and has reached its server since it was started.
  returned: always
  type: bool
reaches_server:
  description: Whether the server takes the runner's secret now; V(false) where there is no runner.
  returned: always
  type: bool
name:
  description: The name that the server has for it.
  returned: always
  type: str
server:
  description: Its server.
  returned: always
  type: str
image:
  description: The id of the image that runs.
  returned: always
  type: str
capacity:
  description: How many builds it takes at a time.
  returned: always
  type: int
privileged_images:
  description: The images that are privileged in every repository.
  returned: always
  type: list
  elements: str
builds:
  description: The builds that may run here now.
  returned: always
  type: list
  elements: str
  sample: ["octocat/app1 #7"]
left:
  description: What interrupted builds have left behind.
  returned: always
  type: list
  elements: str
  sample: ["network drone-Hs2rb2XbCmMlMqcyYLLB of octocat/app1 #6"]
"""

from ..module_utils._arguments import Module
from ..module_utils._runner.info import work
from ..module_utils._serve import serve


def main() -> None:
    module = Module(argument_spec={"timeout": {"type": "int", "default": 10}}, supports_check_mode=True)
    serve(module, work)


if __name__ == "__main__":
    main()
