#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_user
version_added: 0.1.0
short_description: Accounts of a Drone server, machine accounts with their tokens, all in one call
description:
  - Declares which accounts there are, which of them are administrators, and which are active.
  - A I(machine) account is one for programs. It has no account at the source-code host, so it can trust and set everything as an
    administrator, but neither activate nor synchronise repositories.
  - The token of a new machine account is returned once, in RV(tokens). Nobody can ask for it later, so keep it at once, best in a vault.
  - Drone would lock an inactive administrator out, or the account whose token is used, without a word. That is refused.
options:
  users:
    description:
      - The accounts.
      - Two entries for the same account must not disagree.
      - What an entry leaves out stays as it is.
    type: list
    elements: dict
    required: true
    suboptions:
      login:
        description: The account's name, of letters, digits, C(_) and C(-). A person's is the one at the source-code host.
        type: str
        required: true
      machine:
        description: Whether it is a machine account. It cannot be changed later.
        type: bool
      admin:
        description: Whether the account is an administrator's.
        type: bool
      active:
        description: Whether it may do anything. An inactive account loses its rights as an administrator and its repositories to another
          administrator of each.
        type: bool
      token:
        description: The token that a new account gets, of 16 or more characters. Without it a machine account gets a random one.
          An existing account keeps its own.
        type: str
      state:
        description: Whether it exists. A deleted account's repositories go to another administrator of each.
        type: str
        choices: [present, absent]
        default: present
  exclusive:
    description:
      - Whether there are no other machine accounts than these. Accounts of persons, which come with their first login, stay as they are, and so
        does the account whose token is used.
    type: bool
    default: false
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: An account for the plays that trust repositories
  multiarch.drone.drone_user:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    users:
      - login: ansible
        machine: true
        admin: true
  register: accounts
  no_log: true

- name: Keep its token
  ansible.builtin.copy:
    content: "{{ accounts.tokens.ansible }}"
    dest: ~/.drone-token
    mode: "0600"
  when: accounts.tokens.ansible is defined
  no_log: true

- name: Somebody has left
  multiarch.drone.drone_user:
    users:
      - login: alice
        active: false
"""

RETURN = r"""
tokens:
  description:
    - The token of each machine account that was made without O(users[].token), by its login. They are shown this once; let the task have C(no_log=true).
    - Empty in check mode.
  returned: always
  type: dict
steps:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["ansible: create a machine account, an administrator"]
results:
  description: What happened to each account that was not as wished.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The account's login.
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
  description: Each account that was as wished already, as in RV(results[].name).
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.users import work
from ..module_utils._serve import serve


def users(module: Module) -> dict[str, Any]:
    return work(Drone.of(module), module)


def main() -> None:
    module = Module(
        argument_spec={
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "login": {"type": "str", "required": True},
                    "machine": {"type": "bool"},
                    "admin": {"type": "bool"},
                    "active": {"type": "bool"},
                    "token": {"type": "str", "no_log": True},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "exclusive": {"type": "bool", "default": False},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, users)


if __name__ == "__main__":
    main()
