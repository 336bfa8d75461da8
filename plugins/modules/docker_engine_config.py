#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare options of a Docker engine in its daemon.json."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_engine_config
short_description: Declare options of a Docker engine in its daemon.json
version_added: 0.1.0
description:
  - Merges options into C(daemon.json) and has the running engine follow, by a reload where that is enough.
  - What others wrote into the file stays, down to single elements of lists. A record beside the file
    (C(daemon.json.multiarch-drone)) keeps what was declared, so that what is no longer declared is taken away again.
  - The engine itself checks the new configuration before it is written (Docker 23.0 and later), together with the flags of
    its unit. Where the engine then does not come back, or does not hold what was declared, the old file is put back and
    the engine started with it.
  - What an engine takes on a reload, or while it does not run, and would refuse at its next start is refused as well, whoever
    wrote it. This is C(live-restore) on a node of a swarm, an option that a flag of the engine's unit sets too (C(hosts) and C(-H)), an
    authorization plugin that the host has not got, a C(data-root) that is not an absolute path, and C(features) that are neither true
    nor false.
  - An engine that runs with other settings than its file's, for it was never restarted, is seen for the options that
    C(docker info) shows, and restarted or reloaded.
extends_documentation_fragment:
  - multiarch.drone.attributes
options:
  state:
    description:
      - V(present) declares O(options) and O(containerd_store).
      - V(absent) takes away everything that was declared before, and nothing else.
    type: str
    choices: [present, absent]
    default: present
  options:
    description:
      - Options of C(daemon.json) by their names there.
      - Dictionaries are merged. Elements of a list come before those that others wrote. Other values are replaced.
      - V(null), an empty list and an empty dictionary declare nothing.
    type: dict
    default: {}
  defaults:
    description:
      - Options like O(options) that are declared only where this engine can have them, and that O(options) win over.
      - What is left out is told as a warning and in RV(left_out).
    type: dict
    default: {}
  containerd_store:
    description:
      - Whether the engine keeps images in containerd's image store, with which the embedded builder (driver C(docker)) builds
        for several platforms. Needs Docker 24.0 or later.
      - Turning it on or off hides the images and containers that the engine has. V(auto) turns it on only where it has none,
        and otherwise leaves everything as it is.
    type: str
    choices: [auto, "true", "false"]
    default: auto
  engine_version:
    description:
      - The version that the engine will have on a host that has none yet, so that check mode knows what it can do. On a host that has
        one it means nothing.
    type: str
    default: ""
  path:
    description: The engine's configuration file.
    type: path
    default: /etc/docker/daemon.json
requirements:
  - systemd, for an engine that runs.
author:
  - The multiarch.drone authors (@multiarch-drone)
seealso:
  - name: The options of daemon.json
    description: Docker's reference.
    link: https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
"""

EXAMPLES = r"""
- name: A mirror, and no container stops when the engine restarts
  multiarch.drone.docker_engine_config:
    options:
      registry-mirrors: [https://mirror.example.com]
      live-restore: true
      log-opts:
        max-size: 10m

- name: What would the engine have to do for it?
  multiarch.drone.docker_engine_config:
    options:
      data-root: /srv/docker
  check_mode: true
  register: engine_config

- name: Nothing of ours in daemon.json
  multiarch.drone.docker_engine_config:
    state: absent
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: [write /etc/docker/daemon.json, restart the engine]
follow:
  description: What the running engine had to do (in check mode, has to do) for the change; empty where nothing.
  returned: success
  type: str
  sample: restart
config:
  description: The whole content of C(daemon.json) after the run, passwords hidden.
  returned: success
  type: dict
  sample: {live-restore: true}
declared:
  description: The part of it that this module declared, passwords hidden.
  returned: success
  type: dict
  sample: {live-restore: true}
left_out:
  description: Those of O(defaults) that this engine cannot have, each with the reason.
  returned: success
  type: dict
  sample: {live-restore: "this engine is a node of a swarm (active), and with live-restore it would not start again"}
containerd_store:
  description: Whether the containerd image store is declared (V(null) where it is not), and why.
  returned: success
  type: dict
  sample: {declared: true, reason: the engine holds no images and no containers}
engine:
  description: The engine as it was found. All V(false), empty or 0 where it did not run.
  returned: success
  type: dict
  sample: {running: true, version: 26.1.5, images: 0, containers: 0, containers_running: 0, containerd_store: false}
"""

from ..module_utils._arguments import Module
from ..module_utils._docker.declare import work
from ..module_utils._docker.wish import ARGUMENTS
from ..module_utils._serve import serve


def main() -> None:
    module = Module(argument_spec=dict(ARGUMENTS), supports_check_mode=True)
    serve(module, work)


if __name__ == "__main__":
    main()
