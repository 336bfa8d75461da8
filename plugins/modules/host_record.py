#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install packages, and record what came onto a host, so that exactly that can be taken back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_record
short_description: Install packages, and record what came onto a host, so that exactly that can be taken back
version_added: 0.1.0
description:
  - Installs Debian packages with C(apt-get), and records which packages came with them, and which files the next tasks make. The record is
    C(/var/lib/multiarch.drone/record.json), by role.
  - With O(state=absent) it removes what the record says, and nothing else. A package that was there before stays, and so does one that
    another package needs.
  - No installation removes a package. Where apt would have to, the module fails before anything is changed, and names the package.
  - It needs no C(python3-apt). In check mode apt says what would come with the packages, from the package lists that the host has.
extends_documentation_fragment:
  - multiarch.drone.attributes
options:
  role:
    description: The name under which it is recorded, such as V(docker_engine).
    type: str
    required: true
  state:
    description:
      - V(present) installs O(packages), and records what came and those of O(files) that are not there yet.
      - V(absent) takes back what is recorded for O(role).
    type: str
    choices: [present, absent]
    default: present
  packages:
    description:
      - With O(state=present), the packages that must be there.
      - With O(state=absent), the packages that are reported in RV(kept) where they stay.
    type: list
    elements: str
    default: []
  files:
    description:
      - With O(state=present), files and directories that the next tasks make. Those that are not there yet are recorded.
      - With O(state=absent) the recorded ones are removed, a directory only where nothing else is in it.
    type: list
    elements: path
    default: []
  made:
    description: With O(state=present), files and directories that earlier tasks made. They are recorded although they are there.
    type: list
    elements: path
    default: []
  items:
    description:
      - With O(state=present), what else was made or changed, in words of the role, such as V(root/main) for a builder. It is recorded.
      - With O(state=absent) the role's own tasks take these back before, as RV(recorded) tells. Here they are forgotten, and nothing else is
        taken back. Without O(items) all of the role's are forgotten, and packages and files go.
    type: list
    elements: str
    default: []
  purge:
    description:
      - With O(state=absent), remove O(packages) also where they were there before, and all packages with their configuration.
      - Debian's C(docker.io) then removes C(/var/lib/docker), with all images, containers and volumes.
    type: bool
    default: false
requirements:
  - apt, where packages are installed or removed.
author:
  - The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: A package, which can be taken back
  multiarch.drone.host_record:
    role: qemu
    packages: [qemu-user-static]

- name: Nothing of it any more
  multiarch.drone.host_record:
    role: qemu
    state: absent
    packages: [qemu-user-static]
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["record qemu-user, qemu-user-static", install qemu-user-static]
packages:
  description: The packages that came or went, with those that came along.
  returned: success
  type: list
  elements: str
  sample: [qemu-user, qemu-user-binfmt, qemu-user-static]
complete:
  description: Whether RV(packages) is all. In check mode it is V(false) where the host's package lists do not know the packages yet.
  returned: success
  type: bool
  sample: true
kept:
  description: With O(state=absent), what stays, and why.
  returned: success
  type: dict
  sample: {docker.io: "it was there before, or an earlier version of the collection brought it"}
recorded:
  description: What was recorded for O(role) before this task, by C(packages), C(files) and C(items).
  returned: success
  type: dict
  sample: {packages: [docker.io], files: [], items: [docker.service was disabled]}
"""

from ..module_utils._arguments import Module
from ..module_utils._record.declare import work
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec={
            "role": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "made": {"type": "list", "elements": "path", "default": []},
            "items": {"type": "list", "elements": "str", "default": []},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
