#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: image_platforms_info
short_description: Read from a registry which platforms images are for
version_added: 0.1.0
author: "The multiarch.drone authors (@multiarch-drone)"
description:
  - Reads the index (Docker's name is I(manifest list)) of each image and returns the digest and size of every platform,
    with the attestations that BuildKit adds (provenance, SBOM) told apart from what can be executed.
  - Nothing is pulled, and neither Docker nor buildx needs to be there. Many images are read over few connections.
  - The answers are checked against their digests.
options:
  images:
    description:
      - References of images, as C(docker pull) takes them.
      - A reference without a registry is one of Docker Hub, one without a tag or digest means C(latest).
    type: list
    elements: str
    required: true
    aliases: [image]
  require:
    description:
      - Platforms that every image must have, such as V(linux/arm64). The task fails and names those that are missing.
      - V(arm64), V(aarch64), V(armhf) and the like are understood as well, and several in one string, V(arm64,arm).
      - A variant is required exactly. An image for V(linux/arm/v6) does not satisfy V(linux/arm/v7), though it would run there.
    type: list
    elements: str
    default: []
  sizes:
    description:
      - Return the size of each platform's image as RV(images[].platforms[].bytes).
      - It takes one more request for each platform, which counts as a pull where a registry limits these.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that the whole call may take, for all images together and whatever a registry, a name server or a
        credential helper does.
    type: float
    default: 30
  insecure_registries:
    description:
      - Registries, as V(HOST) or V(HOST:PORT), that may speak plain HTTP or show a certificate that nobody trusts.
      - As in Docker, registries on the loopback (C(localhost), C(127.0.0.0/8), C(::1)) always may.
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - A file on the host with the PEM certificates of further authorities that the registries' certificates may come from.
      - What Docker keeps for a registry in C(/etc/docker/certs.d/HOST:PORT) is used as well.
    type: path
extends_documentation_fragment:
  - multiarch.drone.attributes.info
notes:
  - Credentials are Docker's own, of the user who runs the module, from C(config.json) in E(DOCKER_CONFIG) or C(~/.docker), where
    C(docker login) puts them. Credential stores and helpers are executed. C(~/.netrc) is never read, and a redirect to another
    host carries no credentials.
  - E(HTTPS_PROXY), E(HTTP_PROXY) and E(NO_PROXY) are obeyed. Mirrors from Docker's C(daemon.json) are not.
  - Images of Docker's schema 1 (before 2017) are refused.
seealso:
  - module: multiarch.drone.buildx_image
"""

EXAMPLES = r"""
- name: Read what an image is for
  multiarch.drone.image_platforms_info:
    images: [alpine]
  register: alpine

- name: Show it
  ansible.builtin.debug:
    msg: "{{ alpine.images[0].platforms | map(attribute='platform') }}"

- name: Fail where a base image lacks a platform of ours
  multiarch.drone.image_platforms_info:
    images:
      - debian:trixie-slim
      - ghcr.io/example/runtime:1.4
      - registry.example.com:5000/tools@sha256:8d1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
    require: [linux/amd64, linux/arm64, linux/arm/v7]
    ca_path: /etc/ssl/certs/example.pem

- name: Read a test registry, with the login of another user
  multiarch.drone.image_platforms_info:
    images: ["registry.test:5000/app:main"]
    insecure_registries: ["registry.test:5000"]
    timeout: 10
  become: true
  become_user: builder
"""

RETURN = r"""
images:
  description: What the registries say, one entry for each image, in the order of O(images); an image named twice is read once.
  returned: success; on failure, the images that could be read
  type: list
  elements: dict
  contains:
    reference:
      description: The reference as it was given.
      type: str
      sample: alpine
    name:
      description: The reference in full.
      type: str
      sample: docker.io/library/alpine:latest
    digest:
      description: Digest of the index, or of the manifest where the image has no index.
      type: str
      sample: sha256:9a1ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
    media_type:
      description: What the registry keeps. An OCI index, a Docker manifest list, or a single manifest of either kind.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    annotations:
      description: Annotations of the index or manifest.
      type: dict
      sample: {"org.opencontainers.image.version": "1.4"}
    platforms:
      description: What can be executed, one entry for each platform. A single manifest has one, read from its configuration.
      type: list
      elements: dict
      contains:
        platform:
          description: Normalised OCI name.
          type: str
          sample: linux/arm64
        digest:
          description: Digest of this platform's manifest.
          type: str
          sample: sha256:1b2ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
        size:
          description: Bytes of this platform's manifest, which is a list. For the image itself see RV(images[].platforms[].bytes).
          type: int
          sample: 1022
        bytes:
          description:
            - Size of this platform's image in bytes, as a pull transfers it. It is the sum of its configuration and its compressed layers, a
              layer that is listed twice counted once.
            - Null without O(sizes), and where the registry lists the platform and does not have it, as a copy of some platforms may.
          type: int
          sample: 3634744
        media_type:
          description: Kind of this platform's manifest.
          type: str
          sample: application/vnd.oci.image.manifest.v1+json
        os_version:
          description: Version of the operating system, which only images of Windows have.
          type: str
          sample: ""
    attestations:
      description: Provenance and SBOM, which older programs show as C(unknown/unknown).
      type: list
      elements: dict
      contains:
        platform:
          description: Platform that the attestation is about; empty where the image does not have it.
          type: str
          sample: linux/arm64
        attests:
          description: Digest of the manifest that the attestation is about.
          type: str
          sample: sha256:1b2ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
        digest:
          description: Digest of the attestation.
          type: str
          sample: sha256:2c3ae21ba1a53a0bd1f3b5a0f7a6a9e7c8c2a2d0a7b3e5c4d6f8091a2b3c4d5e
        size:
          description: Bytes of the attestation's manifest.
          type: int
          sample: 839
        media_type:
          description: Kind of the attestation's manifest.
          type: str
          sample: application/vnd.oci.image.manifest.v1+json
    others:
      description: What is neither, such as a signature or a Helm chart. C(digest), C(size), C(media_type), C(artifact_type).
      type: list
      elements: dict
      sample: []
missing:
  description: For each image that lacks a platform of O(require), by its reference, those that it lacks.
  returned: failure for a missing platform
  type: dict
  sample: {"debian:trixie-slim": ["linux/mips64"]}
"""

from ..module_utils._arguments import Module
from ..module_utils._image.info import read
from ..module_utils._serve import serve


def main() -> None:
    module = Module(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True, "aliases": ["image"]},
            "require": {"type": "list", "elements": "str", "default": []},
            "sizes": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 30},
            "insecure_registries": {"type": "list", "elements": "str", "default": []},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    serve(module, read)


if __name__ == "__main__":
    main()
