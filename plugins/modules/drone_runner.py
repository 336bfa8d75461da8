#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare the Drone runner of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_runner
short_description: Declare the Drone runner of a host
version_added: 0.1.0
description:
  - Makes the runner a systemd service C(drone-runner.service) that runs C(docker run) in the foreground. Its settings are in a file
    that only root reads; its log is in the journal.
  - B(No build is lost.) A change, an upgrade or a restart of Docker first drains the runner. It takes no more builds, its own end,
    and only then it stops. What can be known beforehand is found out while the old runner still works, by asking the server whether it
    takes the secret, and by starting the new image with the new settings where it can take no build.
  - The runner is healthy when it says that it has reached B(its server) since it was started. Where it does not within O(ready_timeout),
    the old files are put back and the old runner works again.
  - What the runner would refuse at its start, or misread, is refused before anything is changed.
  - Builds that a runner of this name has left C(running) when it died are found in the server's queue and cancelled, where O(drone_token)
    is given. So O(name) must be no other runner's.
  - A timer removes what interrupted builds leave on the host, and nothing of a build that may still run.
extends_documentation_fragment:
  - multiarch.drone.attributes
options:
  state:
    description:
      - V(present) makes the runner as declared.
      - V(drained) stops it when its builds have ended. It starts again with Docker, at boot, or with V(present).
      - V(absent) drains it, and removes its service, its container and its files. Images stay.
    type: str
    choices: [present, drained, absent]
    default: present
  drone_url:
    description:
      - The server's address with its scheme, V(https://drone.example.com). Needed with O(state=present).
      - C(DRONE_RPC_PROTO) and C(DRONE_RPC_HOST) follow from it.
    type: str
  rpc_secret:
    description:
      - The secret that the server shares with its runners (its C(DRONE_RPC_SECRET)). Needed with O(state=present).
      - It is never in a command line, a log or a diff.
    type: str
  drone_token:
    description:
      - An administrator's token for the server's API. With it, builds that a dead runner has left are cancelled.
      - It does not stay on the host.
    type: str
  validate_certs:
    description: Whether the server's TLS certificate must be trusted, by the runner as well.
    type: bool
    default: true
  ca_path:
    description: A file of certificates (PEM) on the host to trust instead of the system's, by the runner as well.
    type: path
  timeout:
    description: How many seconds to wait for each answer of the server.
    type: int
    default: 30
  connections:
    description: How many requests may be on their way at a time; here for C(module_defaults), one is enough.
    type: int
    default: 4
  image:
    description:
      - The runner's image. An upgrade is another tag or digest here; it is pulled before the old runner is drained.
    type: str
    default: drone/drone-runner-docker:1.8.4
  name:
    description:
      - The name that the server has for the runner. It must be no other's. The default is the host's name.
    type: str
  capacity:
    description: How many builds (stages) the runner runs at a time.
    type: int
    default: 2
  max_procs:
    description: How many steps the runner runs at a time, V(0) for no limit.
    type: int
    default: 0
  labels:
    description: Labels that a pipeline's C(node) selects. A runner with labels takes only pipelines that name all of them.
    type: dict
    default: {}
  platform:
    description:
      - The platform of the runner, which a pipeline's C(platform) selects. The default is the host's own.
      - The runner itself says C(amd64) unless told.
    type: str
  privileged_images:
    description:
      - Images whose steps are privileged, in B(every) repository that builds here, trusted or not. Tag and digest do not count.
      - The runner gives it to C(plugins/docker), C(plugins/ecr), C(plugins/gcr), C(plugins/acr), C(plugins/gar) and C(plugins/heroku) anyway.
      - A step loses it where it has C(commands), C(entrypoint) or a volume.
    type: list
    elements: str
    default: []
  volumes:
    description:
      - Host paths that every step gets, each with its path in the container. They are writable; the runner has no other.
    type: dict
    default: {}
  devices:
    description: Devices of the host that every step gets.
    type: list
    elements: str
    default: []
  networks:
    description: Docker networks that every step joins.
    type: list
    elements: str
    default: []
  secrets:
    description: Secrets that every repository may name in C(from_secret). Colons and commas in them stop the runner, and are refused.
    type: dict
    default: {}
  clone_image:
    description: The image that clones, instead of the runner's own.
    type: str
  limit_repos:
    description: Patterns of the repositories that may build here, such as V(octocat/*). Builds of others fail.
    type: list
    elements: str
    default: []
  limit_events:
    description: The events whose builds may run here.
    type: list
    elements: str
    default: []
  limit_trusted:
    description: Whether only trusted repositories may build here.
    type: bool
    default: false
  memory:
    description: The memory that each step may use, such as V(2g).
    type: str
  memory_swap:
    description: The memory and swap together that each step may use.
    type: str
  cpu_quota:
    description: The microseconds of CPU time that each step has in a O(cpu_period).
    type: int
  cpu_period:
    description: The length of the period of O(cpu_quota) in microseconds.
    type: int
  cpu_shares:
    description: The weight of each step where CPUs are scarce.
    type: int
  cpu_set:
    description: The CPUs that steps may use.
    type: list
    elements: str
    default: []
  shm_size:
    description: The size of C(/dev/shm) of each step.
    type: str
  docker_config:
    description: A C(config.json) of Docker on the host with the logins that every build may pull with.
    type: path
  ui_bind:
    description:
      - Where on the host the runner's dashboard and C(/healthz) listen, such as V(127.0.0.1:3000). Nowhere by default.
      - Without a password there is no dashboard.
    type: str
  ui_username:
    description: The user who may see the runner's dashboard.
    type: str
  ui_password:
    description: The password for the runner's dashboard.
    type: str
  env:
    description:
      - Any other variables of the runner (C(DRONE_CPU_SET), C(DRONE_DEBUG), C(HTTPS_PROXY) …), by their names. An unknown C(DRONE_…) is
        an error.
    type: dict
    default: {}
  network:
    description:
      - The Docker network of the runner itself, where its server is reached only there. Then the host does not ask the server beforehand.
    type: str
  plugin_defaults:
    description:
      - Settings that every build's plugins have unless the pipeline says otherwise, by their names, such as V(mirror), V(bip), V(mtu).
      - They become C(PLUGIN_BIP), C(DOCKER_PLUGIN_MIRROR) and so on, in the runner's C(DRONE_RUNNER_ENV_FILE), where colons do no harm.
      - V(bip) is refused where it hides a registry that the host or its Docker knows, a network of the host, or one that Docker gives builds.
    type: dict
    default: {}
  build_environment:
    description: Any other variables that every step of every build has.
    type: dict
    default: {}
  registries:
    description: Registries (C(HOST) or C(HOST:PORT)) that builds must reach, beside those that Docker was told of.
    type: list
    elements: str
    default: []
  stop_timeout:
    description:
      - How many seconds systemd and Docker wait for builds to end before they kill the runner, whoever stops it. A reboot waits as well.
      - No less than the longest timeout of a repository, which is an hour unless somebody has changed it.
    type: int
    default: 7200
  drain_timeout:
    description: How many seconds the module waits for builds to end.
    type: int
    default: 3600
  on_drain_timeout:
    description:
      - What happens when builds have not ended after O(drain_timeout). V(fail) leaves the builds alone. The runner ends them, starts
        again as it was, and the module fails.
      - V(cancel) cancels them through the API, so that Drone shows it. It needs O(drone_token).
      - V(kill) ends runner and builds. Drone shows them as C(running) for days, unless O(drone_token) is given; then they are cancelled.
    type: str
    choices: [fail, cancel, kill]
    default: fail
  ready_timeout:
    description: How many seconds a runner that was started may take to reach its server.
    type: int
    default: 60
  prune:
    description:
      - Whether a timer removes what interrupted builds leave behind (step containers with their volumes, networks, volumes).
      - Images that the runner was made of before O(image) go as well, where they are of the same repository, were built before it, have no
        other name, and no container uses them.
    type: bool
    default: true
  prune_schedule:
    description: When the timer that removes leftovers runs, in systemd's words.
    type: str
    default: hourly
  prune_age:
    description:
      - After how many hours a leftover of a build is removed. No less than O(stop_timeout).
      - Images go when the runner has run of O(image) for so long.
    type: int
    default: 24
  prune_size:
    description: How much disk space leftovers may take, whatever their age, such as V(10g); then the oldest build goes first. V(0) for no limit.
    type: str
    default: 10g
  prune_builders:
    description:
      - Whether BuildKit containers that steps have left on the host's own Docker go as well. They are C(buildx_buildkit_*) containers that
        no builder of a user of this host knows. Set it to V(false) where others make builders on this engine from afar.
    type: bool
    default: true
requirements:
  - systemd
  - Docker
author:
  - The multiarch.drone authors (@multiarch-drone)
seealso:
  - name: The Docker runner
    description: What its variables mean.
    link: https://docs.drone.io/runner/docker/configuration/reference/
"""

EXAMPLES = r"""
- name: A runner
  multiarch.drone.drone_runner:
    drone_url: https://drone.example.com
    rpc_secret: "{{ vault_drone_rpc_secret }}"
    name: "{{ inventory_hostname }}"
    capacity: 4
    plugin_defaults:
      mirror: https://mirror.example.com
      bip: 10.231.0.1/24

- name: An upgrade, for which a build is waited for up to two hours
  multiarch.drone.drone_runner:
    drone_url: https://drone.example.com
    rpc_secret: "{{ vault_drone_rpc_secret }}"
    drone_token: "{{ vault_drone_token }}"
    name: "{{ inventory_hostname }}"
    image: drone/drone-runner-docker:1.8.3
    drain_timeout: 7200
    on_drain_timeout: cancel

- name: Nothing runs here while the machine is worked on
  multiarch.drone.drone_runner:
    state: drained
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["write environment, run", "drain and restart drone-runner.service"]
runner:
  description: The runner as declared. In check mode C(healthy) and C(builds) are as they are now.
  returned: with O(state=present), on success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    server:
      description: Its server.
      type: str
    reaches_server:
      description: Whether the server takes the runner's secret from this host, now.
      type: bool
    image:
      description: Its image.
      type: str
    platform:
      description: The platform that it builds for natively.
      type: str
    capacity:
      description: How many builds it runs at a time.
      type: int
    privileged_images:
      description: The images that are privileged in every repository.
      type: list
      elements: str
    healthy:
      description: Whether it runs as declared and has reached its server since it was started.
      type: bool
    builds:
      description: The builds that may run here now, by what Docker has of them.
      type: list
      elements: str
    waited_for:
      description: The builds that ran when the change began.
      type: list
      elements: str
cancelled:
  description:
    - The builds that a dead runner had left, and that were cancelled or would be.
    - After a change also those whose end the server did not let the old runner report, since its RPC secret was rotated meanwhile. Check
      mode cannot know them.
  returned: always
  type: list
  elements: str
  sample: ["octocat/app1 #7"]
draining:
  description: The builds that still run, where draining took too long.
  returned: failure
  type: list
  elements: str
"""

from ..module_utils._arguments import Module
from ..module_utils._runner.declare import work
from ..module_utils._runner.variables import secret_values
from ..module_utils._runner.wish import ARGUMENTS
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec=dict(ARGUMENTS),
        find_secrets=secret_values,
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
