#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_builder
short_description: Declare a BuildKit builder for C(docker buildx)
version_added: 0.1.0
author:
  - The multiarch.drone authors (@multiarch-drone)
description:
  - Creates, changes and removes a builder of one user, with one node or several.
  - Compares what is declared with what buildx has stored, with the container that runs (image, command, limits, configuration
    and certificates inside it) and with the BuildKit that answers in it (the GC policy, and the version where the image is a
    release of C(moby/buildkit)), and says which of them differs.
  - A change keeps the build cache, and never leaves the user without a working builder. buildx makes the new one in a directory
    of its own, containers that differ are set aside, the new ones have to answer, and only then the user's state is changed. On a
    failure the old builder is put back; killed at any moment, it is still there.
  - A converged builder costs two C(docker) processes at most, and starts no container.
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.docker_cli
options:
  name:
    description:
      - The name of the builder. With O(driver=docker) the name of a Docker context, usually V(default).
    type: str
    required: true
  state:
    description:
      - Whether the user has the builder.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description:
      - Where BuildKit runs. V(docker-container) in a container of a Docker daemon; V(remote) in a daemon that somebody else
        started; V(kubernetes) in a cluster; V(docker) in the Docker daemon itself, which builds for several platforms when its
        images are in the containerd store, with no image to pull.
    type: str
    choices: [docker-container, remote, kubernetes, docker]
    default: docker-container
  nodes:
    description:
      - The builder's nodes; one with every default when this is empty.
      - Of several nodes each must declare its platforms, and each platform stands on one node, since buildx prefers an emulating
        node that declares a platform to a native one that does not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the node; by default the builder's with its index, as in V(ci0).
        type: str
      endpoint:
        description:
          - With O(driver=docker-container) a Docker context or the address of a daemon (V(unix://), V(tcp://), V(ssh://)); by
            default the user's current context.
          - With O(driver=remote), which requires it, the address of BuildKit (V(unix://), V(tcp://), V(ssh://),
            V(docker-container://), V(kube-pod://)).
        type: str
      platforms:
        description:
          - The platforms that builds on this node are for. When empty, which is for a builder of one node alone, those that BuildKit
            finds.
          - Of several nodes nothing is found out, since BuildKit tells native platforms and emulated ones in one list. What each
            CPU runs itself is C(native) of M(multiarch.drone.buildkitd_instances) on its host, which is what the playbook
            C(multiarch.drone.buildkitd_builder) declares.
        type: list
        elements: str
        default: []
      driver_opts:
        description:
          - The options of the driver, such as V(image), V(memory), V(network) or V(env.HTTP_PROXY) for V(docker-container), and
            V(cacert), V(cert), V(key) and V(servername) for V(remote).
          - The values of V(env.NAME) are never shown or logged by this module, apart from numbers and texts of less than six characters.
            The controller shows a task's arguments at C(-vvv) only as the module returns them; set C(no_log) where a loop shows its items.
        type: dict
        default: {}
      flags:
        description: Command line options of C(buildkitd).
        type: list
        elements: str
        default: []
  buildkitd_config:
    description:
      - The settings of C(buildkitd) as a dictionary, written as C(buildkitd.toml) and compared as data. Registry mirrors, insecure
        registries and their CAs belong here, and the GC policy (C(maxUsedSpace) is the cache's limit).
      - Files named in C(registry.*.ca) and C(registry.*.keypair) are read on the host and carried into the container.
      - When not set, the user's C(buildkitd.default.toml) counts if there is one, as for buildx itself; V({}) is no configuration.
    type: dict
  default:
    description:
      - V(true) makes this builder the one that the user's C(docker buildx) uses when none is named, V(false) makes it another one's
        turn. When not set, this is left as it is.
    type: bool
  bootstrap:
    description:
      - Starts every node, and keeps a change only when each of them answers and can execute the platforms that it declares. buildx
        itself accepts dead endpoints.
    type: bool
    default: true
  recreate:
    description:
      - V(auto) makes a container anew when it differs from what is declared, V(never) fails then, V(always) does it with every run.
      - Another O(driver) under the same name is an error unless this is V(always).
    type: str
    choices: [auto, never, always]
    default: auto
  keep_cache:
    description:
      - Whether the build cache survives the removal of its container. By default it does when a container is made anew, and not
        with O(state=absent) or for a builder that O(exclusive) removes.
    type: bool
  exclusive:
    description:
      - The names of all builders that this user shall have. Others are removed.
    type: list
    elements: str
  remove_orphans:
    description:
      - The names of containers and volumes to remove, as RV(multiarch.drone.buildx_builder_info#module:orphans) lists them.
      - Names and not a switch, since another user's builders on the same daemon look like orphans.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - How many seconds pulling an image, and starting the nodes, may take.
    type: int
    default: 300
notes:
  - Builders belong to a user. Declare them as the one who builds (C(become_user)); root's builders are nobody else's.
  - buildx names a node's container by the node, not by the user. Two users of one daemon need other names for their builders;
    a container that no builder of this user has, and that differs, is an error unless O(recreate=always).
  - A container that is made anew ends the builds that run in it.
  - With O(driver=kubernetes) a change starts new deployments, whose names end with six characters more, beside the old ones, and removes
    the old ones when the new ones have answered and have built for the platforms that they declare. Reading starts nothing. What runs in
    the cluster is compared with what is declared where the host has C(kubectl), which also gives the reasons of pods that do not start.
    The rights that are needed, and what happens to the cache, stand in C(docs/kubernetes.md) of the collection's repository.
seealso:
  - module: multiarch.drone.buildx_builder_info
"""

EXAMPLES = r"""
- name: A builder with a capped cache and a registry mirror, the default of the user ci
  become: true
  become_user: ci
  multiarch.drone.buildx_builder:
    name: ci
    default: true
    nodes:
      - driver_opts:
          image: moby/buildkit:v0.24.0
    buildkitd_config:
      registry:
        docker.io:
          mirrors: [mirror.example.org]
        registry.example.org:
          ca: [/etc/ssl/certs/example-ca.pem]
      worker:
        oci:
          gcpolicy:
            - all: true
              maxUsedSpace: 20GB

- name: One builder of two native machines
  multiarch.drone.buildx_builder:
    name: fleet
    driver: remote
    nodes:
      - endpoint: tcp://amd64.example.org:1234
        platforms: [linux/amd64]
        driver_opts: &tls
          cacert: /etc/buildkit-client/ca.pem
          cert: /etc/buildkit-client/cert.pem
          key: /etc/buildkit-client/key.pem
      - endpoint: tcp://arm64.example.org:1234
        platforms: [linux/arm64, linux/arm/v7]
        driver_opts: *tls

- name: The Docker engine itself builds for these platforms
  multiarch.drone.buildx_builder:
    name: default
    driver: docker
    nodes:
      - platforms: [linux/amd64, linux/arm64]

- name: No builder, no cache
  multiarch.drone.buildx_builder:
    name: ci
    state: absent
"""

RETURN = r"""
builder:
  description:
    - The builder as it is now (in check mode before the change), as RV(multiarch.drone.buildx_builder_info#module:builders) has it;
      null when there is none. C(platforms_native), C(platforms_emulated) and C(cache_bytes) are null, and left to the info module.
  type: dict
  returned: success
drift:
  description: Where the containers of the nodes differed from what is declared.
  type: list
  elements: str
  returned: success
  sample: ["ci0: version: runs BuildKit v0.23.2, declared v0.24.0"]
made:
  description: Whether there was no builder of that name before, so that this task made it, or in check mode would.
  type: bool
  returned: success
steps:
  description: What was done, or in check mode would be, in order.
  type: list
  elements: str
  returned: success
  sample: ["make buildx_buildkit_ci0 anew, its cache kept (memory)"]
"""

from typing import Any

from ..module_utils._arguments import Module
from ..module_utils._buildx.declare import declare, variables
from ..module_utils._buildx.wish import ARGUMENTS
from ..module_utils._serve import serve


class BuilderModule(Module):
    """A module that hides the values of env.NAME, which stand in a dictionary of which the rest is shown."""

    def _load_params(self) -> None:
        super()._load_params()
        self.no_log_values.update(variables(self.params))


def work(module: Module) -> dict[str, Any]:
    result = declare(module.params, check_mode=module.check_mode)
    for warning in result.pop("warnings"):
        module.warn(warning)
    return result


def main() -> None:
    module = BuilderModule(
        argument_spec=dict(ARGUMENTS),
        supports_check_mode=True,
    )
    serve(module, work)


if __name__ == "__main__":
    main()
