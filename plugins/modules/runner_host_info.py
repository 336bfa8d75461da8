#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what a runner host is made of, what it lacks, and what the modules of its layers would change."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runner_host_info
short_description: Say what a runner host is made of, and what it lacks
version_added: 0.1.0
description:
  - Reads what the roles of this collection need to know of a host, in one call and without gathered facts.
  - Tells what the host lacks for building images of other platforms, and fails for what O(require) names, so that a fleet's
    problems are known before anything is changed on any of its hosts.
  - Where O(engine), O(qemu), O(builders), O(buildkitd) or O(runner) say what is declared, it also tells for each of these layers what
    its own module would do in check mode, in the same call. Nothing is changed, and of a stopped engine nothing is started.
  - What is refused, cannot be read, takes longer than O(timeout), or is being changed by somebody else meanwhile, concerns its layer
    alone. Such a layer is never told as declared.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
options:
  require:
    description:
      - Checks that must hold. The module fails with all that do not, each with what to do about it.
      - V(distribution) is one that the roles know the packages of.
      - V(rights) is that the task runs as root.
      - V(systemd) has booted the host.
      - V(kernel) has binfmt_misc with the flag F (4.8 or later).
      - V(disk) has O(min_free_gib) free at O(disk_path).
      - V(engine) is that no other engine is installed than the one of O(engine_source), and none that the roles cannot take (a snap,
        C(podman-docker)).
      - V(privileged) is that the engine can start privileged containers, as the builder driver C(docker-container) needs.
        Capabilities missing from the bounding set of process 1 make it impossible for Docker before 23.0.
      - V(buildx) is that the packages of O(engine_source) have buildx among them.
      - V(containerd_store) is that their engine has the containerd image store, which the builder driver C(docker) needs to build
        for several platforms.
      - V(image_store) is that the running engine has that store, or holds nothing that turning it on would hide.
      - Where one does not hold, the result has the host's facts only at C(-v).
    type: list
    elements: str
    choices: [distribution, rights, systemd, kernel, disk, engine, privileged, buildx, containerd_store, image_store]
    default: []
  packages:
    description: Debian packages whose installed versions are returned.
    type: list
    elements: str
    default: []
  disk_path:
    description: The directory whose free disk space counts. Where it does not exist yet, its nearest parent is looked at.
    type: path
    default: /var/lib/docker
  min_free_gib:
    description: How many GiB must be free at O(disk_path), for V(disk) in O(require).
    type: float
    default: 5
  engine_source:
    description:
      - Whose packages the engine is of, which tells their names and what it can do.
      - V(auto) is those that the host has, and on a host that has none the distribution's.
    type: str
    choices: [auto, distribution, docker]
    default: distribution
  engine:
    description: A dictionary of options of M(multiarch.drone.docker_engine_config), to be compared with the host.
    type: raw
  qemu:
    description: A dictionary of options of M(multiarch.drone.binfmt_qemu), to be compared with the host.
    type: raw
  builders:
    description:
      - A list of dictionaries with options of M(multiarch.drone.buildx_builder), one for each builder, to be compared with the host, and
        C(user), whose builder it is.
      - By default it is a builder of whoever runs the task. Only root can look for others, with their home directories.
    type: raw
  buildkitd:
    description: A dictionary of options of M(multiarch.drone.buildkitd_instances), to be compared with the host.
    type: raw
  runner:
    description: A dictionary of options of M(multiarch.drone.drone_runner), to be compared with the host.
    type: raw
  timeout:
    description: How many seconds each layer, and each builder, may take to be read.
    type: int
    default: 60
author:
  - The multiarch.drone authors (@multiarch-drone)
seealso:
  - module: multiarch.drone.docker_engine_config
  - module: multiarch.drone.binfmt_qemu
  - module: multiarch.drone.buildx_builder
  - module: multiarch.drone.buildkitd_instances
  - module: multiarch.drone.drone_runner
"""

EXAMPLES = r"""
- name: Stop before anything is changed where a host cannot become a runner
  multiarch.drone.runner_host_info:
    require: [distribution, rights, systemd, kernel, disk]
    min_free_gib: 20

- name: Ask once what several layers differ in
  multiarch.drone.runner_host_info:
    engine:
      options:
        live-restore: true
    qemu:
      platforms: [linux/arm64, linux/s390x]
    builders:
      - name: default
        driver: docker
      - name: ci
        user: ci
  register: host

- name: Register handlers where they are not as declared
  multiarch.drone.binfmt_qemu:
    platforms: [linux/arm64, linux/s390x]
  when: "'qemu' not in host.as_declared"
"""

RETURN = r"""
problems:
  description: What the host lacks, by the name of the check that found it. All checks are made, required or not.
  returned: always
  type: dict
  sample:
    disk: 1.2 GiB are free at /var/lib/docker, less than 5; free some space, mount a bigger disk there, or lower the limit
distribution:
  description: The distribution.
  returned: always
  type: dict
  sample: {id: debian, version: "13", codename: trixie, name: Debian GNU/Linux 13 (trixie), like: ""}
kernel:
  description: The kernel's release.
  returned: always
  type: str
  sample: 6.12.38+deb13-amd64
architecture:
  description: The machine's architecture, as C(uname -m) says.
  returned: always
  type: str
  sample: x86_64
python:
  description: The version of the Python that runs the module.
  returned: always
  type: str
  sample: 3.13.5
uid:
  description: The user id that the module runs with.
  returned: always
  type: int
  sample: 0
systemd:
  description: Whether systemd has booted the host.
  returned: always
  type: bool
binfmt_misc:
  description: Whether the kernel has binfmt_misc, or a module of it.
  returned: always
  type: bool
missing_capabilities:
  description: Capabilities that the kernel has and the bounding set of process 1 has not.
  returned: always
  type: list
  elements: str
  sample: [CAP_SYS_RESOURCE]
disk:
  description: The directory that was looked at, and the bytes that are free there.
  returned: always
  type: dict
  sample: {path: /var/lib, free: 84825604096}
packages:
  description: The installed version of each of O(packages), or of what provides it, and empty where neither is installed.
  returned: always
  type: dict
  sample: {docker.io: 26.1.5+dfsg1-9+b1, docker-buildx: ""}
engine_packages:
  description:
    - Whose packages the engine is of (C(distribution), C(docker), or C(moby)), the names of the engine's packages, of the buildx
      plugin's (empty where there is none), and the engine's version where it is an old one that lacks something.
  returned: always
  type: dict
  sample: {source: distribution, engine: [docker.io, docker-cli], buildx: docker-buildx, version: ""}
docker:
  description: The Docker engine. Its unit's state, and of one that runs what it says of itself.
  returned: always
  type: dict
  sample:
    installed: true
    running: true
    enabled: true
    version: 26.1.5+dfsg1
    containers: 0
    containers_running: 0
    images: 0
    containerd_store: true
    data_root: /var/lib/docker
  contains:
    installed:
      description: Whether the host has its unit.
      type: bool
    running:
      description: Whether it runs.
      type: bool
    enabled:
      description: Whether it starts at boot.
      type: bool
    version:
      description: Its version.
      type: str
    containers:
      description: How many containers it has.
      type: int
    containers_running:
      description: How many of them run.
      type: int
    images:
      description: How many images it has.
      type: int
    containerd_store:
      description: Whether it keeps them in containerd's store.
      type: bool
    data_root:
      description: Where it keeps its data.
      type: str
    buildx:
      description: What C(docker buildx version) says, and empty where it fails. Only with O(engine).
      type: str
as_declared:
  description: The layers that were asked for and of which nothing would be changed, that could be read, and that nobody else changed meanwhile.
  returned: with a layer's option
  type: list
  elements: str
  sample: [engine, qemu, runner]
platforms:
  description: Of all known platforms those that the CPU runs itself (C(native)), and those that a handler runs (C(emulated)).
  returned: with O(qemu), where it can be read
  type: dict
  sample: {native: [linux/amd64, linux/386], emulated: [linux/arm64]}
proof:
  description:
    - Of what a build for all platforms by all builders would be a proof (C(of), empty where that is not as declared), and whether there
      is one (C(kept)), which the playbook C(multiarch.drone.verify) writes into C(/run).
    - It holds for the same engine, builders, handlers and boot of the kernel.
  returned: with O(qemu) and O(builders)
  type: dict
  sample: {of: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, kept: true}
layers:
  description: Each layer that was asked for, by its option.
  returned: with a layer's option
  type: dict
  contains:
    changed:
      description: Whether the layer's own module would change something.
      type: bool
    steps:
      description: What it would do.
      type: list
      elements: str
    diff:
      description: What would differ, with C(--diff).
      type: dict
    facts:
      description: What the layer's own module returns beside that, in check mode.
      type: dict
    problems:
      description: Why the layer is refused, or cannot be read. Then there is no plan.
      type: list
      elements: str
    busy:
      description: What the host is in the middle of, such as a lock that another task holds, or a runner that ends its builds.
      type: list
      elements: str
    as_declared:
      description: Whether there is nothing to do, nothing in the way and nobody at work on it.
      type: bool
    results:
      description: The same for each builder, with its C(name) and C(user). Only of C(builders).
      type: list
      elements: dict
  sample:
    qemu:
      changed: true
      steps: [register qemu-s390x]
      facts: {}
      problems: []
      busy: []
      as_declared: false
"""

from ..module_utils._arguments import Module
from ..module_utils._host.layers import secrets
from ..module_utils._host.look import ARGUMENTS, work
from ..module_utils._serve import serve


class HostModule(Module):
    """A module that hides what is secret in the options of each layer, which Ansible takes for free dictionaries."""

    def _load_params(self) -> None:
        super()._load_params()
        self.no_log_values.update(secrets(self.params))


def main() -> None:
    module = HostModule(argument_spec=dict(ARGUMENTS), supports_check_mode=True)
    serve(module, work)


if __name__ == "__main__":
    main()
