#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_repo_info
version_added: 0.1.0
short_description: The repositories of a Drone server, with all their settings
description:
  - Returns what the token's owner may see - all repositories to an administrator, to others those of their account at the source-code host.
options:
  glob:
    description: Only repositories that one of these matches, such as V(octocat/*), where C(*) ends at the slash. A plain V(namespace/name) does too.
    type: list
    elements: str
  trusted:
    description: Return only trusted repositories, or with V(false) only those that are not.
    type: bool
  active:
    description: Return only active repositories, or with V(false) only those that are not.
    type: bool
  secrets:
    description:
      - Return which secrets the repositories and their namespaces have as RV(secrets). Drone tells names alone, and never a value.
      - It takes one more request for each repository.
    type: bool
    default: false
extends_documentation_fragment:
  - multiarch.drone.attributes.info
  - multiarch.drone.drone
seealso:
  - module: multiarch.drone.drone_repo
  - module: multiarch.drone.drone_repo_trust
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Who has the runners' hosts
  multiarch.drone.drone_repo_info:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    trusted: true
  register: trusted

- name: Show them
  ansible.builtin.debug:
    var: trusted.slugs

- name: Write a server's repositories down, as multiarch.drone.drone_repo takes them
  ansible.builtin.copy:
    content: "{{ {'drone_repos_repos': all_of_them.repos} | to_nice_yaml }}"
    dest: drone.yml
    mode: "0644"
"""

RETURN = r"""
repos:
  description: The repositories, sorted by slug, in the form that O(multiarch.drone.drone_repo#module:repos) takes.
  returned: always
  type: list
  elements: dict
  contains:
    slug:
      description: V(namespace/name).
      type: str
    active:
      description: As O(multiarch.drone.drone_repo#module:repos[].active).
      type: bool
    trusted:
      description: As O(multiarch.drone.drone_repo#module:repos[].trusted).
      type: bool
    protected:
      description: As O(multiarch.drone.drone_repo#module:repos[].protected).
      type: bool
    visibility:
      description: As O(multiarch.drone.drone_repo#module:repos[].visibility).
      type: str
    timeout:
      description: As O(multiarch.drone.drone_repo#module:repos[].timeout); null before the first activation sets it.
      type: int
    throttle:
      description: As O(multiarch.drone.drone_repo#module:repos[].throttle).
      type: int
    config_path:
      description: As O(multiarch.drone.drone_repo#module:repos[].config_path); null before the first activation sets it.
      type: str
    ignore_forks:
      description: As O(multiarch.drone.drone_repo#module:repos[].ignore_forks).
      type: bool
    ignore_pull_requests:
      description: As O(multiarch.drone.drone_repo#module:repos[].ignore_pull_requests).
      type: bool
    auto_cancel_pull_requests:
      description: As O(multiarch.drone.drone_repo#module:repos[].auto_cancel_pull_requests).
      type: bool
    auto_cancel_pushes:
      description: As O(multiarch.drone.drone_repo#module:repos[].auto_cancel_pushes).
      type: bool
    auto_cancel_running:
      description: As O(multiarch.drone.drone_repo#module:repos[].auto_cancel_running); null where the server does not have it.
      type: bool
  sample:
    - active: true
      auto_cancel_pull_requests: false
      auto_cancel_pushes: false
      auto_cancel_running: false
      config_path: .drone.yml
      ignore_forks: false
      ignore_pull_requests: false
      protected: false
      slug: octocat/hello-world
      throttle: 0
      timeout: 60
      trusted: true
      visibility: public
slugs:
  description: Their slugs, in the form that O(multiarch.drone.drone_repo_trust#module:repos) takes.
  returned: always
  type: list
  elements: str
  sample: [octocat/hello-world]
secrets:
  description:
    - Names of the secrets of each repository (V(namespace/name)) and of each namespace.
    - A place whose secrets the token's owner may not see is missing.
  returned: with O(secrets)
  type: dict
  sample: {octocat: [registry_password], octocat/hello-world: []}
complete:
  description: Whether these are all repositories of the server. To anybody but an administrator it shows only some.
  returned: always
  type: bool
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.repos import check_slugs, list_repos, resolve
from ..module_utils._drone.secrets import names
from ..module_utils._serve import serve


def work(module: Module) -> dict[str, Any]:
    options = module.params
    globs = options["glob"]
    if globs is not None:
        check_slugs(globs, globs=True)
    drone = Drone.of(module)
    repos = list_repos(drone)
    slugs = repos if globs is None else resolve(globs, repos)[0]
    found = [
        {"slug": slug, **repos[slug].settings}
        for slug in sorted(slugs)
        if all(options[name] in (None, repos[slug].settings[name]) for name in ("trusted", "active"))
    ]
    result = {
        "changed": False,
        "repos": found,
        "slugs": [repo["slug"] for repo in found],
        "complete": drone.me().admin,
    }
    if options["secrets"]:
        result["secrets"] = names(drone, [repo["slug"] for repo in found])
    return result


def main() -> None:
    module = Module(
        argument_spec={
            "glob": {"type": "list", "elements": "str"},
            "trusted": {"type": "bool"},
            "active": {"type": "bool"},
            "secrets": {"type": "bool", "default": False, "no_log": False},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
