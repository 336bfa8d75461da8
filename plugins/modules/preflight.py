#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say whether roles would take the variables of a host. What does it is plugins/action/preflight.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Say whether roles of this collection would take the variables of a host
version_added: 0.1.0
description:
  - Judges a host's variables by the argument specifications of several roles, in one task, before any host is changed.
  - Also finds what each variable alone does not tell, such as a plugin without its address, or a runner whose settings the runner would
    refuse, or whose name another host has.
  - Warns where C(--tags) selects no part of this collection. A tag that somebody gives to the whole playbook selects it.
  - It runs on the controller and asks no host. Where something is wrong, it fails and says what, and what to do.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
options:
  roles:
    description: Names of roles of this collection, without C(multiarch.drone.).
    type: list
    elements: str
    required: true
author:
  - The multiarch.drone authors (@multiarch-drone)
seealso:
  - module: ansible.builtin.validate_argument_spec
"""

EXAMPLES = r"""
- name: Variables are as the roles take them
  multiarch.drone.preflight:
    roles: [docker_engine, qemu, builder, drone_runner]
"""

RETURN = r"""
"""
