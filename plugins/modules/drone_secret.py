#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_secret
version_added: 0.1.0
short_description: Secrets of repositories and organisations on a Drone server, all in one call
description:
  - Declares which secrets there are, with which values, and whether builds of pull requests get them.
  - Drone never returns a value. So whether an existing secret has the wished value cannot be seen, and O(update) says what to do
    about it.
  - Each repository and each organisation is listed once. What differs is changed over a few connections at a time, and read back
    afterwards. A failing one does not keep the others from being done.
  - No value appears in results, diffs, errors or temporary files of this module.
options:
  secrets:
    description:
      - The secrets.
      - Two entries for the same secret must not disagree.
    type: list
    elements: dict
    required: true
    suboptions:
      repo:
        description: The repository it belongs to, as V(namespace/name). Give it or O(secrets[].namespace).
        type: str
      namespace:
        description: The organisation it belongs to, whose repositories all get it.
        type: str
      name:
        description: The name of the secret, of letters, digits, C(_), C(-) and C(.). Pipelines ask for it with C(from_secret).
        type: str
        required: true
      value:
        description:
          - The value of the secret. Without one an existing secret keeps its own, so that the flags alone can be set.
          - It is taken as it is. A trailing newline belongs to it.
        type: str
      pull_request:
        description: Whether builds of pull requests get it. A new one is made with V(false), and without a wish an existing one stays as it is.
        type: bool
      pull_request_push:
        description: Whether builds of pull requests may push with it. As O(secrets[].pull_request) otherwise.
        type: bool
      state:
        description: Whether the secret exists.
        type: str
        choices: [present, absent]
        default: present
  update:
    description:
      - When the value of a secret that exists already is written.
      - V(missing) never does. The value is not compared, and the result says of which in RV(not_compared).
      - V(always) does in each run, which thus always reports a change.
      - V(changed) does when the value is not the one that was written last, by the fingerprint of it in O(fingerprints). A value
        that somebody else has changed on the server is not noticed.
    type: str
    choices: [missing, always, changed]
    default: missing
  fingerprints:
    description:
      - A file, where the module runs, that keeps a salted fingerprint (scrypt) of each value that was written. Needed for O(update=changed).
      - It is made when it is missing, readable for its owner only. Its directory must exist.
      - Whoever has the file cannot read the values, but can try guesses, slowly. So keep it out of repositories that others read.
    type: path
  exclusive:
    description:
      - Whether the repositories and organisations that are named have no other secrets than these.
      - Nothing else is touched. To empty a repository, name one of its secrets with O(secrets[].state=absent).
    type: bool
    default: false
attributes:
  idempotent:
    support: partial
    details:
      - With O(update=always) each value is written in each run, and reported as changed.
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Give the builds their registry's password, and write it again only when it has changed
  multiarch.drone.drone_secret:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    update: changed
    fingerprints: "{{ inventory_dir }}/.drone-fingerprints.json"
    secrets:
      - namespace: octocat
        name: docker_password
        value: "{{ vault_docker_password }}"
      - repo: octocat/hello-world
        name: buildkit_key
        value: "{{ vault_buildkit_key }}"

- name: Let pull requests have a secret, whatever its value is
  multiarch.drone.drone_secret:
    secrets:
      - repo: octocat/hello-world
        name: mirror_url
        pull_request: true

- name: This repository has no other secrets than these
  multiarch.drone.drone_secret:
    exclusive: true
    secrets:
      - repo: octocat/hello-world
        name: docker_password
        value: "{{ vault_docker_password }}"
"""

RETURN = r"""
steps:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["octocat/hello-world docker_password: create"]
results:
  description: What happened to each secret that was not as wished.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The repository or organisation, and the secret's name.
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
  description: Each secret that was as wished already, as in RV(results[].name).
  returned: always
  type: list
  elements: str
not_compared:
  description: Secrets whose value was given and neither compared nor written, since O(update=missing) and they exist.
  returned: always
  type: list
  elements: str
msg:
  description: A word about RV(not_compared).
  returned: when values were not compared
  type: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.fingerprints import Fingerprints
from ..module_utils._drone.secrets import work
from ..module_utils._serve import serve


def secrets(module: Module) -> dict[str, Any]:
    path = module.params["fingerprints"]
    return work(Drone.of(module), module, Fingerprints(path) if path else None)


def main() -> None:
    module = Module(
        argument_spec={
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,  # its values are, each
                "options": {
                    "repo": {"type": "str"},
                    "namespace": {"type": "str"},
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "no_log": True},
                    "pull_request": {"type": "bool"},
                    "pull_request_push": {"type": "bool"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
                "mutually_exclusive": [("repo", "namespace")],
                "required_one_of": [("repo", "namespace")],
            },
            "update": {"type": "str", "choices": ["missing", "always", "changed"], "default": "missing"},
            "fingerprints": {"type": "path"},
            "exclusive": {"type": "bool", "default": False},
            **OPTIONS,
        },
        required_if=[("update", "changed", ["fingerprints"])],
        supports_check_mode=True,
    )
    serve(module, secrets)


if __name__ == "__main__":
    main()
