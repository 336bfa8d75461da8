#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Declare the BuildKit daemons of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildkitd_instances
short_description: Declare the BuildKit daemons of a host
version_added: 0.1.0
description:
  - Makes each instance a systemd service C(buildkitd@NAME.service) with a configuration, a socket, certificates and a cache of
    its own.
  - B(One instance is one trust domain.) BuildKit knows no users. Whoever may connect to a daemon, with a certificate or through
    the group of its socket, shares its cache, its cache mounts, its build history and its C(prune) with everybody else who may.
  - A daemon is restarted only where its unit, its configuration, its certificates or its program changed, or where it does not
    answer. It must then answer C(buildctl debug workers), over its port with mutual TLS where O(instances[].tls.probe_cert) is
    given, and refuse a client without a certificate. Where it does not, the old files are put back and it runs as before.
  - A restart ends the builds that run. It keeps the cache.
  - Build steps use the host's network unless the configuration has C(worker.oci.networkMode) say otherwise, as BuildKit does
    where it runs on a host.
extends_documentation_fragment:
  - multiarch.drone.attributes
options:
  state:
    description:
      - V(present) makes the O(instances), V(absent) removes them.
    type: str
    choices: [present, absent]
    default: present
  instances:
    description: The daemons.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the instance, up to 22 of C(a-z), C(0-9) and C(-).
        type: str
        required: true
      port:
        description: The TCP port for clients with certificates. Without it, there is the socket alone.
        type: int
      address:
        description: The IP address that the port listens on.
        type: str
        default: 0.0.0.0
      group:
        description:
          - The group whose members may use the socket C(/run/buildkit/NAME/buildkitd.sock). With O(instances[].rootless=true) the
            default is the group of its user.
        type: str
      tls:
        description: The certificates, as the contents of PEM files. Needed with O(instances[].port).
        type: dict
        suboptions:
          ca:
            description: The authority whose clients are served. One for each trust domain, or the domains are one.
            type: str
          cert:
            description: The certificate of the daemon.
            type: str
          key:
            description: The private key of the daemon.
            type: str
          server_name:
            description: A name that the certificate is for.
            type: str
            default: localhost
          probe_cert:
            description: The certificate of a client with which the daemon is tried. It is not kept on the host.
            type: str
          probe_key:
            description: The private key of the client whose certificate is O(instances[].tls.probe_cert).
            type: str
      config:
        description:
          - Settings of C(buildkitd.toml) as a dictionary.
          - What follows from other options (C(root), C(grpc), C(insecure-entitlements), C(worker.oci.rootless), C(worker.containerd))
            is refused here.
        type: dict
        default: {}
      gc:
        description:
          - How much the cache may hold, in BuildKit's words. C(reservedSpace) is always kept, C(maxUsedSpace) is the cap,
            C(minFreeSpace) is left to the rest of the disk. C(config.worker.oci) wins over it.
        type: dict
        default: {}
      root:
        description: The directory of the cache. The default is C(/var/lib/buildkit/NAME).
        type: path
      rootless:
        description: Whether the daemon runs as a user of its own, with C(rootlesskit) and C(slirp4netns).
        type: bool
        default: false
      user:
        description: The user of a rootless daemon, made where it is missing. The default is C(buildkit-NAME).
        type: str
      insecure_entitlements:
        description: What builds may ask for that reaches beyond their sandbox.
        type: list
        elements: str
        choices: [network.host, security.insecure, device]
        default: []
      environment:
        description: Variables of the daemon, such as C(HTTPS_PROXY). The file is readable by root alone.
        type: dict
        default: {}
  programs:
    description: The directory of C(buildkitd), C(buildctl) and, unless it is elsewhere in the path, C(buildkit-runc) or C(runc).
    type: path
    default: /usr/bin
  versions:
    description:
      - A directory in which O(programs) lies beside those of other versions, each in a directory of its own.
      - Those that no daemon runs any more are removed in the end.
    type: path
  exclusive:
    description: Whether daemons that this module made before and that are not listed are removed.
    type: bool
    default: false
  keep_cache:
    description: Whether the cache of a daemon that is removed stays in C(/var/lib/buildkit).
    type: bool
    default: true
requirements:
  - systemd
  - C(rootlesskit), C(slirp4netns), C(uidmap) for rootless daemons.
author:
  - The multiarch.drone authors (@multiarch-drone)
seealso:
  - name: buildkitd.toml
    description: The settings of a daemon.
    link: https://docs.docker.com/build/buildkit/toml-configuration/
"""

EXAMPLES = r"""
- name: One daemon for two teams that do not trust each other would be one too few
  multiarch.drone.buildkitd_instances:
    instances:
      - name: payments
        port: 1234
        tls:
          ca: "{{ lookup('ansible.builtin.file', 'pki/payments/ca.pem') }}"
          cert: "{{ lookup('ansible.builtin.file', 'pki/payments/cert.pem') }}"
          key: "{{ lookup('ansible.builtin.file', 'pki/payments/key.pem') }}"
        gc:
          maxUsedSpace: 40GB
        config:
          registry:
            docker.io:
              mirrors: [mirror.example.com]
      - name: website
        group: website
        rootless: true
    exclusive: true

- name: No daemons, and none of what they cached
  multiarch.drone.buildkitd_instances:
    exclusive: true
    keep_cache: false
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["payments: write buildkitd.toml, environment", "payments: restart buildkitd@payments.service"]
results:
  description: Each daemon that was touched, with C(changed), C(steps), and C(msg) where it failed.
  returned: always
  type: list
  elements: dict
unchanged:
  description: The daemons that were as declared.
  returned: always
  type: list
  elements: str
native:
  description: The platforms that the host's CPU runs itself, which is what a node of a builder declares.
  returned: success
  type: list
  elements: str
  sample: [linux/arm64]
daemons:
  description: The declared daemons. In check mode as they are now.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the instance.
      type: str
    socket:
      description: Its endpoint on this host.
      type: str
      sample: unix:///run/buildkit/payments/buildkitd.sock
    port:
      description: Its TCP port, 0 for none.
      type: int
    root:
      description: The directory of its cache.
      type: str
    version:
      description: The version that runs.
      type: str
      sample: v0.34.2
    platforms:
      description: What it builds for, natively or with the kernel's QEMU handlers.
      type: list
      elements: str
"""

from ..module_utils._arguments import Module
from ..module_utils._buildkitd.declare import work
from ..module_utils._buildkitd.wish import ARGUMENTS, environments
from ..module_utils._serve import serve


def main() -> None:
    module = Module(argument_spec=dict(ARGUMENTS), find_secrets=environments, supports_check_mode=True)
    serve(module, work)


if __name__ == "__main__":
    main()
