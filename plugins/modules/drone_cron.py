#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_cron
version_added: 0.1.0
short_description: Cron jobs of repositories on a Drone server, all in one call
description:
  - Declares which cron jobs repositories have, when they run and what they build.
  - What Drone would swallow silently is refused before any change - an expression of five fields, which Drone reads seconds first, and
    a name that it would turn into another one.
  - Drone ignores a new expression for an existing job. So the job is deleted and created anew, and put back as it was if that fails.
  - Each repository is listed once. What differs is changed over a few connections at a time, and read back afterwards. A failing
    one does not keep the others from being done.
options:
  crons:
    description:
      - The cron jobs.
      - Two entries for the same job must not disagree.
      - What an entry leaves out stays as it is.
    type: list
    elements: dict
    required: true
    suboptions:
      repo:
        description: The repository it belongs to, as V(namespace/name).
        type: str
        required: true
      name:
        description: The name of the cron job, of lower-case letters, digits, C(-) and C(_).
        type: str
        required: true
      expr:
        description:
          - When it runs, in UTC unless the server was started with another time zone. Six fields, with seconds first, such as V(0 0 1 * * *) for
            one o'clock each night; or V(@daily), V(@hourly), V(@weekly), V(@monthly), V(@yearly), V(@every 90m).
          - A new job needs it.
        type: str
      branch:
        description: The branch that is built. A new job needs it.
        type: str
      target:
        description: The deployment's target that the build gets. V("") takes it away.
        type: str
      disabled:
        description: Whether it does not run. A new one does, unless this is V(true).
        type: bool
      state:
        description: Whether the cron job exists.
        type: str
        choices: [present, absent]
        default: present
  exclusive:
    description:
      - Whether the repositories that are named have no other cron jobs than these.
      - Nothing else is touched. To empty a repository, name one of its jobs with O(crons[].state=absent).
    type: bool
    default: false
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Build the images each night, so that they get their base image's updates
  multiarch.drone.drone_cron:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    crons:
      - repo: octocat/images
        name: nightly
        expr: "0 30 1 * * *"
        branch: main

- name: Pause it
  multiarch.drone.drone_cron:
    crons:
      - repo: octocat/images
        name: nightly
        disabled: true
"""

RETURN = r"""
steps:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["octocat/images nightly: create with 0 30 1 * * *"]
results:
  description: What happened to each cron job that was not as wished.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The repository, and the job's name.
      type: str
    changed:
      description: Whether it was changed.
      type: bool
    steps:
      description: What was changed.
      type: list
      elements: str
    failed:
      description: Whether it failed. Missing where it did not.
      type: bool
    msg:
      description: Why it failed.
      type: str
unchanged:
  description: Each cron job that was as wished already, as in RV(results[].name).
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.crons import work
from ..module_utils._serve import serve


def crons(module: Module) -> dict[str, Any]:
    return work(Drone.of(module), module)


def main() -> None:
    module = Module(
        argument_spec={
            "crons": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "repo": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "expr": {"type": "str"},
                    "branch": {"type": "str"},
                    "target": {"type": "str"},
                    "disabled": {"type": "bool"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "exclusive": {"type": "bool", "default": False},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, crons)


if __name__ == "__main__":
    main()
