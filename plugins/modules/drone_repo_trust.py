#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_repo_trust
version_added: 0.1.0
short_description: Say which repositories a Drone server trusts, all in one call, and prove that it does
description:
  - A I(trusted) repository may run privileged steps and mount the host's directories. Building images inside Drone with a
    privileged plugin needs it; and whoever can push to a trusted repository has the runner's host. So trust belongs in a
    list that people review, and O(exclusive=true) takes it from everything that is not in the list.
  - One listing shows what differs, so a thousand repositories that are as wished cost one request. What differs is changed over
    a few connections at a time, and read back afterwards. A failing one does not keep the others from being done.
  - A token that is no administrator's is refused before any change. Drone itself would answer C(200) and change nothing.
options:
  repos:
    description:
      - The repositories, each as V(namespace/name), or a glob such as V(octocat/*) or V(*/deploy-*), where C(*) ends at the slash.
      - Names are case-sensitive. A name that the server does not know, or a glob that matches nothing, is treated as O(missing) says.
    type: list
    elements: str
    required: true
  state:
    description: Whether the repositories are trusted.
    type: str
    choices: [trusted, untrusted]
    default: trusted
  exclusive:
    description:
      - Every other repository on the server loses its trust. With an empty list of O(repos), every one does.
      - Only with O(state=trusted).
    type: bool
    default: false
  activate:
    description:
      - Activate those of O(repos) that are inactive, after they are trusted. It makes the token's owner the owner of the
        repository in Drone, and needs a person's account. A machine account cannot do it.
      - Only with O(state=trusted).
    type: bool
    default: false
  missing:
    description:
      - What to do about repositories that the server does not know. With V(fail), all of them are listed in one error, with what was
        perhaps meant, and nothing is changed.
      - V(synchronize) lets the server ask the source-code host for new repositories first, and fails for what is missing then.
      - V(skip) goes on without them, and returns them in RV(missing).
    type: str
    choices: [fail, synchronize, skip]
    default: fail
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
seealso:
  - module: multiarch.drone.drone_repo
  - module: multiarch.drone.drone_repo_info
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Trust these repositories
  multiarch.drone.drone_repo_trust:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    repos:
      - octocat/hello-world
      - platform/*

- name: Show which repositories are trusted without being in the list
  multiarch.drone.drone_repo_trust:
    repos: "{{ reviewed_repositories }}"
    exclusive: true
  check_mode: true
  diff: true

- name: Take the trust from a whole organisation
  multiarch.drone.drone_repo_trust:
    repos: [contractors/*]
    state: untrusted
"""

RETURN = r"""
steps:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["octocat/hello-world: trust"]
results:
  description: What happened to each repository that was not as wished.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The repository's slug.
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
  sample:
    - {name: octocat/hello-world, changed: true, steps: [trust]}
unchanged:
  description: The repositories that were as wished already.
  returned: always
  type: list
  elements: str
missing:
  description: Of O(repos), what the server does not know.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.repos import change, check_slugs, look_up, plan_of
from ..module_utils._problem import Problem
from ..module_utils._serve import serve


def work(module: Module) -> dict[str, Any]:
    options = module.params
    trusted = options["state"] == "trusted"
    for name in ("exclusive", "activate"):
        if options[name] and not trusted:
            raise Problem(f"{name} goes with state=trusted, not with state=untrusted", "leave one of them out")
    check_slugs(options["repos"], globs=True)
    drone = Drone.of(module)
    drone.need_admin("trusted")
    repos, slugs, missing = look_up(drone, module, options["repos"], options["missing"])
    wish = {"trusted": trusted, **({"active": True} if options["activate"] else {})}
    wishes = dict.fromkeys(slugs, wish)
    if options["exclusive"]:
        others = [slug for slug, repo in repos.items() if repo.settings["trusted"] and slug not in wishes]
        wishes.update({slug: {"trusted": False} for slug in sorted(others)})
    plans = {slug: plan_of(drone, repos[slug], wished) for slug, wished in wishes.items()}
    return {**change(drone, module, plans), "missing": missing}


def main() -> None:
    module = Module(
        argument_spec={
            "repos": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["trusted", "untrusted"], "default": "trusted"},
            "exclusive": {"type": "bool", "default": False},
            "activate": {"type": "bool", "default": False},
            "missing": {"type": "str", "choices": ["fail", "synchronize", "skip"], "default": "fail"},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
