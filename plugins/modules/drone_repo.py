#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_repo
version_added: 0.1.0
short_description: Settings of repositories on a Drone server, all in one call
description:
  - Declares which repositories are active and how they are built. What a repository's entry leaves out comes from O(settings), and what
    both leave out stays as it is.
  - One listing shows what differs, so a thousand repositories that are as wished cost one request. What differs is changed over
    a few connections at a time, and read back afterwards. A failing one does not keep the others from being done.
  - What Drone would swallow silently is refused before any change - a visibility or a timeout that does not exist, a setting that only
    an administrator can change or that the server's version does not have, and an activation by a machine account.
options:
  repos:
    description:
      - The repositories. RV(multiarch.drone.drone_repo_info#module:repos) has the same form.
      - Two entries for the same repository must not disagree.
    type: list
    elements: dict
    required: true
    suboptions:
      slug:
        description: The repository as V(namespace/name). Names are case-sensitive.
        type: str
        required: true
      state:
        description: As O(state), for this repository.
        type: str
        choices: [present, absent]
      forget:
        description: As O(forget), for this repository.
        type: bool
      active:
        description: Whether Drone builds it. Changed only where it differs, since each activation takes the ownership over.
        type: bool
      trusted:
        description: Whether it may run privileged steps and mount the host's directories. For administrators only.
        type: bool
      protected:
        description: Whether a pipeline without a valid signature has to be approved.
        type: bool
      visibility:
        description: Who may see its builds. Drone itself would take any word.
        type: str
        choices: [public, private, internal]
      timeout:
        description: How many minutes a build may take, at least 1. For administrators only.
        type: int
      throttle:
        description: How many builds of the repository may run at a time. V(0) sets no limit. For administrators only.
        type: int
      config_path:
        description: The pipeline's file in the repository.
        type: str
      ignore_forks:
        description: Whether pull requests from forks are not built.
        type: bool
      ignore_pull_requests:
        description: Whether pull requests are not built.
        type: bool
      auto_cancel_pull_requests:
        description: Whether a new push to a pull request cancels its pending builds.
        type: bool
      auto_cancel_pushes:
        description: Whether a new push to a branch cancels its pending builds.
        type: bool
      auto_cancel_running:
        description: Whether these cancel running builds too. Refused where the server's version does not have it.
        type: bool
  settings:
    description: What holds for each present repository whose entry does not say otherwise.
    type: dict
    suboptions:
      active:
        description: Whether Drone builds it. Changed only where it differs, since each activation takes the ownership over.
        type: bool
      trusted:
        description: Whether it may run privileged steps and mount the host's directories. For administrators only.
        type: bool
      protected:
        description: Whether a pipeline without a valid signature has to be approved.
        type: bool
      visibility:
        description: Who may see its builds. Drone itself would take any word.
        type: str
        choices: [public, private, internal]
      timeout:
        description: How many minutes a build may take, at least 1. For administrators only.
        type: int
      throttle:
        description: How many builds of the repository may run at a time. V(0) sets no limit. For administrators only.
        type: int
      config_path:
        description: The pipeline's file in the repository.
        type: str
      ignore_forks:
        description: Whether pull requests from forks are not built.
        type: bool
      ignore_pull_requests:
        description: Whether pull requests are not built.
        type: bool
      auto_cancel_pull_requests:
        description: Whether a new push to a pull request cancels its pending builds.
        type: bool
      auto_cancel_pushes:
        description: Whether a new push to a branch cancels its pending builds.
        type: bool
      auto_cancel_running:
        description: Whether these cancel running builds too. Refused where the server's version does not have it.
        type: bool
  state:
    description:
      - V(absent) deactivates. The repository keeps its settings, its trust and its secrets, and gets them back when it is activated again.
      - A repository that the server does not know is absent already.
    type: str
    choices: [present, absent]
    default: present
  forget:
    description:
      - With O(state=absent), remove the repository from Drone with its trust, secrets, cron jobs and builds. After the next
        synchronisation Drone knows it again, as new.
    type: bool
    default: false
  missing:
    description:
      - What to do about repositories that are to be present and that the server does not know. With V(fail), all of them are listed in one
        error, with what was perhaps meant, and nothing is changed.
      - V(synchronize) lets the server ask the source-code host for new repositories first, and fails for what is missing then.
      - V(skip) goes on without them, and returns them in RV(missing).
    type: str
    choices: [fail, synchronize, skip]
    default: fail
notes:
  - A machine account is unknown to the source-code host. It can trust and set everything, but neither activate nor synchronise.
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
seealso:
  - module: multiarch.drone.drone_repo_trust
  - module: multiarch.drone.drone_repo_info
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Build these repositories
  multiarch.drone.drone_repo:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    settings:
      active: true
      timeout: 120
      auto_cancel_pushes: true
    repos:
      - slug: octocat/hello-world
      - slug: octocat/images
        trusted: true
        config_path: .drone/images.yml

- name: Stop building what is archived
  multiarch.drone.drone_repo:
    repos:
      - slug: octocat/old
    state: absent
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
  description: Of O(repos), what is to be present and the server does not know.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._drone.client import OPTIONS, Drone
from ..module_utils._drone.repos import SETTINGS, change, check_slugs, check_version, look_up, plan_for, wishes_of
from ..module_utils._serve import serve


def work(module: Module) -> dict[str, Any]:
    options = module.params
    check_slugs([entry["slug"] for entry in options["repos"]], globs=False)
    wishes = wishes_of(options["repos"], options["settings"] or {}, options["state"], options["forget"])
    drone = Drone.of(module)
    present = [slug for slug, wish in wishes.items() if not wish.absent]
    repos, known, missing = look_up(drone, module, present, options["missing"])
    check_version(drone, repos, wishes)
    plans = {
        slug: plan_for(drone, repos.get(slug), wish) for slug, wish in wishes.items() if wish.absent or slug in known
    }
    return {**change(drone, module, plans), "missing": missing}


def main() -> None:
    module = Module(
        argument_spec={
            "repos": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "slug": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["present", "absent"]},
                    "forget": {"type": "bool"},
                    **SETTINGS,
                },
            },
            "settings": {"type": "dict", "options": SETTINGS},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "forget": {"type": "bool", "default": False},
            "missing": {"type": "str", "choices": ["fail", "synchronize", "skip"], "default": "fail"},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
