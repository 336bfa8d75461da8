#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_template
version_added: 0.1.0
short_description: Pipeline templates on a Drone server, all in one call
description:
  - Declares which templates namespaces have, and what is in them. Pipelines use them with C(kind=template) and C(load).
  - Servers of version 2.0 make templates over another route than newer ones. Both are spoken.
  - Each namespace is listed once. What differs is changed over a few connections at a time, and read back afterwards. A failing
    one does not keep the others from being done.
options:
  templates:
    description:
      - The templates.
      - Two entries for the same template must not disagree.
    type: list
    elements: dict
    required: true
    suboptions:
      namespace:
        description: The namespace it belongs to, such as V(octocat).
        type: str
        required: true
      name:
        description: >-
          The name of the template, with an extension that says what it is - V(.yaml) or V(.yml), V(.star), V(.starlark) or V(.script), V(.jsonnet). Servers of
          version 2.0 take a name in one namespace only.
        type: str
        required: true
      data:
        description: The content of the template. A new template needs it.
        type: str
      state:
        description: Whether the template exists.
        type: str
        choices: [present, absent]
        default: present
  exclusive:
    description:
      - Whether the namespaces that are named have no other templates than these.
      - Nothing else is touched. To empty a namespace, name one of its templates with O(templates[].state=absent).
    type: bool
    default: false
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: One pipeline for all repositories that build images
  multiarch.drone.drone_template:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    templates:
      - namespace: octocat
        name: images.yaml
        data: "{{ lookup('ansible.builtin.file', 'images.yaml') }}"
"""

RETURN = r"""
steps:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["octocat images.yaml: create"]
results:
  description: What happened to each template that was not as wished.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The namespace, and the template's name.
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
  description: Each template that was as wished already, as in RV(results[].name).
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.templates import work
from ..module_utils._serve import serve


def templates(module: Module) -> dict[str, Any]:
    return work(Drone.of(module), module)


def main() -> None:
    module = Module(
        argument_spec={
            "templates": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "namespace": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "data": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "exclusive": {"type": "bool", "default": False},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, templates)


if __name__ == "__main__":
    main()
