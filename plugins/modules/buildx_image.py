#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_image
short_description: Build a multi-platform image with buildx, and only when its inputs changed
version_added: 0.1.0
author: "The multiarch.drone authors (@multiarch-drone)"
description:
  - Builds an image for several platforms from a directory on the host, or from a Git repository, and pushes it.
  - With O(push=true) the module knows what is there. The context as C(.dockerignore) leaves it, the Dockerfile, the options
    that decide on the result and the digests of the base images make an I(input digest), which is kept as the annotation
    C(dev.multiarch.drone.input-digest) of the pushed index. Where every tag has it, with all platforms, nothing is built,
    unless an output is gone.
  - BuildKit is told to take the base images by the digests that were looked up, so that neither a mirror that lags nor an old image in
    the engine is taken for them. Where the builder cannot get them so, or where the context changes each time while it is built, the image
    is made from what there is, has no input digest, and the task warns. It is then built each time, until it can say what it is made from.
  - What counts of a context is what counts for BuildKit's own cache, which is names, types, permissions, extended attributes,
    links and contents, and neither owners nor times.
  - What nobody can know before the build is never guessed. C(ADD) of a URL without C(--checksum), a base image that the registry does
    not show to this host, a context from the web that is no Git repository, or another language than Dockerfile's (C(# syntax=) of anything
    but C(docker/dockerfile) or a copy of it) make RV(reasons) and are built each time. BuildKit's cache then makes it cheap, and
    RV(ignore:changed) still tells the truth.
  - What a C(RUN) step fetches, and the content of a secret, are no inputs, as they are none for BuildKit's cache; nor is what C(ONBUILD)
    of a base image fetches. To renew such an image, use O(rebuild=always) with O(no_cache=true) or O(pull=true).
options:
  context:
    description:
      - Absolute path of a directory on the host, or the URL of a Git repository as C(docker build) takes it, such as
        V(https://github.com/owner/name.git#main:directory).
      - A directory on the controller has to be copied to the host first.
    type: str
    required: true
  file:
    description:
      - The Dockerfile, relative to O(context). The default is C(Dockerfile) there.
      - Where C(NAME.dockerignore) stands beside it, this replaces the context's C(.dockerignore).
    type: str
  tags:
    description:
      - What the image is called, such as V(registry.example.com/team/app:1.4). They may be in several registries.
    type: list
    elements: str
    default: []
  platforms:
    description:
      - What to build for, such as V(linux/amd64) and V(linux/arm64). V(arm64), V(armhf) and the like are understood as well.
      - Without it, the builder's own platform, which is then an input. With several nodes that differ in it, and while the builder does not
        run, this is not known, and the image is built each time.
    type: list
    elements: str
    default: []
  push:
    description:
      - Push the image to the registries of its O(tags).
      - Each registry must show to this host what the builder pushes; Docker's credentials of the user are used for both. What was pushed
        is read back by its digest.
      - An engine without the containerd image store pushes one platform and keeps no annotation, so that the image is built each time.
    type: bool
    default: false
  load:
    description:
      - Load the image into the Docker engine. Without O(push), RV(ignore:changed) says whether the engine's image became another.
      - Engines without the containerd image store take one platform and no provenance.
    type: bool
    default: false
  rebuild:
    description:
      - V(auto) builds where a tag is missing, lacks a platform or was made from other inputs.
      - V(always) builds in any case. RV(ignore:changed) still says whether any platform's manifest became another.
    type: str
    choices: [auto, always]
    default: auto
  builder:
    description:
      - Name of the builder, see M(multiarch.drone.buildx_builder). Without it, the user's current one.
      - A builder that the user who runs the task does not have is refused before anything is asked or built.
    type: str
  build_args:
    description:
      - Values for C(ARG). Numbers and booleans are given as YAML writes them (V(true)), null as an empty text.
      - They are visible in the image's history, so they are no place for secrets; see O(secrets).
      - A value that its name or a password in its URL shows to be one all the same is no argument of a process.
    type: dict
    default: {}
  build_contexts:
    description: Further contexts by name. Each is a directory on the host, C(docker-image://…), C(oci-layout://…), C(target:…) or a URL.
    type: dict
    default: {}
  secrets:
    description:
      - What C(RUN --mount=type=secret) sees. A secret is never an argument of a process and never an annotation, and its lines
        are blotted out where a build step prints them.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name that the Dockerfile uses.
        type: str
        required: true
      src:
        description: A file on the host.
        type: path
      env:
        description: A variable of the task's environment.
        type: str
      value:
        description: The secret itself. It travels in the environment of the build's process.
        type: str
  ssh:
    description: SSH agents or keys for C(RUN --mount=type=ssh), such as V(default) or V(id=/path/of/key).
    type: list
    elements: str
    default: []
  cache_from:
    description:
      - Where BuildKit looks for a cache, such as V(type=registry,ref=registry.example.com/app:cache).
      - The keys of one S3 login, here and in O(cache_to), travel in the environment of the build's process. Those of several, and
        C(secret_access_key) of Azure, are arguments of it, which every user of the host can read while it builds.
    type: list
    elements: str
    default: []
  cache_to:
    description: Where BuildKit leaves its cache, such as V(type=registry,ref=registry.example.com/app:cache,mode=max).
    type: list
    elements: str
    default: []
  provenance:
    description:
      - Provenance attestation, V(false), V(true), V(mode=max) and so on. Without it, buildx attests the minimum, and nothing where O(load)
        is set without O(push), since the times in it would make the loaded image another each time. Where O(outputs) has an C(oci) archive
        beside O(push), the archive holds the same minimum.
      - V(false) makes an index without C(unknown/unknown) entries, which some older registries and programs need.
    type: str
  sbom:
    description: SBOM attestation, V(true) or V(generator=IMAGE).
    type: str
  attests:
    description: Further attestations, such as V(type=sbom,generator=IMAGE).
    type: list
    elements: str
    default: []
  annotations:
    description: OCI annotations. A key may say where, such as V(index:org.opencontainers.image.title).
    type: dict
    default: {}
  labels:
    description: Labels of the image's configuration.
    type: dict
    default: {}
  outputs:
    description:
      - Further outputs, such as V(type=local,dest=/srv/out) or V(type=image,compression=zstd). Places are absolute paths.
      - With O(push), the image is also built where nothing is at an output's C(dest), or an empty directory. What is there is not compared.
      - Without O(push), each run counts as a change, since files are not compared.
    type: list
    elements: str
    default: []
  target:
    description: Stage to build, instead of the last.
    type: str
  no_cache:
    description: Use no cache where something is built.
    type: bool
    default: false
  no_cache_filters:
    description: Stages for which no cache is used.
    type: list
    elements: str
    default: []
  pull:
    description: Let BuildKit ask for newer base images where something is built. Whether it has to, the module asks in any case.
    type: bool
    default: false
  ulimit:
    description: Limits of the C(RUN) steps, such as V(nofile=1024:1024).
    type: list
    elements: str
    default: []
  shm_size:
    description: Size of C(/dev/shm) in the C(RUN) steps, such as V(256m).
    type: str
  add_hosts:
    description: Names and addresses that the C(RUN) steps see.
    type: dict
    default: {}
  cgroup_parent:
    description: The cgroup under which the C(RUN) steps run, for builders whose daemon knows it.
    type: str
  allow:
    description: Entitlements, such as V(network.host). They are dangerous on a shared builder.
    type: list
    elements: str
    default: []
  network:
    description: Network of the C(RUN) steps.
    type: str
    choices: [default, none, host]
  call:
    description: V(check) evaluates the Dockerfile's rules and builds nothing (buildx 0.17 or later); findings fail the task.
    type: str
    choices: [build, check]
    default: build
  timeout:
    description: Seconds that a build may take, at most a week (604800).
    type: float
    default: 3600
  registry_timeout:
    description: Seconds that looking up base images and tags may take, each time for all of them together.
    type: float
    default: 30
  insecure_registries:
    description:
      - Registries, as V(HOST) or V(HOST:PORT), that this host may read by plain HTTP or with a certificate that nobody trusts. The loopback's
        always may.
      - The builder has its own list in C(buildkitd.toml).
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - A file on the host with the PEM certificates of further authorities, for reading the registries.
      - The builder has its own in C(buildkitd.toml).
    type: path
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.docker_cli
attributes:
  check_mode:
    details:
      - Predicts from the input digest. A run may find that a build from other inputs made the same manifests, and is then not changed; or that
        the builder cannot get the base images that the registries have, which nobody sees before.
  idempotent:
    support: partial
    details:
      - Fully so with O(push=true) and O(rebuild=auto). Files that O(outputs) writes are not compared.
seealso:
  - module: multiarch.drone.image_platforms_info
"""

EXAMPLES = r"""
- name: Build and push an image for three platforms; do nothing where it is there
  multiarch.drone.buildx_image:
    context: /srv/app
    tags:
      - registry.example.com/team/app:1.4
      - registry.example.com/team/app:latest
    platforms: [linux/amd64, linux/arm64, linux/arm/v7]
    builder: fleet
    push: true
    build_args:
      VERSION: "1.4"
    cache_from: ["type=registry,ref=registry.example.com/team/app:cache"]
    cache_to: ["type=registry,ref=registry.example.com/team/app:cache,mode=max"]
    secrets:
      - id: npm
        value: "{{ npm_token }}"
  register: app

- name: Deploy exactly what was built
  ansible.builtin.debug:
    msg: "registry.example.com/team/app@{{ app.digest }}"

- name: From a Git repository, for consumers that know no attestations
  multiarch.drone.buildx_image:
    context: https://git.example.com/team/app.git#v1.4:docker
    tags: [registry.example.com/team/app:1.4]
    platforms: [amd64, arm64]
    push: true
    provenance: "false"

- name: Renew an image each night, with whatever apt gives now
  multiarch.drone.buildx_image:
    context: /srv/app
    tags: [registry.example.com/team/app:nightly]
    platforms: [amd64, arm64]
    push: true
    rebuild: always
    no_cache: true
    pull: true

- name: Check the Dockerfile only
  multiarch.drone.buildx_image:
    context: /srv/app
    call: check
"""

RETURN = r"""
built:
  description: Whether anything was built.
  returned: success
  type: bool
  sample: true
reasons:
  description: Why it was (in check mode, would be) built.
  returned: with O(push=true)
  type: list
  elements: str
  sample: ["registry.example.com/team/app:1.4 was made from other inputs"]
input_digest:
  description: The digest of everything that the image is made from; empty where that cannot be known before the build.
  returned: with O(push=true)
  type: str
  sample: sha256:9a1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
base_images:
  description:
    - The images that the Dockerfile names, with the digest that each has now. Where the builder took another, it is the one that was
      taken; an image of its engine that has none is left out.
  returned: with O(push=true)
  type: dict
  sample: {"docker.io/library/alpine:3.20": "sha256:1e42bbe2508154c9126d48c2b8a75420c3544343bf86fd041fb7527e017a4b4a"}
digest:
  description: Digest of the image; empty where check mode would build it.
  returned: success, unless O(call=check)
  type: str
  sample: sha256:8d1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
images:
  description:
    - What each registry has for each of O(tags), as RV(multiarch.drone.image_platforms_info#module:images) gives it, with the digest of each platform.
  returned: with O(push=true); in check mode, where nothing would be built
  type: list
  elements: dict
  sample:
    - reference: registry.example.com/team/app:1.4
      digest: sha256:8d1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
      platforms:
        - platform: linux/arm64
          digest: sha256:1b2ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
          size: 1022
metadata:
  description: What buildx says about the build, as its C(--metadata-file) has it.
  returned: where something was built
  type: dict
  sample: {"containerimage.digest": "sha256:8d1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e"}
log:
  description: The last 2000 lines of the build. C(ansible-playbook -v) shows them.
  returned: where something was built, and where a build fails
  type: list
  elements: str
  sample: ["#7 [linux/arm64 2/2] RUN make", "#7 DONE 4.2s"]
steps:
  description: What was (in check mode, would be) done.
  returned: success
  type: list
  elements: str
  sample: ["build and push registry.example.com/team/app:1.4"]
"""

from typing import TYPE_CHECKING, Any

from ..module_utils._arguments import Module
from ..module_utils._buildx.own import maker
from ..module_utils._docker.cli import DOCKER_CLI_OPTIONS, Docker
from ..module_utils._image.build import wish
from ..module_utils._image.declare import pushed, unpushed
from ..module_utils._serve import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS = {"type": "list", "elements": "str", "default": []}
TABLE = {"type": "dict", "default": {}}


def image(module: Module) -> Mapping[str, Any]:
    build = wish(module.params)
    docker = Docker(module.params["docker_cli"])
    pushes = bool(module.params["push"] and build.tags and module.params["call"] == "build")
    made_by = maker(docker, module.params["builder"], pushes=pushes, needs_platform=pushes and not build.platforms)
    if not pushes:
        return unpushed(build, docker, check_mode=module.check_mode)
    result = pushed(build, docker, module.params, made_by, check_mode=module.check_mode)
    for warning in result.pop("warnings"):
        module.warn(warning)
    return result


def main() -> None:
    module = Module(
        argument_spec={
            **DOCKER_CLI_OPTIONS,
            "add_hosts": TABLE,
            "allow": TEXTS,
            "annotations": TABLE,
            "attests": TEXTS,
            "build_args": TABLE,
            "build_contexts": TABLE,
            "builder": {"type": "str"},
            "ca_path": {"type": "path"},
            "cache_from": TEXTS,
            "cache_to": TEXTS,
            "call": {"type": "str", "choices": ["build", "check"], "default": "build"},
            "cgroup_parent": {"type": "str"},
            "context": {"type": "str", "required": True},
            "file": {"type": "str"},
            "insecure_registries": TEXTS,
            "labels": TABLE,
            "load": {"type": "bool", "default": False},
            "network": {"type": "str", "choices": ["default", "none", "host"]},
            "no_cache": {"type": "bool", "default": False},
            "no_cache_filters": TEXTS,
            "outputs": TEXTS,
            "platforms": TEXTS,
            "provenance": {"type": "str"},
            "pull": {"type": "bool", "default": False},
            "push": {"type": "bool", "default": False},
            "rebuild": {"type": "str", "choices": ["auto", "always"], "default": "auto"},
            "registry_timeout": {"type": "float", "default": 30},
            "sbom": {"type": "str"},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,  # only the values are
                "options": {
                    "id": {"type": "str", "required": True},
                    "src": {"type": "path"},
                    "env": {"type": "str"},
                    "value": {"type": "str", "no_log": True},
                },
            },
            "shm_size": {"type": "str"},
            "ssh": TEXTS,
            "tags": TEXTS,
            "target": {"type": "str"},
            "timeout": {"type": "float", "default": 3600},
            "ulimit": TEXTS,
        },
        supports_check_mode=True,
    )
    serve(module, image)


if __name__ == "__main__":
    main()
